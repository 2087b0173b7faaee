//! Files of the image store: locks, and names made durable. They come by [`windowsfilter::LayerStore::write_file`] and go by
//! [`windowsfilter::LayerStore::remove_file`].

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
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

/// Locks `path` against other threads and processes until the file is dropped. `None` where nobody can make the file, and so nobody can have
/// it locked: in a store that cannot be written, which can still be read.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, Error> {
    let Some(file) = open_lock(path).at("open", path)? else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(e).at("lock", path),
    }
    tracing::info!("waiting for another process that changes the images");
    file.lock().at("lock", path)?;
    Ok(Some(file))
}

fn open_lock(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().create(true).truncate(false).write(true).open(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
            match File::open(path) {
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
                file => file.map(Some).map_err(|_| e),
            }
        }
        file => file.map(Some),
    }
}
