//! Files of the image store: how they go, and locks. They come by [`windowsfilter::LayerStore::write_file`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use crate::error::{Error, IoContext};

/// Removes a file for good; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("."))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).at("remove", path),
    }
}

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
