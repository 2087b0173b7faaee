//! Advisory locks between processes (and threads) on one store.
//!
//! Two rules keep everything consistent:
//!
//! * The *store lock* (`<root>/lock`) is held briefly: while the set of layers changes (a staged layer
//!   becomes visible, a layer becomes `-removing`) and while checks that depend on that set run. Never while
//!   layer data is written.
//! * A directory that is being filled is itself locked: `<id>-importing` by its writer. Mounting and
//!   unmounting hold `mounts/<id>.lock`. Cleanup leaves locked directories alone: their writer is alive. All
//!   processes with a file in `tmp/` share one lock, `tmp.lock`.
//!
//! Order: a directory's lock before the store lock, so that a process holding the store lock never waits for
//! data. The kernel drops the locks of a process that dies.
//!
//! Windows can lock only files, and cannot rename a directory in which a file is open. There a directory's
//! lock is a file beside it, removed with the lock: it belongs to the directory's name, not to the directory
//! ([`Lock::before_rename`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::cancel::Cancel;
use crate::error::{Error, IoContext};

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// The lock file does not exist and cannot be created, or may not be opened; `file` is its directory
    /// instead.
    absent: bool,
    /// Why it was opened for reading only, which is enough for readers.
    unwritable: Option<(PathBuf, io::Error)>,
    /// The lock file, if it exists only as long as the lock.
    #[cfg(not(unix))]
    transient: Option<PathBuf>,
}

impl Lock {
    fn of_file(file: File) -> Self {
        Self {
            file,
            absent: false,
            unwritable: None,
            #[cfg(not(unix))]
            transient: None,
        }
    }

    /// For callers that are about to change something: refuses a store that cannot be written, before any
    /// change.
    ///
    /// # Errors
    /// As when opening the lock file for writing.
    pub(crate) fn for_changes(mut self) -> Result<Self, Error> {
        match self.unwritable.take() {
            Some((path, error)) => Err(error).at("open", &path),
            None => Ok(self),
        }
    }
}

#[cfg(unix)]
impl Lock {
    /// The locked file. The lock lasts until every copy of its descriptor is closed, those of other processes
    /// included.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Whether `path` is still the locked file or directory, and not a new one of the same name.
    pub(crate) fn still_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        self.absent
            || self.file.metadata().and_then(|a| Ok(same(a, std::fs::metadata(path)?))).unwrap_or(false)
    }

    /// The lock that a directory needs under its new name: `None`, since its present lock follows the rename.
    #[expect(clippy::unnecessary_wraps, reason = "it fails where locks go by names")]
    pub(crate) fn before_rename(_: &Path) -> Result<Option<Self>, Error> {
        Ok(None)
    }

    fn open_dir(path: &Path) -> Result<Self, Error> {
        Ok(Self::of_file(File::open(path).at("open", path)?))
    }

    fn is_current(&self) -> Result<bool, Error> {
        Ok(true)
    }
}

#[cfg(not(unix))]
impl Lock {
    /// Whether `path` is still the locked file or, for a directory's lock, still a directory.
    pub(crate) fn still_at(&self, path: &Path) -> bool {
        match self.transient {
            Some(_) => path.is_dir(),
            None => self.absent || self.is_file_at(path).unwrap_or(false),
        }
    }

    /// The lock that a directory needs once it is renamed to `path`, which does not exist yet.
    pub(crate) fn before_rename(path: &Path) -> Result<Option<Self>, Error> {
        try_exclusive_dir(path)?
            .map(Some)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ResourceBusy))
            .at("lock", path)
    }

    fn open_dir(path: &Path) -> Result<Self, Error> {
        let path = beside(path);
        let mut patience = 200;
        loop {
            match open(&path) {
                // A removed lock file keeps its name, and cannot be opened, until all waiters have closed it.
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::PermissionDenied && patience > 0 =>
                {
                    patience -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                other => {
                    let mut lock = other?;
                    lock.transient = Some(path);
                    return Ok(lock);
                }
            }
        }
    }

    /// Whether the lock file still has its name: the previous holder may have removed it.
    fn is_current(&self) -> Result<bool, Error> {
        self.transient.as_ref().map_or(Ok(true), |path| self.is_file_at(path))
    }

    fn is_file_at(&self, path: &Path) -> Result<bool, Error> {
        let held = self.file.try_clone().and_then(same_file::Handle::from_file).at("open", path)?;
        match same_file::Handle::from_path(path) {
            Ok(named) => Ok(named == held),
            // Gone, or about to be.
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(e).at("open", path),
        }
    }
}

