//! Why a backup stream was refused.

use std::io;

/// Why a backup stream was refused, or could not be written. `offset` is the record's offset in the stream,
/// in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupStreamError {
    /// The source failed.
    #[error("cannot read the backup stream at offset {offset:#x}")]
    Read {
        /// Where reading stopped.
        offset: u64,
        /// The source's error.
        source: io::Error,
    },
    /// The stream ends inside a record's header.
    #[error("the backup stream ends inside the header of the record at offset {offset:#x}")]
    TruncatedHeader {
        /// The record.
        offset: u64,
    },
    /// The stream ends inside a record's data.
    #[error(
        "the backup stream ends {missing} bytes before the record of kind {id} at offset {offset:#x} does"
    )]
    TruncatedData {
        /// The record.
        offset: u64,
        /// Its kind.
        id: u32,
        /// Bytes that are missing.
        missing: u64,
    },
    /// An impossible size of a record.
    #[error("the record of kind {id} at offset {offset:#x} of the backup stream has the size {size}")]
    Size {
        /// The record.
        offset: u64,
        /// Its kind.
        id: u32,
        /// Its size in the header.
        size: i64,
    },
    /// A name that is too long, or half a character too long.
    #[error("the record of kind {id} at offset {offset:#x} of the backup stream has a name of {size} bytes")]
    NameSize {
        /// The record.
        offset: u64,
        /// Its kind.
        id: u32,
        /// Its name's bytes.
        size: u64,
    },
    /// A sparse block that lies before the file's start.
    #[error("the sparse block at offset {offset:#x} of the backup stream lies at {position} in the file")]
    SparseOffset {
        /// The record.
        offset: u64,
        /// Its place in the file.
        position: i64,
    },
    /// A record's data is not complete.
    #[error("{missing} bytes of the backup stream's record of kind {id} were not written")]
    Incomplete {
        /// The record's kind.
        id: u32,
        /// Bytes that are missing.
        missing: u64,
    },
    /// More data than the record's header announced.
    #[error("more data than the {size} bytes of the backup stream's record of kind {id}")]
    TooLong {
        /// The record's kind.
        id: u32,
        /// Its size.
        size: u64,
    },
    /// The destination failed.
    #[error("cannot write the backup stream")]
    Write {
        /// The destination's error.
        source: io::Error,
    },
}

impl From<BackupStreamError> for io::Error {
    fn from(error: BackupStreamError) -> Self {
        let kind = match &error {
            BackupStreamError::Read { source, .. } | BackupStreamError::Write { source } => source.kind(),
            BackupStreamError::TruncatedHeader { .. } | BackupStreamError::TruncatedData { .. } => {
                io::ErrorKind::UnexpectedEof
            }
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
