//! Daemons that run until they are stopped or killed, and waits for conditions instead of times.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use programs::error::{Error, IoContext, Result};
use programs::process::{output, shown};

/// Timeout for anything that takes moments on an idle machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Calls `ask` until it has an answer, at most for `patience`; returns as soon as there is one.
///
/// # Errors
/// [`Error::Unexpected`] at the timeout, with the last reason; other errors of `ask` at once.
pub fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Result<Answer<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask()? {
            Answer::Is(answer) => return Ok(answer),
            Answer::NotYet(reason) if Instant::now() > deadline => {
                return Err(Error::Unexpected(format!("{what}: not within {patience:?}: {reason}")));
            }
            Answer::NotYet(_) => std::thread::sleep(POLL),
        }
    }
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub enum Answer<T> {
    /// The awaited value.
    Is(T),
    /// Ask again; with the reason.
    NotYet(String),
}

/// Waits for a child's exit status; kills a child that runs longer than `patience`.
///
/// # Errors
/// [`Error::Unexpected`] if it runs longer.
pub fn end_of(child: &mut Child, name: &str, patience: Duration) -> Result<ExitStatus> {
    let ended = wait_for(&format!("end of {name}"), patience, || {
        let status = child.try_wait().at(name)?;
        Ok(status.map_or_else(|| Answer::NotYet("it is still running".into()), Answer::Is))
    });
    if ended.is_err() {
        _ = child.kill();
        _ = child.wait();
    }
    ended
}

/// A daemon and its log. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; its output is appended to the file `log`.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log).at(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone().at(log)?).stderr(out);
        let child = command.spawn().map_err(|source| Error::Start { program: shown(command), source })?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Waits until `ready`, called with the log, returns an answer.
    ///
    /// # Errors
    /// If the daemon exits instead; the error has its log.
    pub fn wait_until<T>(&mut self, mut ready: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let (name, log) = (self.name, &self.log);
        let child = &mut self.child;
        wait_for(&format!("start of {name}"), DEADLINE, || {
            let text = String::from_utf8_lossy(&fs::read(log).at(log)?).into_owned();
            if let Some(status) = child.try_wait().at(name)? {
                return Err(Error::Unexpected(format!("{name} ended with {status}:\n{text}")));
            }
            Ok(ready(&text).map_or(Answer::NotYet(text), Answer::Is))
        })
    }

    /// Asks it to stop, and waits for its end.
    ///
    /// # Errors
    /// If it does not exit, or fails.
    pub fn stop(mut self) -> Result<()> {
        output(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let status = end_of(&mut self.child, self.name, DEADLINE)?;
        if status.success() {
            return Ok(());
        }
        let log = String::from_utf8_lossy(&fs::read(&self.log).at(&self.log)?).into_owned();
        Err(Error::Unexpected(format!("{} ended with {status} after SIGTERM:\n{log}", self.name)))
    }

    /// Kills it with SIGKILL, like the kernel's OOM killer.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().at(self.name)?;
        end_of(&mut self.child, self.name, DEADLINE).map(drop)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_ends_instead_of_starting_is_quoted() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing; exit 7"]);
        let mut daemon = Daemon::start("sh", &mut command, log.path()).unwrap();
        let error = daemon.wait_until(|_| None::<()>).unwrap_err().to_string();
        assert!(error.contains("exit status: 7") && error.contains("no such thing"), "{error}");
    }

    #[test]
    fn a_daemon_is_stopped_by_asking_it() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done"]);
        let mut daemon = Daemon::start("sh", &mut command, log.path()).unwrap();
        daemon.wait_until(|log| log.contains("ready").then_some(())).unwrap();
        daemon.stop().unwrap();
    }
}
