//! Why a tree cannot become an image. Limits come with their numbers.

use std::io;

use super::InodeId;
use crate::{DeviceId, Namespace};

/// Why [`ImageBuilder`](super::ImageBuilder) refused a call. Names are shown lossily; the caller knows the
/// bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Linux and the format allow names of 1 to 255 bytes.
    #[error("name {name:?} has {actual} bytes, 1 to {limit} allowed")]
    NameLength {
        /// The name.
        name: String,
        /// Its bytes.
        actual: usize,
        /// Most bytes of a name.
        limit: usize,
    },
    /// `/`, NUL, `.` and `..` have their own meaning in a path.
    #[error("name {name:?} cannot be in a directory: it is `.` or `..`, or contains `/` or NUL")]
    NameReserved {
        /// The name.
        name: String,
    },
    /// Two entries of one directory have the same name.
    #[error("directory {directory:?} has two entries named {name:?}")]
    NameTwice {
        /// Path of the directory from the root; the root is empty.
        directory: String,
        /// The name.
        name: String,
    },
    /// An identifier that is not from this builder.
    #[error("inode {inode:?} is unknown, this image has {count}")]
    UnknownInode {
        /// The identifier.
        inode: InodeId,
        /// Inodes added so far.
        count: usize,
    },
    /// Only directories can have entries.
    #[error("cannot put {name:?} into inode {inode:?}, which is not a directory")]
    NotADirectory {
        /// The inode.
        inode: InodeId,
        /// The name.
        name: String,
    },
    /// The root must be a directory.
    #[error("the root must be a directory")]
    RootNotADirectory,
    /// A directory has one name; the root has none.
    #[error("cannot link directory {inode:?} as {name:?}: it is the root or has a name already")]
    DirectoryLinkedTwice {
        /// The directory.
        inode: InodeId,
        /// The name that it cannot have.
        name: String,
    },
    /// An inode that no path reaches: it was never linked, or only below itself.
    #[error("inode {inode:?} cannot be reached from the root")]
    Unreachable {
        /// The first such inode.
        inode: InodeId,
    },
    /// Only `0o7777` are permissions; the type comes from the kind.
    #[error("mode {mode:#o} has bits besides permissions (0o7777)")]
    Mode {
        /// The mode.
        mode: u16,
    },
    /// A second has 10⁹ nanoseconds.
    #[error("time has {nanos} nanoseconds, fewer than 1000000000 allowed")]
    Nanoseconds {
        /// The nanoseconds.
        nanos: u32,
    },
    /// Linux follows targets of 1 to 4095 bytes.
    #[error("symbolic link target {target:?} has {actual} bytes, 1 to {limit} allowed")]
    TargetLength {
        /// The target.
        target: String,
        /// Its bytes.
        actual: usize,
        /// Most bytes of a target.
        limit: usize,
    },
    /// A target ends at its first NUL.
    #[error("symbolic link target {target:?} contains a NUL")]
    TargetNul {
        /// The target.
        target: String,
    },
    /// Block numbers have 32 bits.
    #[error("device has {blocks} blocks of 512 bytes, at most {limit} allowed")]
    DeviceTooLarge {
        /// Blocks of the device.
        blocks: u64,
        /// Most blocks.
        limit: u64,
    },
    /// A device's tag has 64 bytes.
    #[error("device tag {tag:?} has {actual} bytes, at most {limit} allowed")]
    TagLength {
        /// The tag.
        tag: String,
        /// Its bytes.
        actual: usize,
        /// Most bytes.
        limit: usize,
    },
    /// The root inode must lie in the first 2 MiB, and the device table lies before it.
    #[error("an image can have at most {limit} devices")]
    TooManyDevices {
        /// Most devices.
        limit: usize,
    },
    /// An extent on a device that this builder does not have.
    #[error("device {device:?} is unknown, this image has {count}")]
    UnknownDevice {
        /// The device.
        device: DeviceId,
        /// Devices added so far.
        count: usize,
    },
    /// A file's data does not lie on its device.
    #[error("{size} bytes from block {block} on leave device {device:?}, which has {blocks} blocks")]
    ExtentBeyondDevice {
        /// The device.
        device: DeviceId,
        /// First block.
        block: u64,
        /// Bytes of the file.
        size: u64,
        /// Blocks of the device.
        blocks: u64,
    },
    /// Sizes are bounded by the 32-bit block numbers of a device, for holes too.
    #[error("file of {size} bytes is too large, at most {limit} allowed")]
    FileTooLarge {
        /// Bytes of the file.
        size: u64,
        /// Most bytes.
        limit: u64,
    },
    /// An attribute set that this builder does not have.
    #[error("attribute set {set} is unknown, this image has {count}")]
    UnknownXattrSet {
        /// The set's number.
        set: u32,
        /// Sets added so far.
        count: usize,
    },
    /// Linux accepts names of at most 255 bytes, prefix included.
    #[error("attribute {}{name:?} has a name of {actual} bytes, {minimum} to {limit} allowed", namespace.prefix())]
    XattrNameLength {
        /// The namespace.
        namespace: Namespace,
        /// The name behind the prefix.
        name: String,
        /// Bytes with the prefix.
        actual: usize,
        /// Fewest bytes with the prefix.
        minimum: usize,
        /// Most bytes with the prefix.
        limit: usize,
    },
    /// An attribute's name ends at its first NUL.
    #[error("attribute {}{name:?} has a NUL in its name", namespace.prefix())]
    XattrNameNul {
        /// The namespace.
        namespace: Namespace,
        /// The name behind the prefix.
        name: String,
    },
    /// The format stores a value's length in 16 bits.
    #[error("attribute {}{name:?} has a value of {actual} bytes, at most {limit} allowed", namespace.prefix())]
    XattrValueLength {
        /// The namespace.
        namespace: Namespace,
        /// The name behind the prefix.
        name: String,
        /// Bytes of the value.
        actual: usize,
        /// Most bytes of a value.
        limit: usize,
    },
    /// One set has the same name twice.
    #[error("attribute {}{name:?} is given twice", namespace.prefix())]
    XattrTwice {
        /// The namespace.
        namespace: Namespace,
        /// The name behind the prefix.
        name: String,
    },
    /// The names of one inode must fit into what `listxattr` may return.
    #[error("{count} attribute names take {actual} bytes, at most {limit} allowed")]
    XattrListLength {
        /// Attributes in the set.
        count: usize,
        /// Bytes of all names, with prefixes and NULs.
        actual: usize,
        /// Most bytes.
        limit: usize,
    },
    /// The format counts the attributes beside an inode in units of 4 bytes, with 16 bits.
    #[error("{count} attributes take {actual} bytes beside their inode, at most {limit} allowed")]
    XattrSetLength {
        /// Attributes in the set.
        count: usize,
        /// Bytes that they take beside an inode.
        actual: usize,
        /// Most bytes.
        limit: usize,
    },
    /// A builder counts its items in 32 bits.
    #[error("image has too many {what}: more than {limit}")]
    TooMany {
        /// The kind of item.
        what: &'static str,
        /// Most items.
        limit: u64,
    },
    /// Block numbers have 32 bits.
    #[error("image would take {blocks} blocks of 512 bytes, at most {limit} allowed")]
    ImageTooLarge {
        /// Blocks of the image.
        blocks: u64,
        /// Most blocks.
        limit: u64,
    },
    /// The destination refused bytes.
    #[error("cannot write the image at offset {offset}")]
    Write {
        /// Bytes written before.
        offset: u64,
        /// The destination's error.
        source: io::Error,
    },
}

/// A name as error messages show it.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
