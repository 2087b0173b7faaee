//! Programs that run to their end: how they ended and what they printed.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use testbed::containerd::daemon::{DEADLINE, end_of};

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub command: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    /// What it printed, if it succeeded.
    ///
    /// # Panics
    /// If it failed.
    pub fn success(self) -> Vec<u8> {
        assert!(self.status.success(), "{}: {}\n{}", self.command, self.status, self.text());
        self.stdout
    }

    /// What it printed on both outputs, if it failed.
    ///
    /// # Panics
    /// If it succeeded.
    pub fn failure(self) -> String {
        assert!(!self.status.success(), "{} succeeded\n{}", self.command, self.text());
        self.text()
    }

    fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }
}

/// A program that has been started.
pub struct Running {
    command: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Starts it. What it prints goes to files without names, so that nobody has to read while it runs.
    pub fn start(command: &mut Command) -> Self {
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdin(Stdio::null()).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let text = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {text}: {error}"));
        Self { command: text, child, stdout, stderr }
    }

    /// Waits for its end.
    pub fn end(self) -> Ended {
        self.end_within(DEADLINE)
    }

    /// Waits for its end, which may take a while.
    pub fn end_within(mut self, patience: Duration) -> Ended {
        let status = end_of(&mut self.child, &self.command, patience).unwrap();
        let stderr = String::from_utf8_lossy(&content(&mut self.stderr)).into_owned();
        Ended { command: self.command, status, stdout: content(&mut self.stdout), stderr }
    }
}

fn content(file: &mut File) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ended {
    Running::start(command).end()
}
