//! The store's own files, as the crates use them that keep something beside layers: how one is written,
//! removed and locked.

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

/// A lock of the store, held until it is dropped: that of [`StoreFiles::lock`] or of
/// [`StoreFiles::lock_file`].
#[derive(Debug)]
pub struct StoreLock {
    _lock: Lock,
}

impl<'a> StoreFiles<'a> {
    pub(super) fn of(store: &'a LayerStore) -> Self {
        Self { store }
    }

    /// Where image records are kept; not touched by this crate.
    pub fn images_dir(self) -> PathBuf {
        self.store.paths.images()
    }

    /// Writes a small file of the store so that after a crash it is either the old one or the new one, whole.
    ///
    /// # Errors
    /// When it cannot be written; the old one, or none, is there then.
    pub fn write(self, path: &Path, content: &[u8]) -> Result<(), Error> {
        self.store.paths.temporaries().write(path, content)
    }

    /// Removes such a file for good; one that is not there is fine.
    ///
    /// # Errors
    /// When it cannot be removed, or that cannot be made durable.
    pub fn remove(self, path: &Path) -> Result<(), Error> {
        durable::remove_file(path)
    }

    /// A file without a name, for data that are too large for memory. It is gone when it is closed.
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

    /// Takes the store's lock, waiting until it is free: the set of layers does not change until it is
    /// dropped. Hold it for moments only.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn lock(self) -> Result<StoreLock, Error> {
        self.lock_file(&self.store.paths.lock(), "the store")
    }

    /// Locks a file of the store, which is created, against other threads and processes until it is dropped;
    /// says `what` it waits for if another has it. In a store that cannot be written nothing changes, so
    /// readers get the lock.
    ///
    /// # Errors
    /// When it can be opened neither for writing nor for reading.
    pub fn lock_file(self, path: &Path, what: &str) -> Result<StoreLock, Error> {
        Ok(StoreLock { _lock: lock::exclusive(path, what, self.store.paths.cancel())? })
    }
}
