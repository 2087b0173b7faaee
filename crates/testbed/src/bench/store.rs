//! The tool under test, on a store of its own.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use programs::error::{Error, IoContext, Result};
use programs::mounts::unmount_below;
use programs::process::{output, shown};

/// A store and the binary that works on it.
pub struct Store {
    binary: PathBuf,
    root: PathBuf,
}

impl Store {
    /// A store at `root`; creates nothing yet.
    #[must_use]
    pub fn new(binary: &Path, root: PathBuf) -> Self {
        Self { binary: binary.to_owned(), root }
    }

    /// Its path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The tool with these arguments.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--quiet").arg("--root").arg(&self.root).args(args);
        command
    }

    /// Runs it.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, args: &[&str]) -> Result<()> {
        output(&mut self.command(args)).map(drop)
    }

    /// Runs it with `--json`.
    ///
    /// # Errors
    /// If it fails or prints no JSON.
    pub fn ask(&self, args: &[&str]) -> Result<Value> {
        let mut command = self.command(&[]);
        command.arg("--json").args(args);
        let text = output(&mut command)?;
        serde_json::from_str(&text).map_err(|source| Error::Json { what: shown(&command), source })
    }

    /// Imports the image at `path` as `reference` and returns its top layer.
    ///
    /// # Errors
    /// If the import fails.
    pub fn import(&self, path: &Path, reference: &str) -> Result<String> {
        let answer = self.ask(&["image", "import", &path.to_string_lossy(), "--ref", reference])?;
        text(&answer, "top")
    }

    /// Mounts and returns the view's path.
    ///
    /// # Errors
    /// If mounting fails.
    pub fn mount(&self, what: &str) -> Result<PathBuf> {
        text(&self.ask(&["mount", what])?, "path").map(PathBuf::from)
    }

    /// The directory of layer `id`.
    #[must_use]
    pub fn layer(&self, id: &str) -> PathBuf {
        self.root.join("layers").join(id)
    }

    /// Unmounts and deletes the store.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn delete(&self) -> Result<()> {
        unmount_below(&self.root);
        loop {
            match std::fs::remove_dir_all(&self.root) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound && !self.root.exists() => return Ok(()),
                // The tool may still be deleting its last removals.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
                Err(error) => return Err(error).at(&self.root),
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A failed benchmark must not leave mounts behind; the directory is removed with the area.
        unmount_below(&self.root);
    }
}

fn text(value: &Value, field: &str) -> Result<String> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Error::Unexpected(format!("no text {field:?} in {value}")))
}
