//! The files that `ProcessUtilityImage` changes: they are kept as they came, for whoever rebuilds the layer's
//! tar.
//!
//! Source: `mutatedFiles` and `writeBackupStreamFromTarAndSaveMutatedFiles` in `windows.go`.

use std::io::{self, BufWriter, Write};

use hcs::{BackupTarget, BasicInfo, Tree};

use super::{BUFFER, paths};

/// The boot store of the utility VM, and what its files are kept as in the layer's directory.
const KEPT: [(&[u8], &str); 4] = [
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD", "bcd.bak"),
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD.LOG", "bcd.log.bak"),
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD.LOG1", "bcd.log1.bak"),
    (b"UtilityVM\\Files\\EFI\\Microsoft\\Boot\\BCD.LOG2", "bcd.log2.bak"),
];

/// What a file is kept as, by its clean path with backslashes; `None` for files that nobody changes. Names
/// compare as NTFS does, which the original does not, and so keeps no `bcd`.
pub(super) fn kept_as(path: &[u8]) -> Option<&'static str> {
    KEPT.iter().find(|(name, _)| wclayer::name::eq(path, name)).map(|(_, kept)| *kept)
}

/// Whether the file at a path below the layer is one of those that are copied, not linked, since they will
/// change.
pub(super) fn is_changed(path: &[u8]) -> bool {
    kept_as(path).is_some()
}

/// Writes a copy of what passes through, if it is one of these files.
pub(super) struct BootStoreBackup<'a, T: Tree> {
    layer: &'a T,
    current: Option<BufWriter<T::BackupWriter>>,
}

impl<'a, T: Tree> BootStoreBackup<'a, T> {
    pub(super) fn new(layer: &'a T) -> Self {
        Self { layer, current: None }
    }

    /// The backup stream of `path` follows.
    pub(super) fn begin(&mut self, path: &[u8]) -> io::Result<()> {
        let Some(kept) = kept_as(&paths::clean(path)) else { return Ok(()) };
        let name = paths::known(kept);
        // One left by an earlier attempt is written anew, as the original does.
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

    /// The file is complete.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.current.take().map_or(Ok(()), |mut file| file.flush())
    }
}
