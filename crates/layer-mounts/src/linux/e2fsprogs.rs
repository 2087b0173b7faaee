//! Runs the programs that make, grow and check ext4, and reports their errors.

use super::error::LinuxError;
use crate::Cancel;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The package that has these programs.
const PACKAGE: &str = "e2fsprogs";

/// A program of [`PACKAGE`] applied to an image.
pub(super) struct Tool<'a> {
    pub(super) name: &'static str,
    pub(super) image: &'a Path,
    /// The path to name in errors: that of the image, if this is a copy of it.
    pub(super) subject: &'a Path,
    pub(super) arguments: Vec<PathBuf>,
}

impl<'a> Tool<'a> {
    pub(super) fn new(name: &'static str, image: &'a Path) -> Self {
        Self { name, image, subject: image, arguments: Vec::new() }
    }

    pub(super) fn arguments(&mut self, arguments: &[&str]) -> &mut Self {
        self.arguments.extend(arguments.iter().map(PathBuf::from));
        self
    }

    pub(super) fn path(&mut self, path: &Path) -> &mut Self {
        self.arguments.push(path.to_path_buf());
        self
    }

    /// Runs it. An exit status that is not among `good` is an error with the program's output. `cancel` kills
    /// it.
    pub(super) fn run(&self, good: &[i32], cancel: &Cancel) -> Result<(), LinuxError> {
        let output = self.complete(cancel)?;
        let succeeded = output.status.code().is_some_and(|code| good.contains(&code));
        if succeeded { Ok(()) } else { Err(self.failed(&output)) }
    }

    pub(super) fn complete(&self, cancel: &Cancel) -> Result<Output, LinuxError> {
        self.output(cancel).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LinuxError::ToolMissing { tool: self.name, package: PACKAGE, source },
            _ => LinuxError::system("execve", Path::new(self.name))(source),
        })
    }

    pub(super) fn failed(&self, output: &Output) -> LinuxError {
        LinuxError::ToolFailed {
            tool: self.name,
            path: self.subject.to_path_buf(),
            status: output.status,
            stderr: self.said(output),
        }
    }

    /// The program's output: first the reason why it gave up, then the faults it found, without its version.
    fn said(&self, output: &Output) -> String {
        let is_version = |line: &&str| {
            let rest = line.strip_prefix(self.name).and_then(|rest| rest.strip_prefix(' '));
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let reasons = stderr.lines().filter(|line| !is_version(line));
        reasons.chain(stdout.lines()).collect::<Vec<_>>().join("\n")
    }

    /// Runs the program in the image's directory with the image's file name: in a path these programs take
    /// `?` for the start of options, and `=` for that of a label.
    ///
    /// Also searches the directories for administrators, which many users' `PATH` lacks.
    fn output(&self, cancel: &Cancel) -> io::Result<Output> {
        let names =
            [self.name.to_string(), format!("/usr/sbin/{}", self.name), format!("/sbin/{}", self.name)];
        let (folder, image) = match (self.image.parent(), self.image.file_name()) {
            (Some(folder), Some(name)) => (folder, Path::new(".").join(name)),
            _ => (Path::new("/"), self.image.to_path_buf()),
        };
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for name in names {
            let mut command = Command::new(name);
            command.args(&self.arguments).arg(&image).current_dir(folder);
            // A fixed language, because people search for the messages in our errors.
            command.env("LC_ALL", "C");
            result = output_of(command, cancel);
            if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                break;
            }
        }
        result
    }
}

/// Runs `command` to its end, or kills it. It does not get the signals that a terminal sends to all of its
/// programs: we decide when it ends.
fn output_of(mut command: Command, cancel: &Cancel) -> io::Result<Output> {
    cancel.check()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn()?;
    let process = Pid::from_child(&child);
    // Refers to this process even if its number is reused.
    let process = pidfd_open(process, PidfdFlags::empty());
    let (send, receive) = crossbeam_channel::bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(move || send.send(child.wait_with_output()));
        let received = cancel.receive(&receive);
        if received.is_err()
            && let Ok(process) = &process
        {
            pidfd_send_signal(process, Signal::KILL)?;
        }
        received?.unwrap_or_else(|| Err(io::Error::other("the thread that waited for it has panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_cancelled_is_killed() {
        let cancel = Cancel::default();
        let mut command = Command::new("sleep");
        command.arg("1000");
        std::thread::scope(|scope| {
            let running = scope.spawn(|| output_of(command, &cancel));
            cancel.cancel();
            assert!(crate::is_cancelled(&running.join().unwrap().unwrap_err()));
        });
        let mut command = Command::new("echo");
        command.arg("done");
        assert_eq!(output_of(command, &Cancel::default()).unwrap().stdout, b"done\n");
    }
}
