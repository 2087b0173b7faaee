//! Small files and names that survive a power loss once a call returns.
//!
//! Files that are visible to others are written by [`crate::temporary`] and appear by a rename.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, IoContext};

/// Writes a new small file and syncs it; the file must not exist yet. For directories that are not visible
/// yet.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = File::create_new(path).at("create", path)?;
    file.write_all(content).at("write", path)?;
    file.sync_all().at("sync", path)
}

/// Syncs the names in `dir`.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    // Windows cannot sync a directory handle opened for reading, and NTFS journals its metadata.
    if cfg!(unix) {
        File::open(dir).and_then(|d| d.sync_all()).at("sync directory", dir)?;
    }
    Ok(())
}

/// Removes a file and syncs the removal; no-op if the file does not exist.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => sync_name(path),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).at("remove", path),
    }
}

/// Syncs the directory of `path`, after a file got or lost this name.
pub(crate) fn sync_name(path: &Path) -> Result<(), Error> {
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Reads a small file; `None` if it does not exist.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("read", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_takes_the_place_of_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        write_new(&path, b"one").unwrap();
        assert!(write_new(&path, b"two").is_err());
        assert_eq!(read_file(&path).unwrap().unwrap(), b"one");
        assert_eq!(read_file(&dir.path().join("none")).unwrap(), None);
    }
}
