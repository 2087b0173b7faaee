//! Files of the image store: locks, and names made durable. They come by [`windowsfilter::LayerStore::write_file`] and go by
//! [`windowsfilter::LayerStore::remove_file`].

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::{Error, IoContext};

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    // Windows cannot sync a directory handle opened for reading, and NTFS journals its metadata.
    if cfg!(unix) {
        File::open(dir).and_then(|d| d.sync_all()).at("sync directory", dir)?;
    }
    Ok(())
}

/// Locks `path` against other threads and processes until the file is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).at("open", path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(e).at("lock", path),
    }
    tracing::info!("waiting for another process that changes the images");
    file.lock().at("lock", path)?;
    Ok(file)
}
