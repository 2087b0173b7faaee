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
        /// Program as it was looked up.
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
        /// What was read or written.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something this machine or this repository lacks.
    #[error("{0}")]
    Missing(String),
    /// A result that is not what the task demands.
    #[error("{0}")]
    Unexpected(String),
    /// JSON that another program or an earlier run wrote is not what was agreed on.
    #[error("{what}")]
    Json {
        /// Where the JSON came from.
        what: String,
        /// What is wrong with it.
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
