//! Why a task failed. A task runs other programs and writes files, so every variant names the program or the
//! path.

use std::path::{Path, PathBuf};

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program could not be started.
    #[error("cannot run {program:?}")]
    Start {
        /// The program's name, as given.
        program: String,
        /// Why it could not be started.
        source: std::io::Error,
    },
    /// A program ended with a failure.
    #[error("{command} failed: {status}{output}")]
    Failed {
        /// The whole command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed, on a line of its own; empty when it printed to the terminal.
        output: String,
    },
    /// Reading or writing a path failed.
    #[error("{}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// This machine or repository lacks something.
    #[error("{0}")]
    Missing(String),
    /// A result that does not meet the task's requirements.
    #[error("{0}")]
    Unexpected(String),
    /// Unexpected JSON from another program or an earlier run.
    #[error("{what}")]
    Json {
        /// The source of the JSON.
        what: String,
        /// The parser's error.
        source: serde_json::Error,
    },
}

/// The result of a task.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the path to an I/O error.
pub trait IoContext<T> {
    /// Turns an I/O error into [`Error::Io`] for `path`.
    ///
    /// # Errors
    /// The error it was called on.
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.as_ref().to_owned(), source })
    }
}

/// The error and its causes in one line, as `main` prints it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