#[cfg(not(unix))]
impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before it is unlocked, so that waiters see that it is no longer the current lock file.
        if let Some(path) = &self.transient
            && let Err(e) = std::fs::remove_file(path)
        {
            tracing::debug!("cannot remove {}: {e}", path.display());
        }
    }
}

/// Locks the file `path`, creating it if needed. If it is locked, logs that once and waits; `cancel` ends the
/// wait.
pub(crate) fn exclusive(path: &Path, what: &str, cancel: &Cancel) -> Result<Lock, Error> {
    let lock = open(path)?;
    wait(&lock, path, what, cancel)?;
    Ok(lock)
}

/// Locks the directory `path` as [`exclusive`] locks a file.
pub(crate) fn exclusive_dir(path: &Path, what: &str, cancel: &Cancel) -> Result<Lock, Error> {
    loop {
        let lock = Lock::open_dir(path)?;
        wait(&lock, path, what, cancel)?;
        if lock.is_current()? {
            return Ok(lock);
        }
        forget_name(lock);
    }
}

/// Takes a shared lock on `path`, waiting until no exclusive lock is held.
pub(crate) fn shared(path: &Path, cancel: &Cancel) -> Result<Lock, Error> {
    let lock = open(path)?;
    if lock.absent {
        return Ok(lock);
    }
    match lock.file.try_lock_shared() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let file = lock.file.try_clone().at("lock", path)?;
            cancel.wait(move || file.lock_shared()).at("lock", path)?;
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(e).at("lock", path),
    }
    Ok(lock)
}

/// Locks the file `path`, creating it if needed; `None` if it is locked.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Lock>, Error> {
    let lock = open(path)?;
    Ok(try_lock(&lock, path)?.then_some(lock))
}

/// Like [`try_exclusive`], but `None` if the lock file does not exist.
pub(crate) fn try_existing(path: &Path) -> Result<Option<Lock>, Error> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A read-only store.
        Err(error) if cannot_write(&error) => Ok(None),
        other => {
            let lock = Lock::of_file(other.at("open", path)?);
            Ok(try_lock(&lock, path)?.then_some(lock))
        }
    }
}

/// Locks the directory `path`; `None` if it is locked.
pub(crate) fn try_exclusive_dir(path: &Path) -> Result<Option<Lock>, Error> {
    loop {
        let lock = Lock::open_dir(path)?;
        if !try_lock(&lock, path)? {
            forget_name(lock);
            return Ok(None);
        }
        if lock.is_current()? {
            return Ok(Some(lock));
        }
        forget_name(lock);
    }
}

/// Drops a lock that we do not hold, without removing the lock file, which may belong to another process.
fn forget_name(#[allow(unused_mut, reason = "names are the business of some systems only")] mut lock: Lock) {
    #[cfg(not(unix))]
    {
        lock.transient = None;
    }
    drop(lock);
}

fn wait(lock: &Lock, path: &Path, what: &str, cancel: &Cancel) -> Result<(), Error> {
    if try_lock(lock, path)? {
        return Ok(());
    }
    tracing::info!("waiting for another process to finish with {what}");
    // A lock belongs to the open file description, so it can be taken through a duplicate descriptor.
    let file = lock.file.try_clone().at("lock", path)?;
    cancel.wait(move || file.lock()).at("lock", path)
}

fn try_lock(lock: &Lock, path: &Path) -> Result<bool, Error> {
    if lock.absent {
        return Ok(true);
    }
    match lock.file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(e)) => Err(e).at("lock", path),
    }
}

