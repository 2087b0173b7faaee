//! Files that are being written before they enter the store, and cleanup after a process that died.
//!
//! All of them are in `<root>/tmp`, on the store's file system, so that a rename publishes them. A process
//! with a file there holds a shared lock on `<root>/tmp.lock`; the sweep takes the lock exclusively, so every
//! file it finds then is abandoned. A file that needs no name has none ([`Temporaries::anonymous`]) and
//! disappears with its process.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use layer_mounts::remove_any;
use tempfile::{NamedTempFile, TempDir};

use crate::cancel::Cancel;
use crate::durable::{read_file, remove_file, sync_name};
use crate::error::{Error, IoContext};
use crate::lock::{self, Lock};
use crate::scanners;

/// The directory of temporary files.
#[derive(Clone, Debug)]
pub(crate) struct Temporaries {
    dir: PathBuf,
    cancel: Cancel,
}

/// A file that is not published yet. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Temporary {
    // In this order: the file is removed before the lock is released.
    file: NamedTempFile,
    _lock: Lock,
}

/// A large file for the store, invisible until [`Self::persist`] gives it its name. Dropping it removes it.
#[derive(Debug)]
pub struct NewFile(pub(crate) Temporary);

impl NewFile {
    /// Syncs the file, then renames it to `path`, replacing a file there.
    ///
    /// # Errors
    /// When it cannot be synced or renamed; the file is then removed.
    pub fn persist(self, path: &Path) -> Result<(), Error> {
        self.0.persist(path).map(drop)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.as_file_mut().flush()
    }
}

/// A directory that is not published yet. Dropping it removes it with everything in it.
#[derive(Debug)]
pub(crate) struct TemporaryDirectory {
    // In this order: the directory is removed before the lock is released.
    dir: TempDir,
    _lock: Lock,
}

impl TemporaryDirectory {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the directory; the caller removes it.
    pub(crate) fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

impl Temporaries {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, cancel: Cancel::default() }
    }

    /// Lets `cancel` end every wait.
    pub(crate) fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The [`Cancel`] that ends the work that these files are made for.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    #[cfg(test)]
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn lock_path(&self) -> PathBuf {
        lock::beside(&self.dir)
    }

    /// A new, empty file.
    pub(crate) fn file(&self) -> Result<Temporary, Error> {
        let lock = lock::shared(&self.lock_path(), &self.cancel)?;
        let file = NamedTempFile::new_in(&self.dir).at("create a temporary file in", &self.dir)?;
        Ok(Temporary { file, _lock: lock })
    }

    /// A new, empty directory.
    pub(crate) fn directory(&self) -> Result<TemporaryDirectory, Error> {
        let lock = lock::shared(&self.lock_path(), &self.cancel)?;
        let dir = tempfile::Builder::new().prefix("layer").tempdir_in(&self.dir);
        let dir = dir.at("create a temporary directory in", &self.dir)?;
        Ok(TemporaryDirectory { dir, _lock: lock })
    }

    /// A new, empty file without a name: it disappears when it is closed, even by a crash. On Windows it has
    /// a name, but no other process can open it.
    pub(crate) fn anonymous(&self) -> Result<File, Error> {
        // Where unnamed files do not exist, it has a name for a moment.
        let _lock = lock::shared(&self.lock_path(), &self.cancel)?;
        tempfile::tempfile_in(&self.dir).at("create a temporary file in", &self.dir)
    }

    /// Writes a small file atomically: after a crash `path` has either the old or the new content. After an
    /// error it has the old one.
    pub(crate) fn write(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let before = read_file(path)?;
        let Err(error) = self.replace(path, content) else { return Ok(()) };
        Err(error.with_undo(self.put_back(path, before.as_deref(), content)))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let mut new = self.file()?;
        new.as_file_mut().write_all(content).at("write", path)?;
        new.persist(path).map(drop)
    }

    /// Puts the old content back. If the directory sync fails, the new file is already visible; after the
    /// error the caller would undo work that this file still refers to.
    fn put_back(&self, path: &Path, before: Option<&[u8]>, content: &[u8]) -> Result<(), Error> {
        if before == Some(content) || read_file(path)?.as_deref() != Some(content) {
            return Ok(());
        }
        match before {
            Some(before) => self.replace(path, before),
            None => remove_file(path),
        }
    }

    /// Files that processes left when they died; none while any process is writing.
    pub(crate) fn abandoned(&self) -> Result<Vec<PathBuf>, Error> {
        match lock::try_exclusive(&self.lock_path())? {
            Some(_lock) => self.list(),
            None => Ok(Vec::new()),
        }
    }

    /// Removes files that processes left when they died, unless any process is writing.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let Some(_lock) = lock::try_exclusive(&self.lock_path())? else {
            tracing::debug!("{} is in use", self.dir.display());
            return Ok(());
        };
        let mut result = Ok(());
        for path in self.list()? {
            match remove_any(&path).at("remove", &path) {
                Ok(()) => tracing::info!("removed {}", path.display()),
                // Go on with the others.
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    fn list(&self) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)? {
            paths.push(entry.at("list", &self.dir)?.path());
        }
        #[cfg(windows)]
        paths.retain(|path| !is_somebodys(path));
        paths.sort();
        Ok(paths)
    }
}

