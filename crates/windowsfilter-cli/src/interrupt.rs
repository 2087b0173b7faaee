//! Ctrl-C and its like: the command ends, and nothing of it is left.
//!
//! The first SIGINT, SIGTERM or SIGHUP cancels what the store is doing (`windowsfilter::Cancel`): streams
//! fail, waiting ends, and every step undoes what it did, as after any other error. Then the process dies of
//! that signal, so that a shell that runs it in a loop ends too. A second signal ends it at once; so does the
//! first, once there is nothing to undo any more. A signal that our parent ignores, as `nohup` does, stays
//! ignored.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use windowsfilter::Cancel;

use crate::stderr::{Report, Stderr};

/// When a user who pressed Ctrl-C begins to wonder.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether there is nothing to undo any more.
static FINISHED: AtomicBool = AtomicBool::new(false);
/// The first signal that came.
static RECEIVED: OnceLock<i32> = OnceLock::new();

/// Lets signals cancel what the store with this `cancel` does, and tells the user on `stderr`.
pub(crate) fn watch(cancel: &Cancel, stderr: Stderr) {
    let cancel = cancel.clone();
    if let Err(error) = system::listen(move |signal| received(signal, &cancel, stderr)) {
        tracing::debug!(
            "an interrupt ends this at once, and leaves what `windowsfilter cleanup` removes: {error}"
        );
    }
}

/// From now on there is nothing to undo: only printing is left.
pub(crate) fn finished() {
    FINISHED.store(true, Ordering::SeqCst);
}

/// Ends the process as the signal does that came, if one has come. Called when everything is undone.
pub(crate) fn die_if_received() {
    if let Some(&signal) = RECEIVED.get() {
        system::die(signal);
    }
}

/// The exit code that a shell shows for this process once it has died of the signal that came.
pub(crate) fn exit_code() -> Option<i32> {
    RECEIVED.get().map(|&signal| system::exit_code(signal))
}

fn received(signal: i32, cancel: &Cancel, stderr: Stderr) {
    let is_first = RECEIVED.set(signal).is_ok();
    if FINISHED.load(Ordering::SeqCst) {
        system::die(signal);
    }
    if !is_first {
        stderr.report(&Report {
            error: "ended at once; `windowsfilter cleanup` removes what is left".into(),
            causes: Vec::new(),
            hint: None,
            code: system::exit_code(signal),
        });
        system::die(signal);
    }
    cancel.cancel();
    // Most commands are done by then.
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        stderr.note(
            "undoing the work so far; a second Ctrl-C ends at once, and `windowsfilter cleanup` removes the rest",
        );
    });
}

#[cfg(unix)]
mod system {
    use std::io;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    /// Calls `handle` on a thread of its own for every signal that ends us and that is not ignored.
    pub(super) fn listen(mut handle: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
        let ignored = ignored();
        let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let mut signals = Signals::new(wanted)?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            signals.forever().for_each(&mut handle);
        })?;
        Ok(())
    }

    /// The signals that our parent told us to ignore, a bit each: `SigIgn` of proc_pid_status(5).
    fn ignored() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    }

    /// Dies of `signal`.
    pub(super) fn die(signal: i32) -> ! {
        _ = signal_hook::low_level::emulate_default_handler(signal);
        // Not reached: the default of each of these signals is death.
        std::process::exit(exit_code(signal))
    }

    /// What shells show: 130, 143 and 129.
    pub(super) fn exit_code(signal: i32) -> i32 {
        128 + signal
    }
}

#[cfg(windows)]
mod system {
    use std::io;

    /// STATUS_CONTROL_C_EXIT
    const CONTROL_C_EXIT: i32 = 0xC000_013A_u32 as i32;

    /// Calls `handle` on a thread of its own for every Ctrl-C and Ctrl-Break.
    pub(super) fn listen(mut handle: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
        ctrlc::set_handler(move || handle(CONTROL_C_EXIT)).map_err(io::Error::other)
    }

    /// Ends as Ctrl-C ends programs.
    pub(super) fn die(code: i32) -> ! {
        std::process::exit(code)
    }

    pub(super) fn exit_code(code: i32) -> i32 {
        code
    }
}
