//! Keeps the original content of the files that `ProcessUtilityImage` changes, so that the layer's tar can be
//! rebuilt.
//!
//! Source: `mutatedFiles` and `writeBackupStreamFromTarAndSaveMutatedFiles` in `windows.go`.

use std::io::{self, BufWriter, Write};

use hcs::{BackupTarget, BasicInfo, Tree};

use super::{BUFFER, paths};

/// The files of the utility VM's boot store, and the names of their copies in the layer's directory.
const KEPT: [(&[u8], &str); 4] = [
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD", "bcd.bak"),
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD.LOG", "bcd.log.bak"),
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD.LOG1", "bcd.log1.bak"),
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD.LOG2", "bcd.log2.bak"),
];

/// The name of the copy of a file, by its clean path with backslashes; `None` for files that are not changed.
/// Names compare as in NTFS; the original compares bytes and so does not keep `bcd`.
pub(super) fn kept_as(path: &[u8]) -> Option<&'static str> {
    KEPT.iter().find(|(name, _)| wclayer::name::eq(path, name)).map(|(_, kept)| *kept)
}

/// Whether the file at a path below the layer will change, and so must be copied instead of linked.
pub(super) fn is_changed(path: &[u8]) -> bool {
    kept_as(path).is_some()
}

/// Copies the backup streams of these files while they are written.
pub(super) struct BootStoreBackup<'a, T: Tree> {
    layer: &'a T,
    current: Option<BufWriter<T::BackupWriter>>,
}

impl<'a, T: Tree> BootStoreBackup<'a, T> {
    pub(super) fn new(layer: &'a T) -> Self {
        Self { layer, current: None }
    }

    /// Begins a copy, if `path` is one of these files; its backup stream follows.
    pub(super) fn begin(&mut self, path: &[u8]) -> io::Result<()> {
        let Some(kept) = kept_as(&paths::clean(path)) else { return Ok(()) };
        let name = paths::known(kept);
        // A copy left by an earlier attempt is replaced, as in the original.
        match self.layer.remove(&name) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let file = self.layer.backup_write(&name, BackupTarget::NewFile, &BasicInfo::default(), false)?;
        self.current = Some(BufWriter::with_capacity(BUFFER, file));
        Ok(())
    }

    pub(super) fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), |file| file.write_all(stream))
    }

    /// Completes the copy.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.current.take().map_or(Ok(()), |mut file| file.flush())
    }
}
