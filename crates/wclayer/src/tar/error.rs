//! Why an archive was refused.

use std::io;

/// Why a tar archive was refused, or could not be written.
///
/// `offset` is a byte offset in the archive, of a header unless stated otherwise. `entry` is the name in that
/// header, printed lossily.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The source of the archive failed.
    #[error("cannot read the tar at offset {offset:#x}")]
    Read {
        /// Where reading stopped.
        offset: u64,
        /// The source's error.
        source: io::Error,
    },
    /// The archive ends inside a header.
    #[error("the tar ends inside a header: offset {offset:#x}")]
    TruncatedHeader {
        /// The header's block.
        offset: u64,
    },
    /// The archive ends inside an entry's data.
    #[error(
        "entry {entry:?} at tar offset {offset:#x}: the tar ends {missing} bytes before the end of its data"
    )]
    TruncatedData {
        /// The entry.
        entry: String,
        /// Its first block.
        offset: u64,
        /// Bytes the size field promised and the archive does not have.
        missing: u64,
    },
    /// Neither a header nor the end of the archive.
    #[error("no tar header at offset {offset:#x}: wrong checksum")]
    NoHeader {
        /// The block.
        offset: u64,
    },
    /// One block of zeros, which is half of an archive's end, followed by something else.
    #[error("a block of zeros at tar offset {offset:#x} is followed by something else")]
    HalfAnEnd {
        /// The block of zeros.
        offset: u64,
    },
    /// A header field that does not hold a number.
    #[error("header {entry:?} at tar offset {offset:#x}: {field} is not a number")]
    Number {
        /// The name in the header.
        entry: String,
        /// The header.
        offset: u64,
        /// POSIX' name of the field.
        field: &'static str,
    },
    /// A size below zero.
    #[error("entry {entry:?} at tar offset {offset:#x}: size {size} is negative")]
    NegativeSize {
        /// The entry.
        entry: String,
        /// Its header.
        offset: u64,
        /// The size it states.
        size: i64,
    },
    /// An extended header or a long name beyond [`MAX_SPECIAL_SIZE`](super::MAX_SPECIAL_SIZE), or a lower
    /// limit.
    #[error(
        "extended header {entry:?} at tar offset {offset:#x} is {size} bytes long, at most {limit} are allowed"
    )]
    SpecialTooLong {
        /// The name of the extended header itself.
        entry: String,
        /// The extended header.
        offset: u64,
        /// Its size.
        size: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A PAX record that is not `length key=value\n`.
    #[error("extended header at tar offset {offset:#x}, record {record}: {problem}")]
    PaxRecord {
        /// The extended header.
        offset: u64,
        /// The record's index in it, from 0.
        record: usize,
        /// The problem.
        problem: &'static str,
    },
    /// A standard PAX record whose value is invalid for its key.
    #[error("entry {entry:?} at tar offset {offset:#x}: PAX record {key:?} has the value {value:?}")]
    PaxValue {
        /// The name in the entry's header block.
        entry: String,
        /// The entry's first block.
        offset: u64,
        /// The record's key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A sparse map that does not describe a file.
    #[error("entry {entry:?} at tar offset {offset:#x}: sparse map: {problem}")]
    SparseMap {
        /// The entry.
        entry: String,
        /// Its first block.
        offset: u64,
        /// The problem of the map.
        problem: &'static str,
    },
    /// A sparse file whose data is not as long as its map says.
    #[error(
        "entry {entry:?} at tar offset {offset:#x}: its data is {actual} bytes, its sparse map has {expected}"
    )]
    SparseData {
        /// The entry.
        entry: String,
        /// Its first block.
        offset: u64,
        /// Sum of the map's extents.
        expected: u64,
        /// Bytes in the archive.
        actual: u64,
    },
    /// The caller went on reading after an error.
    #[error("the tar cannot be read on after the error at offset {offset:#x}")]
    Failed {
        /// Where the first error was.
        offset: u64,
    },
    /// A header that neither USTAR nor PAX can hold.
    #[error("entry {entry:?} cannot be written: {problem}")]
    Unwritable {
        /// The entry.
        entry: String,
        /// The reason.
        problem: &'static str,
    },
    /// The data written for an entry is shorter than its header said.
    #[error("entry {entry:?}: {missing} bytes of its data were not written")]
    DataMissing {
        /// The entry.
        entry: String,
        /// Bytes missing.
        missing: u64,
    },
    /// More data than the entry's header announced.
    #[error("entry {entry:?}: more data than the {size} bytes of its header")]
    DataTooLong {
        /// The entry.
        entry: String,
        /// Bytes that the header announced.
        size: u64,
    },
    /// The destination of the archive failed.
    #[error("entry {entry:?}: cannot write the tar")]
    Write {
        /// The entry being written; empty before the first and at the end.
        entry: String,
        /// The destination's error.
        source: io::Error,
    },
}

impl TarError {
    /// The invalid entry, if the error concerns one.
    pub fn entry(&self) -> Option<&str> {
        match self {
            Self::TruncatedData { entry, .. }
            | Self::SpecialTooLong { entry, .. }
            | Self::Number { entry, .. }
            | Self::NegativeSize { entry, .. }
            | Self::PaxValue { entry, .. }
            | Self::SparseMap { entry, .. }
            | Self::SparseData { entry, .. }
            | Self::Unwritable { entry, .. }
            | Self::DataMissing { entry, .. }
            | Self::DataTooLong { entry, .. }
            | Self::Write { entry, .. } => Some(entry),
            Self::Read { .. }
            | Self::TruncatedHeader { .. }
            | Self::NoHeader { .. }
            | Self::HalfAnEnd { .. }
            | Self::PaxRecord { .. }
            | Self::Failed { .. } => None,
        }
    }
}

/// A name for an error message.
pub(super) fn lossy(name: &[u8]) -> String {
    // An attacker's name may be a megabyte long; an error message need not.
    const SHOWN: usize = 1024;
    if name.len() <= SHOWN {
        return String::from_utf8_lossy(name).into_owned();
    }
    format!("{}… ({} bytes)", String::from_utf8_lossy(&name[..SHOWN]), name.len())
}

impl From<TarError> for io::Error {
    fn from(error: TarError) -> Self {
        let kind = match &error {
            TarError::Read { source, .. } | TarError::Write { source, .. } => source.kind(),
            TarError::TruncatedHeader { .. } | TarError::TruncatedData { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