fn open(path: &Path) -> Result<Lock, Error> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if cannot_write(&error) => match open_to_read(path) {
            Ok(mut lock) => {
                lock.unwritable = Some((path.to_owned(), error));
                Ok(lock)
            }
            Err(_) => Err(error).at("open", path),
        },
        other => {
            let file = other.at("open", path)?;
            keep_from_others(&file, path);
            Ok(Lock::of_file(file))
        }
    }
}

/// Makes a lock file accessible to its owner only: any user who can open it could hold it for ever. Older
/// versions made lock files that all users can read.
#[cfg(unix)]
fn keep_from_others(file: &File, path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let is_open = file.metadata().is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if is_open && let Err(error) = file.set_permissions(std::fs::Permissions::from_mode(0o600)) {
        tracing::debug!("others can lock {}: {error}", path.display());
    }
}

#[cfg(not(unix))]
fn keep_from_others(_: &File, _: &Path) {}

/// Whether the error means that the store is read-only for us, so that reading may still work. Not on Windows
/// for a refused permission: there a lock file that is being removed is also refused.
pub(crate) fn cannot_write(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
        || cfg!(unix) && error.kind() == io::ErrorKind::PermissionDenied
}

/// Opens a lock in a store that we cannot write. Changes fail a little later: those of mounts in
/// [`Lock::for_changes`], with the error of opening it for writing, all others at their first write.
fn open_to_read(path: &Path) -> io::Result<Lock> {
    match File::open(path) {
        // It does not exist, or only its owner may open it. We read without the lock: a mere reader must not
        // be able to keep the owner waiting.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            let dir = File::open(path.parent().unwrap_or(Path::new(".")))?;
            let mut lock = Lock::of_file(dir);
            lock.absent = true;
            Ok(lock)
        }
        other => other.map(Lock::of_file),
    }
}

/// The path of a lock file beside the directory `dir`, for directories that come and go.
pub(crate) fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_another_and_is_free_after_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = exclusive(&path, "the test", &Cancel::default()).unwrap();
        assert!(try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(try_exclusive(&path).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_its_owners_only_also_one_that_was_not() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(exclusive(&path, "the test", &Cancel::default()).unwrap());
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        drop(shared(&path, &Cancel::default()).unwrap());
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_lock_that_is_not_there_is_not_made_by_asking_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(try_existing(&path).unwrap().is_none() && !path.exists());
        let held = exclusive(&path, "the test", &Cancel::default()).unwrap();
        assert!(try_existing(&path).unwrap().is_none());
        drop(held);
        assert!(try_existing(&path).unwrap().is_some());
    }

    #[test]
    fn waiting_for_a_lock_ends_when_it_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = exclusive(&path, "the test", &Cancel::default()).unwrap();
        let alone = |cancel: &Cancel| exclusive(&path, "the test", cancel);
        let together = |cancel: &Cancel| shared(&path, cancel);
        for take in [&alone as &(dyn Fn(&Cancel) -> Result<Lock, Error> + Sync), &together] {
            let cancel = Cancel::default();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| take(&cancel));
                cancel.cancel();
                assert!(crate::cancel::is_cancelled(&waiting.join().unwrap().unwrap_err()));
            });
        }
        drop(held);
        // A free lock is taken even when cancelled: undoing needs it.
        let cancel = Cancel::default();
        cancel.cancel();
        exclusive(&path, "the test", &cancel).unwrap();
    }

    #[test]
    fn a_locked_directory_excludes_another_and_leaves_nothing_beside_it() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        let held = exclusive_dir(&dir, "the test", &Cancel::default()).unwrap();
        assert!(held.still_at(&dir));
        assert!(try_exclusive_dir(&dir).unwrap().is_none());
        assert!(try_exclusive_dir(&dir).unwrap().is_none(), "to be refused changes nothing");
        drop(held);
        drop(exclusive_dir(&dir, "the test", &Cancel::default()).unwrap());
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn whoever_waits_for_a_directory_gets_it_when_its_holder_lets_go() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        let holders = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _held = exclusive_dir(&dir, "the test", &Cancel::default()).unwrap();
                        assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
