//! The programs that make, grow and check ext4, and what they say when they fail.

use super::error::LinuxError;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The package of the programs used here.
const PACKAGE: &str = "e2fsprogs";

/// A program of [`PACKAGE`] applied to an image.
pub(super) struct Tool<'a> {
    pub(super) name: &'static str,
    pub(super) image: &'a Path,
    /// What errors are about: the image, if this is a copy of it.
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

    /// Runs it; an exit status that is not among `good` is an error with what the program wrote.
    pub(super) fn run(&self, good: &[i32]) -> Result<(), LinuxError> {
        let output = self.complete()?;
        let succeeded = output.status.code().is_some_and(|code| good.contains(&code));
        if succeeded { Ok(()) } else { Err(self.failed(&output)) }
    }

    pub(super) fn complete(&self) -> Result<Output, LinuxError> {
        self.output().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LinuxError::ToolMissing { tool: self.name, package: PACKAGE, source },
            _ => LinuxError::system("execve", Path::new(self.name))(source),
        })
    }

    pub(super) fn failed(&self, output: &Output) -> LinuxError {
        LinuxError::ToolFailed {
            tool: self.name,
            path: self.subject.to_path_buf(),
            status: output.status,
            stderr: String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned(),
        }
    }

    /// Looks in the places for administrators too, which many users' `PATH` does not name.
    fn output(&self) -> io::Result<Output> {
        let names =
            [self.name.to_string(), format!("/usr/sbin/{}", self.name), format!("/sbin/{}", self.name)];
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for name in names {
            // Fixed language: the messages end up in an error that people search for.
            result = Command::new(name).args(&self.arguments).arg(self.image).env("LC_ALL", "C").output();
            if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
                break;
            }
        }
        result
    }
}
