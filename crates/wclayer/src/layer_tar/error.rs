//! Why a layer tar was refused, or could not be made.

use std::io;

use crate::backup_stream::BackupStreamError;
use crate::ea::EaError;
use crate::pax_time::PaxTimeError;
use crate::reparse::ReparseError;
use crate::security::{SddlError, SecurityError};
use crate::tar::TarError;

/// Why a layer tar was refused, or could not be made.
///
/// `entry` is the entry's name, printed lossily; `offset` is that of its first block in the tar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerTarError {
    /// The archive itself is invalid.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The file attributes are not a decimal number of 32 bits.
    #[error(
        "entry {entry:?} at tar offset {offset:#x}: MSWINDOWS.fileattr is {value:?}, not a 32-bit number"
    )]
    Attributes {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The record's value.
        value: String,
    },
    /// The creation time cannot be read.
    #[error("entry {entry:?} at tar offset {offset:#x}: LIBARCHIVE.creationtime cannot be read")]
    CreationTime {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The reason.
        source: PaxTimeError,
    },
    /// A record with binary data is not base64.
    #[error("entry {entry:?} at tar offset {offset:#x}: PAX record {key:?} is not base64")]
    Base64 {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The record's key.
        key: String,
        /// The reason.
        source: base64::DecodeError,
    },
    /// The security descriptor of an old layer is not SDDL.
    #[error("entry {entry:?} at tar offset {offset:#x}: MSWINDOWS.sd cannot be read")]
    Sddl {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The reason.
        source: SddlError,
    },
    /// The security descriptor of an old layer does not fit its binary form.
    #[error("entry {entry:?} at tar offset {offset:#x}: MSWINDOWS.sd cannot be stored")]
    Security {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The reason.
        source: SecurityError,
    },
    /// The extended attributes do not fit their format.
    #[error("entry {entry:?} at tar offset {offset:#x}: its extended attributes cannot be stored")]
    ExtendedAttributes {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The reason.
        source: EaError,
    },
    /// The target of a link does not fit a reparse buffer.
    #[error("entry {entry:?} at tar offset {offset:#x}: its link target cannot be stored")]
    LinkTarget {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The reason.
        source: ReparseError,
    },
    /// The layer that is exported cannot be read.
    #[error("cannot read the layer")]
    Source {
        /// The reason.
        source: io::Error,
    },
    /// The sink of an imported layer's entries failed.
    #[error("entry {entry:?} at tar offset {offset:#x}: cannot be stored")]
    Sink {
        /// The entry.
        entry: String,
        /// Where it is.
        offset: u64,
        /// The sink's error.
        source: io::Error,
    },
    /// The data for the tar cannot be read.
    #[error("{entry:?}: its data cannot be read")]
    Data {
        /// The entry.
        entry: String,
        /// The reason.
        source: io::Error,
    },
    /// A backup stream is invalid.
    #[error("{entry:?}: its backup stream is at fault")]
    BackupStream {
        /// The entry.
        entry: String,
        /// The problem.
        source: BackupStreamError,
    },
    /// A backup stream has a record in a place where the reference refuses it.
    #[error("{entry:?}: its backup stream has a record of kind {id} {}", place(*after_data))]
    UnknownRecord {
        /// The entry.
        entry: String,
        /// The record's kind, see [`crate::backup_stream`].
        id: u32,
        /// Whether the data came before it.
        after_data: bool,
    },
    /// The file's size is not that of its data record.
    #[error("{entry:?}: the file has {expected} bytes, its backup stream {actual}")]
    SizeMismatch {
        /// The entry.
        entry: String,
        /// Bytes of the file.
        expected: u64,
        /// Bytes of the data record.
        actual: u64,
    },
    /// The blocks of a sparse file do not make up a file.
    #[error("{entry:?}: its sparse blocks: {problem}")]
    SparseBlocks {
        /// The entry.
        entry: String,
        /// The problem.
        problem: &'static str,
    },
    /// A named stream in sparse blocks, whose size is unknown before they are read.
    #[error("{entry:?}: its stream {stream:?} is sparse")]
    SparseStream {
        /// The entry.
        entry: String,
        /// The stream's name.
        stream: String,
    },
    /// Reparse data that are not a link, or a broken one.
    #[error("{entry:?}: its reparse data cannot be put into a tar")]
    Reparse {
        /// The entry.
        entry: String,
        /// The reason.
        source: ReparseError,
    },
    /// Extended attributes of a backup stream that cannot be read.
    #[error("{entry:?}: its extended attributes are at fault")]
    EaData {
        /// The entry.
        entry: String,
        /// The problem.
        source: EaError,
    },
}

fn place(after_data: bool) -> &'static str {
    if after_data { "after the data" } else { "before the data" }
}

impl LayerTarError {
    /// The invalid entry, if the error concerns one.
    pub fn entry(&self) -> Option<&str> {
        match self {
            Self::Tar(error) => error.entry(),
            Self::Source { .. } => None,
            Self::Attributes { entry, .. }
            | Self::CreationTime { entry, .. }
            | Self::Base64 { entry, .. }
            | Self::Sddl { entry, .. }
            | Self::Security { entry, .. }
            | Self::ExtendedAttributes { entry, .. }
            | Self::LinkTarget { entry, .. }
            | Self::Sink { entry, .. }
            | Self::Data { entry, .. }
            | Self::BackupStream { entry, .. }
            | Self::UnknownRecord { entry, .. }
            | Self::SizeMismatch { entry, .. }
            | Self::SparseBlocks { entry, .. }
            | Self::SparseStream { entry, .. }
            | Self::Reparse { entry, .. }
            | Self::EaData { entry, .. } => Some(entry),
        }
    }
}
