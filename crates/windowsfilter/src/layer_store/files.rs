//! The store's own files, for crates that keep their own data in the store: how one is written, removed and
//! locked.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::LayerStore;
use crate::durable;
use crate::error::Error;
use crate::lock::{self, Lock};
use crate::temporary::NewFile;

/// The files of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreFiles<'a> {
    store: &'a LayerStore,
}

/// A lock of [`StoreFiles::lock`] or [`StoreFiles::lock_file`], held until it is dropped.
#[derive(Debug)]
pub struct StoreLock {
    _lock: Lock,
}

impl<'a> StoreFiles<'a> {
    pub(super) fn of(store: &'a LayerStore) -> Self {
        Self { store }
    }

    /// The directory of image records; this crate does not touch it.
    pub fn images_dir(self) -> PathBuf {
        self.store.paths.images()
    }

    /// Writes a small file of the store atomically: after a crash it has either the old or the new content.
    ///
    /// # Errors
    /// When it cannot be written; the old file stays, if there was one.
    pub fn write(self, path: &Path, content: &[u8]) -> Result<(), Error> {
        self.store.paths.temporaries().write(path, content)
    }

    /// Removes a file of the store and syncs the removal; no-op if the file does not exist.
    ///
    /// # Errors
    /// When it cannot be removed, or the sync fails.
    pub fn remove(self, path: &Path) -> Result<(), Error> {
        durable::remove_file(path)
    }

    /// A file without a name, for data that are too large for memory. It disappears when it is closed.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn spool(self) -> Result<File, Error> {
        self.store.paths.temporaries().anonymous()
    }

    /// A new file, for data that are too large for memory. It gets its name when it is complete.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(self) -> Result<NewFile, Error> {
        self.store.paths.temporaries().file().map(NewFile)
    }

    /// Takes the store lock, waiting until it is free. While it is held the set of layers does not change.
    /// Hold it only briefly.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn lock(self) -> Result<StoreLock, Error> {
        self.lock_file(&self.store.paths.lock(), "the store")
    }

    /// Locks a file of the store, creating it if needed, against other threads and processes. If it is
    /// locked, logs `what` it waits for. In a read-only store nothing changes, so there the lock file need
    /// not be writable, or exist.
    ///
    /// # Errors
    /// When it can be opened neither for writing nor for reading.
    pub fn lock_file(self, path: &Path, what: &str) -> Result<StoreLock, Error> {
        Ok(StoreLock { _lock: lock::exclusive(path, what, self.store.paths.cancel())? })
    }
}