/// Whether `path` is a file of [`Temporaries::anonymous`] that is still open: it is opened without sharing.
#[cfg(windows)]
fn is_somebodys(path: &Path) -> bool {
    const ERROR_SHARING_VIOLATION: i32 = 32;
    File::open(path).is_err_and(|e| e.raw_os_error() == Some(ERROR_SHARING_VIOLATION))
}

impl Temporary {
    /// The file, for writing.
    pub(crate) fn as_file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Its path, for programs that write it.
    #[cfg(target_os = "linux")]
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Syncs the file, then renames it to `path`, replacing a file there.
    pub(crate) fn persist(self, path: &Path) -> Result<File, Error> {
        self.file.as_file().sync_all().at("sync", path)?;
        // Not `NamedTempFile::persist`: on Windows it cannot replace a file that is open.
        let (file, temporary) = self.file.keep().map_err(|e| e.error).at("keep", path)?;
        if let Err(e) = scanners::replace(&temporary, path).at("replace", path) {
            return Err(e.with_undo(fs::remove_file(&temporary).at("remove", &temporary)));
        }
        sync_name(path)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporaries() -> (tempfile::TempDir, Temporaries) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("tmp");
        fs::create_dir(&dir).unwrap();
        (root, Temporaries::new(dir))
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_no_temporary_behind() {
        let (root, temporaries) = temporaries();
        let path = root.path().join("x.json");
        temporaries.write(&path, b"one").unwrap();
        temporaries.write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        drop(temporaries.file().unwrap());
        assert!(temporaries.abandoned().unwrap().is_empty());
    }

    #[test]
    fn what_was_there_before_comes_back_unless_it_never_left() {
        let (root, temporaries) = temporaries();
        let path = root.path().join("x.json");
        temporaries.write(&path, b"two").unwrap();
        temporaries.put_back(&path, Some(b"one"), b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        temporaries.put_back(&path, None, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        temporaries.put_back(&path, None, b"one").unwrap();
        assert!(!path.exists());
    }

    // Wine cannot replace an open file; on Windows `cargo xtask windows-host-check` tests this.
    #[cfg(unix)]
    #[test]
    fn a_file_is_replaced_while_somebody_reads_the_old_one() {
        let (root, temporaries) = temporaries();
        let path = root.path().join("x.json");
        temporaries.write(&path, b"one").unwrap();
        let mut old = File::open(&path).unwrap();
        temporaries.write(&path, b"two").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut old, &mut text).unwrap();
        assert_eq!(text, "one");
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_replacement_that_fails_leaves_no_temporary_behind() {
        let (root, temporaries) = temporaries();
        let taken = root.path().join("taken");
        fs::create_dir_all(taken.join("full")).unwrap();
        temporaries.write(&taken, b"x").unwrap_err();
        assert!(temporaries.abandoned().unwrap().is_empty());
    }

    #[test]
    fn what_is_being_written_stays_and_what_the_dead_left_goes() {
        let (_root, temporaries) = temporaries();
        let left = temporaries.dir().join("left");
        fs::write(&left, b"half").unwrap();
        let mut writing = temporaries.file().unwrap();
        writing.as_file_mut().write_all(b"more").unwrap();
        assert!(temporaries.abandoned().unwrap().is_empty());
        temporaries.sweep().unwrap();
        assert!(left.exists());
        drop(writing);
        assert_eq!(temporaries.abandoned().unwrap(), std::slice::from_ref(&left));
        temporaries.sweep().unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_directory_goes_with_what_is_in_it_even_if_its_owner_died() {
        let (_root, temporaries) = temporaries();
        let directory = temporaries.directory().unwrap();
        fs::write(directory.path().join("file"), b"x").unwrap();
        fs::remove_dir_all(directory.keep()).unwrap();
        fs::create_dir(temporaries.dir().join("left")).unwrap();
        fs::write(temporaries.dir().join("left/file"), b"x").unwrap();
        temporaries.sweep().unwrap();
        assert_eq!(fs::read_dir(temporaries.dir()).unwrap().count(), 0);
    }

    #[test]
    fn an_anonymous_file_is_nobodys_rest_and_goes_when_it_is_closed() {
        let (_root, temporaries) = temporaries();
        let mut file = temporaries.anonymous().unwrap();
        file.write_all(b"x").unwrap();
        if cfg!(unix) {
            assert_eq!(fs::read_dir(temporaries.dir()).unwrap().count(), 0);
        }
        assert!(temporaries.abandoned().unwrap().is_empty());
        temporaries.sweep().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "x");
        drop(file);
        assert_eq!(fs::read_dir(temporaries.dir()).unwrap().count(), 0);
    }
}
