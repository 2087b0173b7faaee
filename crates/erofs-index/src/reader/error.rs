//! Why an image cannot be read. Every variant names the expected and the actual value.

use std::io;

use super::Nid;

/// Why an image, or a part of it, was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source failed.
    #[error("cannot read {length} bytes of the image at offset {offset:#x}")]
    Io {
        /// First byte.
        offset: u64,
        /// Bytes to read.
        length: usize,
        /// The source's error.
        source: io::Error,
    },
    /// A structure lies beyond the image's end.
    #[error("{what} at offset {offset:#x} takes {length} bytes and leaves the image, which has {limit}")]
    BeyondEnd {
        /// The structure.
        what: &'static str,
        /// Where.
        offset: u64,
        /// Bytes of it.
        length: u64,
        /// Bytes of the image.
        limit: u64,
    },
    /// Not an EROFS image.
    #[error("not an EROFS image: magic number {actual:#010x} instead of {expected:#010x}")]
    Magic {
        /// The number in the image.
        actual: u32,
        /// The number of EROFS.
        expected: u32,
    },
    /// EROFS, but with a feature that this reader does not support.
    #[error("EROFS image with {what} {actual:#x}, only {supported:#x} is supported")]
    UnsupportedImage {
        /// The field.
        what: &'static str,
        /// Its value.
        actual: u64,
        /// The value, or the bits, that are supported.
        supported: u64,
    },
    /// The superblock was changed.
    #[error("superblock has checksum {actual:#010x}, its bytes give {expected:#010x}")]
    Checksum {
        /// Stored.
        actual: u32,
        /// Computed.
        expected: u32,
    },
    /// A field of an inode has an impossible value.
    #[error("inode {nid} has {what} {actual:#x}, at most {limit:#x} allowed")]
    InodeField {
        /// The inode.
        nid: Nid,
        /// The field.
        what: &'static str,
        /// Its value.
        actual: u64,
        /// The largest possible.
        limit: u64,
    },
    /// A layout of data that EROFS knows and this crate does not write.
    #[error("inode {nid} has {what} {actual:#x}, which is not supported here")]
    UnsupportedInode {
        /// The inode.
        nid: Nid,
        /// The field.
        what: &'static str,
        /// Its value.
        actual: u64,
    },
    /// A call for one type of file got another type.
    #[error("inode {nid} is a {actual}, not a {expected}")]
    WrongType {
        /// The inode.
        nid: Nid,
        /// Its type.
        actual: super::FileType,
        /// The type that the call needs.
        expected: super::FileType,
    },
    /// A directory block contradicts itself.
    #[error("directory {nid}, block {block}, entry {entry}: {what} is {actual:#x}, limit {limit:#x}")]
    DirectoryBlock {
        /// The directory.
        nid: Nid,
        /// The block within it.
        block: u64,
        /// The entry within the block.
        entry: usize,
        /// The field.
        what: &'static str,
        /// Its value.
        actual: u64,
        /// The largest, or the only, valid value.
        limit: u64,
    },
    /// An entry has an invalid name.
    #[error("directory {nid}, block {block}, entry {entry}: name {name:?} {problem}")]
    DirectoryName {
        /// The directory.
        nid: Nid,
        /// The block within it.
        block: u64,
        /// The entry within the block.
        entry: usize,
        /// The name, shown lossily.
        name: String,
        /// The problem.
        problem: &'static str,
    },
    /// A list of attributes contradicts itself.
    #[error("attributes of inode {nid} at offset {offset:#x}: {what} is {actual}, limit {limit}")]
    XattrList {
        /// The inode.
        nid: Nid,
        /// Where in the image.
        offset: u64,
        /// The field.
        what: &'static str,
        /// Its value.
        actual: u64,
        /// The largest valid value.
        limit: u64,
    },
    /// A file's chunks do not follow each other on one device.
    #[error(
        "chunk {chunk} of inode {nid} is at block {block} of device {device}, not behind the chunk before"
    )]
    ScatteredChunks {
        /// The file.
        nid: Nid,
        /// The chunk.
        chunk: u64,
        /// Its device.
        device: u16,
        /// Its block.
        block: u32,
    },
    /// A file's data is on a device that the image does not have.
    #[error("data of inode {nid} is on device {device}, the image has 1 to {count}")]
    UnknownDevice {
        /// The file.
        nid: Nid,
        /// The device; 0 would be the image itself, which holds no file data here.
        device: u16,
        /// Devices of the image.
        count: usize,
    },
    /// A file's data leaves its device.
    #[error(
        "{size} bytes of inode {nid} from block {block} on leave device {device}, which has {blocks} blocks"
    )]
    ExtentBeyondDevice {
        /// The file.
        nid: Nid,
        /// The device.
        device: u16,
        /// First block.
        block: u32,
        /// Bytes of the file.
        size: u64,
        /// Blocks of the device.
        blocks: u64,
    },
    /// A directory is reached a second time: below itself, or under two names.
    #[error("directory {nid} is reached again as {path:?}")]
    DirectoryTwice {
        /// The directory.
        nid: Nid,
        /// The second path, shown lossily.
        path: String,
    },
    /// The directories walked claim more bytes than the image has: they overlap.
    #[error("directories down to {path:?} claim {actual} bytes of an image of {limit}")]
    DirectoriesOverlap {
        /// Path of the last one, shown lossily.
        path: String,
        /// Bytes of all directories so far.
        actual: u64,
        /// Bytes of the image.
        limit: u64,
    },
    /// Deeper than any valid path.
    #[error("directory {nid} is more than {limit} levels deep")]
    TooDeep {
        /// The directory.
        nid: Nid,
        /// Most levels.
        limit: usize,
    },
    /// Directory entry and inode disagree about the type.
    #[error("{path:?} is a {entry} by its directory and a {inode} by its inode {nid}")]
    TypeMismatch {
        /// The path, shown lossily.
        path: String,
        /// The inode.
        nid: Nid,
        /// Type in the directory.
        entry: super::FileType,
        /// Type in the inode.
        inode: super::FileType,
    },
}
