//! Writes a whole layer to a tar.
//!
//! Source: hcsshim `pkg/ociwclayer/export.go` `writeTarFromLayer`.

use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

use super::entry::{FileInfo, LayerEntry};
use super::error::LayerTarError;
use super::loss::Loss;
use super::writer::{Writer, slashes};

/// A source that can be read twice.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek + ?Sized> ReadSeek for T {}

/// A backup stream to read from.
pub enum BackupSource<'a> {
    /// Can be read twice, so metadata behind the data can still be written before it.
    Seekable(&'a mut dyn ReadSeek),
    /// Can be read once, like the stream of `BackupRead`.
    Forward(&'a mut dyn Read),
    /// Has no records.
    Empty,
}

/// The next item of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceItem {
    /// A deletion.
    Tombstone {
        /// The deleted path; slashes or backslashes.
        path: Vec<u8>,
    },
    /// A file, directory or reparse point.
    File {
        /// Its path; slashes or backslashes.
        path: Vec<u8>,
        /// Bytes of its data.
        size: u64,
        /// Attributes and times.
        info: FileInfo,
        /// The file's identity, if it has more than one name.
        link_id: Option<[u8; 16]>,
    },
}

/// A layer that is read item by item.
pub trait LayerSource {
    /// Goes to the next item.
    ///
    /// # Errors
    /// The layer cannot be read.
    fn next_item(&mut self) -> io::Result<Option<SourceItem>>;

    /// The backup stream of the last file from [`next_item`](Self::next_item), from its start.
    fn backup_stream(&mut self) -> BackupSource<'_>;
}

/// Writes a whole layer, and the end of the tar. Further names of a file become links to the first.
///
/// # Errors
/// [`LayerTarError`]; the tar is incomplete then.
pub fn export<W: Write>(
    source: &mut dyn LayerSource,
    mut writer: Writer<W>,
) -> Result<(W, Vec<Loss>), LayerTarError> {
    let mut names: HashMap<[u8; 16], Vec<u8>> = HashMap::new();
    while let Some(item) = source.next_item().map_err(|source| LayerTarError::Source { source })? {
        match item {
            SourceItem::Tombstone { path } => writer.write_whiteout(&path)?,
            SourceItem::File { path, size, info, link_id } => {
                if let Some(target) = link_id.and_then(|id| names.get(&id)) {
                    writer.write_link(&LayerEntry::new(path, info), target)?;
                    continue;
                }
                if let Some(id) = link_id {
                    names.insert(id, slashes(&path));
                }
                writer.write_backup_stream(&path, size, info, source.backup_stream())?;
            }
        }
    }
    let losses = writer.take_losses();
    Ok((writer.finish()?, losses))
}
