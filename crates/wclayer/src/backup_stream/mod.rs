//! Win32 backup streams: a file as one sequence of bytes.
//!
//! `BackupRead` turns a file into this format and `BackupWrite` turns it back: one record after the other for
//! security descriptor, data, named streams, extended attributes, reparse data. Layers go to and come from
//! Windows in this format, so records are kept as they are: unknown kinds, attributes, odd names.
//!
//! ```text
//! 0        4            8          16          20       20+n
//! | kind   | attributes | size     | name n    | name   | data, size bytes | next record …
//! ```
//! The data of a [`SPARSE_BLOCK`] starts with 8 bytes, its offset in the file; [`StreamHeader`] takes them
//! out of the data. There is no padding and no end mark.
//!
//! [`MAX_NAME_SIZE`] bounds the memory, whatever sizes a stream claims.
//!
//! Source: `WIN32_STREAM_ID` (winbase.h); \[MS-BKUP\]; go-winio `backup.go` as recorded in `vectors/`.

mod error;
mod reader;
mod writer;

pub use error::BackupStreamError;
pub use reader::Reader;
pub use writer::Writer;

use zerocopy::byteorder::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `BACKUP_DATA`: the file's data. Its name is empty.
pub const DATA: u32 = 1;
/// `BACKUP_EA_DATA`: extended attributes, see [`crate::ea`].
pub const EA_DATA: u32 = 2;
/// `BACKUP_SECURITY_DATA`: the security descriptor, self-relative.
pub const SECURITY_DATA: u32 = 3;
/// `BACKUP_ALTERNATE_DATA`: a named stream; the name is `:name:$DATA`.
pub const ALTERNATE_DATA: u32 = 4;
/// `BACKUP_LINK`: other names of the file.
pub const LINK: u32 = 5;
/// `BACKUP_PROPERTY_DATA`: unused since Windows 2000.
pub const PROPERTY_DATA: u32 = 6;
/// `BACKUP_OBJECT_ID`: the file's object ID.
pub const OBJECT_ID: u32 = 7;
/// `BACKUP_REPARSE_DATA`: the reparse buffer, see [`crate::reparse`].
pub const REPARSE_DATA: u32 = 8;
/// `BACKUP_SPARSE_BLOCK`: a part of the data or named stream before it, which is empty then. The last of them
/// is empty and lies at the end of the file.
pub const SPARSE_BLOCK: u32 = 9;
/// `BACKUP_TXFS_DATA`: state of transactional NTFS.
pub const TXFS_DATA: u32 = 10;
/// `BACKUP_GHOSTED_FILE_EXTENTS`: extents that are not on the volume.
pub const GHOSTED_FILE_EXTENTS: u32 = 11;

/// `STREAM_MODIFIED_WHEN_READ`.
pub const STREAM_MODIFIED_WHEN_READ: u32 = 1;
/// `STREAM_CONTAINS_SECURITY`.
pub const STREAM_CONTAINS_SECURITY: u32 = 2;
/// `STREAM_CONTAINS_PROPERTIES`.
pub const STREAM_CONTAINS_PROPERTIES: u32 = 4;
/// `STREAM_SPARSE_ATTRIBUTE`: the data is, or may be, in [`SPARSE_BLOCK`]s.
pub const STREAM_SPARSE_ATTRIBUTE: u32 = 8;

/// Most bytes of a name. Windows keeps it in a `UNICODE_STRING`, whose length has 16 bits; the field here has
/// 32 and is untrusted.
pub const MAX_NAME_SIZE: u32 = 0xfffe;

/// One record, without its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// The kind, kept as the raw number: one this version does not know still round-trips.
    pub id: u32,
    /// `STREAM_*` bits.
    pub attributes: u32,
    /// Bytes of data; those of a sparse block without its position.
    pub size: u64,
    /// The name as WTF-8, which keeps invalid UTF-16.
    pub name: Vec<u8>,
    /// The offset of a [`SPARSE_BLOCK`] in the file; 0 for other kinds.
    pub sparse_offset: u64,
}

impl StreamHeader {
    /// A record without name and attributes.
    pub fn new(id: u32, size: u64) -> Self {
        Self { id, size, ..Self::default() }
    }

    /// A named stream; `name` has neither the colon before nor the `:$DATA` behind it.
    pub fn alternate(name: &[u8], size: u64) -> Self {
        Self { name: [b":", name, b":$DATA"].concat(), ..Self::new(ALTERNATE_DATA, size) }
    }
}

/// Header of a record as it lies in a stream. Source: `WIN32_STREAM_ID` (winbase.h).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    /// `BACKUP_*`.
    id: U32,
    /// `STREAM_*`.
    attributes: U32,
    /// Bytes after the name. Signed in the source; negative is refused.
    size: I64,
    /// Bytes, not characters, of the UTF-16LE name that follows.
    name_size: U32,
}
const _: () = assert!(size_of::<RawHeader>() == 20);

/// Bytes of a sparse block's position.
const SPARSE_OFFSET_SIZE: u64 = 8;
