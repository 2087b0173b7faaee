//! Runs a program and all its children under `ptrace(2)`, and injects a fault at the N-th call that changes
//! something.
//!
//! Calls are counted over all threads and processes together, in the order in which they begin; `strace
//! --inject` counts per thread, so a point in one thread hides the same point in another. This needs no
//! signal handler and no fork of our own: a shell stops itself, is seized, continues and starts the
//! program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls;
use programs::error::{Error, IoContext, Result};

/// The fault at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// Kills everything before the call, like a crash of the machine.
    Kill,
    /// Kills only the calling process; its parents and children go on.
    KillOne,
    /// The call fails: the disk is full.
    Enospc,
    /// The call fails: the disk is broken.
    Eio,
    /// The call fails: a signal came.
    Eintr,
    /// The call fails: too many open files.
    Emfile,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 6] =
        [Self::Kill, Self::KillOne, Self::Enospc, Self::Eio, Self::Eintr, Self::Emfile];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillOne => "kill-one",
            Self::Enospc => "enospc",
            Self::Eio => "eio",
            Self::Eintr => "eintr",
            Self::Emfile => "emfile",
        }
    }

    fn errno(self) -> Option<Errno> {
        match self {
            Self::Kill | Self::KillOne => None,
            Self::Enospc => Some(Errno::ENOSPC),
            Self::Eio => Some(Errno::EIO),
            Self::Eintr => Some(Errno::EINTR),
            Self::Emfile => Some(Errno::EMFILE),
        }
    }

    /// Whether the program goes on and can clean up after itself.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.errno().is_some()
    }
}

/// A call that changes something, as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// The calling program.
    pub program: String,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Exit code of the program itself; `None` if it was killed.
    pub code: Option<i32>,
    /// All calls that changed something, in order.
    pub calls: Vec<Call>,
    /// The struck call, if the run came that far.
    pub struck: Option<Call>,
}

/// `PTRACE_SYSCALL_INFO_ENTRY` and `_EXIT` of `linux/ptrace.h`.
const ENTRY: u8 = 1;
const EXIT: u8 = 2;
/// Longest duration of a run.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Called after each call, with whether it succeeded; the calling thread, and others that make calls, wait
/// meanwhile.
pub type Observer<'a> = &'a mut dyn FnMut(&Call, bool) -> Result<()>;

/// Runs `command` and all its children to their end, with `fault` at the `point`-th call (from 0). Output
/// goes to `log`.
///
/// # Errors
/// If it cannot be started or traced, or takes longer than a minute.
pub fn run(
    command: &[String],
    log: &Path,
    fault: Option<(usize, Fault)>,
    observer: Option<Observer<'_>>,
) -> Result<Traced> {
    let main = start(command, log)?;
    let (done, watched) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = watched.recv_timeout(TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout);
        // A killed leader may leave hanging children; they show as mounts and locks that stay.
        late && kill(main, Signal::SIGKILL).is_ok()
    });
    let mut tracer = Tracer {
        main,
        threads: BTreeMap::from([(main, Thread::default())]),
        fault,
        observer,
        result: Traced { code: None, calls: Vec::new(), struck: None },
    };
    let result = tracer.follow();
    drop(done);
    let late = watchdog.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    if result.is_err() {
        tracer.kill_all();
    }
    result.map_err(|source| failed(command, source))??;
    if late {
        return Err(Error::Unexpected(format!("{} took longer than {TIMEOUT:?}", command.join(" "))));
    }
    Ok(tracer.result)
}

fn failed(command: &[String], source: Errno) -> Error {
    Error::Start { program: format!("{} under ptrace", command.join(" ")), source: source.into() }
}

/// Starts the program stopped and seizes it.
fn start(command: &[String], log: &Path) -> Result<Pid> {
    let out = File::create(log).at(log)?;
    let error = out.try_clone().at(log)?;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"kill -STOP $$; exec "$@""#, "sh"]).args(command);
    // The tracer's loop reaps the process, not the handle.
    let child = shell
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(error)
        .spawn()
        .map_err(|source| Error::Start { program: command.join(" "), source })?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    waitpid(pid, Some(WaitPidFlag::WUNTRACED))
        .and_then(|_| ptrace::seize(pid, options))
        .and_then(|()| kill(pid, Signal::SIGCONT))
        .map_err(|source| failed(command, source))?;
    Ok(pid)
}

