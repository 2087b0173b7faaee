//! Files that are on their way into the store, and what is left of them when a process dies.
//!
//! All of them are in `<root>/tmp`, on the store's file system, so that a rename ends their way. Whoever has
//! one there holds a shared lock on `<root>/tmp.lock`; the sweep takes the lock for itself, so whatever it
//! finds then belongs to nobody. What needs no name has none ([`Temporaries::anonymous`]) and goes with its
//! process.

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

/// A file that nobody knows of yet. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Temporary {
    // In this order: the file goes before the lock does.
    file: NamedTempFile,
    _lock: Lock,
}

/// A large file on its way into the store: nobody sees it until it has its name. Dropping it removes it.
#[derive(Debug)]
pub struct NewFile(pub(crate) Temporary);

impl NewFile {
    /// Makes the file durable, then lets it take the place of whatever is at `path`.
    ///
    /// # Errors
    /// When it cannot be synced or renamed; it is gone then.
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

/// A directory that nobody knows of yet. Dropping it removes it with everything in it.
#[derive(Debug)]
pub(crate) struct TemporaryDirectory {
    // In this order: the directory goes before the lock does.
    dir: TempDir,
    _lock: Lock,
}

impl TemporaryDirectory {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves it to the caller to remove it.
    pub(crate) fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

impl Temporaries {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, cancel: Cancel::default() }
    }

    /// Ends with `cancel` whatever is waited for.
    pub(crate) fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// What ends the work that these files are made for.
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

    /// A new, empty file without a name: it is gone when it is closed, however that comes about. On Windows
    /// it has a name that nobody else can open.
    pub(crate) fn anonymous(&self) -> Result<File, Error> {
        // Elsewhere it may have a name for a moment.
        let _lock = lock::shared(&self.lock_path(), &self.cancel)?;
        tempfile::tempfile_in(&self.dir).at("create a temporary file in", &self.dir)
    }

    /// Writes a small file so that after a crash it is either the old one or the new one, whole. After an
    /// error it is the old one.
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

    /// A file whose name could not be made durable is there all the same: whoever is told that it is not
    /// would take away what it needs.
    fn put_back(&self, path: &Path, before: Option<&[u8]>, content: &[u8]) -> Result<(), Error> {
        if before == Some(content) || read_file(path)?.as_deref() != Some(content) {
            return Ok(());
        }
        match before {
            Some(before) => self.replace(path, before),
            None => remove_file(path),
        }
    }

    /// What processes that died have left; nothing while anybody is writing.
    pub(crate) fn abandoned(&self) -> Result<Vec<PathBuf>, Error> {
        match lock::try_exclusive(&self.lock_path())? {
            Some(_lock) => self.list(),
            None => Ok(Vec::new()),
        }
    }

    /// Removes what processes that died have left, unless anybody is writing.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let Some(_lock) = lock::try_exclusive(&self.lock_path())? else {
            tracing::debug!("{} is in use", self.dir.display());
            return Ok(());
        };
        let mut result = Ok(());
        for path in self.list()? {
            match remove_any(&path).at("remove", &path) {
                Ok(()) => tracing::info!("removed {}", path.display()),
                // The others go all the same.
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

/// Whether `path` is a file of [`Temporaries::anonymous`] that has not been closed: it shares nothing.
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

    /// Where it is, for programs that write it.
    #[cfg(target_os = "linux")]
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Makes the file durable, then lets it take the place of the one at `path`.
    pub(crate) fn persist(self, path: &Path) -> Result<File, Error> {
        self.file.as_file().sync_all().at("sync", path)?;
        // Not `NamedTempFile::persist`: on Windows that takes the place of no file that somebody has open.
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

    // Wine replaces no file that is open; on Windows `cargo xtask windows-host-check` shows this.
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