/// The state of a thread.
#[derive(Default)]
struct Thread {
    /// The call it is in, if that changes something, and the error to return.
    inside: Option<(Call, Option<Errno>)>,
}

struct Tracer<'a> {
    main: Pid,
    threads: BTreeMap<Pid, Thread>,
    fault: Option<(usize, Fault)>,
    observer: Option<Observer<'a>>,
    result: Traced,
}

impl Tracer<'_> {
    /// Runs until all traced processes have ended.
    fn follow(&mut self) -> nix::Result<Result<()>> {
        loop {
            // Only this thread's tracees: other threads trace programs of their own.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = match waitpid(None, Some(flags)) {
                Err(Errno::ECHILD) => return Ok(Ok(())),
                Err(Errno::EINTR) => continue,
                status => status?,
            };
            let stepped = match status {
                WaitStatus::Exited(pid, code) => {
                    self.ended(pid, Some(code));
                    continue;
                }
                WaitStatus::Signaled(pid, ..) => {
                    self.ended(pid, None);
                    continue;
                }
                WaitStatus::PtraceSyscall(pid) => self.at_call(pid),
                WaitStatus::Stopped(pid, signal) => resume(pid, Some(signal)).map(Ok),
                WaitStatus::PtraceEvent(pid, ..) => {
                    self.threads.entry(pid).or_default();
                    resume(pid, None).map(Ok)
                }
                _ => continue,
            };
            match stepped {
                // Killed by another process in the meantime; its end will be reported.
                Err(Errno::ESRCH) => {}
                Err(error) => return Err(error),
                Ok(Err(error)) => return Ok(Err(error)),
                Ok(Ok(())) => {}
            }
        }
    }

    fn ended(&mut self, pid: Pid, code: Option<i32>) {
        self.threads.remove(&pid);
        if pid == self.main {
            self.result.code = code;
        }
    }

    fn at_call(&mut self, pid: Pid) -> nix::Result<Result<()>> {
        match ptrace::syscall_info(pid)?.op {
            ENTRY => self.enter(pid).map(Ok),
            EXIT => self.leave(pid),
            _ => resume(pid, None).map(Ok),
        }
    }

    fn enter(&mut self, pid: Pid) -> nix::Result<()> {
        let mut registers = ptrace::getregs(pid)?;
        let arguments = [registers.rdi, registers.rsi, registers.rdx];
        let Some(name) = calls::changing(registers.orig_rax, arguments) else { return resume(pid, None) };
        let call = Call { name, program: program(pid) };
        let number = self.result.calls.len();
        self.result.calls.push(call.clone());
        let fault = self.fault.filter(|(point, _)| *point == number).map(|(_, fault)| fault);
        let mut error = None;
        if let Some(fault) = fault {
            self.result.struck = Some(call.clone());
            match fault {
                Fault::Kill => {
                    self.kill_all();
                    return Ok(());
                }
                Fault::KillOne => return kill(pid, Signal::SIGKILL),
                _ => error = fault.errno(),
            }
            // An invalid call number: the kernel does nothing, and the result is replaced on return.
            registers.orig_rax = u64::MAX;
            ptrace::setregs(pid, registers)?;
        }
        self.threads.entry(pid).or_default().inside = Some((call, error));
        resume(pid, None)
    }

    fn leave(&mut self, pid: Pid) -> nix::Result<Result<()>> {
        let Some((call, error)) = self.threads.entry(pid).or_default().inside.take() else {
            return resume(pid, None).map(Ok);
        };
        let mut registers = ptrace::getregs(pid)?;
        if let Some(error) = error {
            registers.rax = i64::from(-(error as i32)).cast_unsigned();
            ptrace::setregs(pid, registers)?;
        }
        if let Some(observer) = &mut self.observer {
            let failed = registers.rax.cast_signed() < 0;
            if let Err(error) = observer(&call, !failed) {
                return Ok(Err(error));
            }
        }
        resume(pid, None).map(Ok)
    }

    fn kill_all(&mut self) {
        for pid in self.threads.keys().copied().collect::<BTreeSet<_>>() {
            // It may have ended already.
            _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn resume(pid: Pid, signal: Option<Signal>) -> nix::Result<()> {
    ptrace::syscall(pid, signal)
}

/// The file name of the program that a process runs.
fn program(pid: Pid) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    link.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
