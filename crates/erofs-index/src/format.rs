//! The parts of the EROFS format that this crate writes and reads.
//!
//! One structure of the file system is one type here, little-endian and without padding, to be read beside a
//! hexdump: a blank line every 16 bytes. Sizes are asserted at compile time. Names follow
//! `fs/erofs/erofs_fs.h` of Linux 6.18 (dual-licensed header, read for its facts) and
//! `Documentation/filesystems/erofs.rst`; formulas are at their fields. `docs/erofs-index.md` draws the whole
//! image.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// log2 of [`BLOCK_SIZE`]; the smallest that EROFS allows, and exactly a tar's.
pub(crate) const BLOCK_BITS: u8 = 9;
/// Bytes of a block: a tar's data begins on such a block, so that an index can point at it.
pub const BLOCK_SIZE: usize = 1 << BLOCK_BITS;
/// Offset of the superblock; the bytes before it are left for boot sectors.
pub(crate) const SUPERBLOCK_OFFSET: usize = 1024;
/// `EROFS_SUPER_MAGIC_V1`.
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
/// Bytes that the superblock's checksum covers, from the superblock on: one block. (With blocks above 1024
/// bytes it would be the rest of the first block.)
pub(crate) const CHECKSUMMED: usize = BLOCK_SIZE;

/// The superblock carries a checksum.
pub(crate) const COMPAT_CHECKSUM: u32 = 0x1;
/// `i_mtime` is the time of modification, not of change.
pub(crate) const COMPAT_MTIME: u32 = 0x2;
/// [`XattrHeader::name_filter`] is filled in.
pub(crate) const COMPAT_XATTR_FILTER: u32 = 0x4;
/// Some file is chunk-based.
pub(crate) const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
/// There is a device table.
pub(crate) const INCOMPAT_DEVICE_TABLE: u32 = 0x8;

/// The superblock, which a mount reads first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SuperBlock {
    /// [`MAGIC`].
    pub(crate) magic: U32,
    /// CRC-32C of [`CHECKSUMMED`] bytes from the superblock on, with this field zero: register starts at all
    /// ones and is not inverted at the end.
    pub(crate) checksum: U32,
    /// `COMPAT_*` bits: a reader that does not know one may go on.
    pub(crate) feature_compat: U32,
    /// [`BLOCK_BITS`].
    pub(crate) block_bits: u8,
    /// The superblock's size is 128 + 16 × this.
    pub(crate) extension_slots: u8,
    /// Root directory. 16 bits: the root inode must lie within the first 2 MiB after `meta_block`.
    pub(crate) root_nid: U16,

    /// Inodes in the image.
    pub(crate) inodes: U64,
    /// Time of compact inodes (which this crate does not write), seconds since 1970.
    pub(crate) epoch: I64,

    /// Nanoseconds of `epoch`.
    pub(crate) epoch_nanos: U32,
    /// Blocks of the image itself, without its devices.
    pub(crate) blocks: U32,
    /// Inode `nid` is at byte `meta_block` × 512 + `nid` × 32.
    pub(crate) meta_block: U32,
    /// Shared attribute `id` is at byte `xattr_block` × 512 + `id` × 4.
    pub(crate) xattr_block: U32,

    /// Identifies the volume.
    pub(crate) uuid: [u8; 16],

    /// Label, NUL-terminated.
    pub(crate) volume_name: [u8; 16],

    /// `INCOMPAT_*` bits: a reader that does not know one must refuse.
    pub(crate) feature_incompat: U32,
    /// Compression algorithms, none here.
    pub(crate) compression: U16,
    /// Slots of the device table.
    pub(crate) devices: U16,
    /// The device table is at byte 128 × this.
    pub(crate) device_slot: U16,
    /// log2 of directory block size over block size; only 0 exists.
    pub(crate) directory_block_bits: u8,
    /// Long attribute name prefixes, none here.
    pub(crate) xattr_prefixes: u8,
    /// Start of those prefixes.
    pub(crate) xattr_prefix_start: U32,

    /// Inode of packed fragments, none here.
    pub(crate) packed_nid: U64,
    /// Not zero if the name filter's meaning changed.
    pub(crate) xattr_filter_reserved: u8,
    /// Zero in images without later features.
    pub(crate) reserved: [u8; 23],
}
const _: () = assert!(size_of::<SuperBlock>() == 128);

/// One device besides the image: slot `n` is what chunk indexes call device `n + 1`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DeviceTableSlot {
    /// Free text that names the device, NUL-padded; SHA-256 in hexadecimal fits exactly.
    pub(crate) tag: [u8; 64],

    /// Blocks on the device.
    pub(crate) blocks: U32,
    /// Start of the device if all are joined into one; 0 if it has none.
    pub(crate) unified_block: U32,
    /// Zero.
    pub(crate) reserved: [u8; 56],
}
const _: () = assert!(size_of::<DeviceTableSlot>() == 128);

/// Inodes begin at multiples of this.
pub(crate) const INODE_SLOT: usize = 32;
/// `i_format` bit 0: the 64-byte form.
pub(crate) const FORMAT_EXTENDED: u16 = 1;
/// `i_format` bits 1 to 3: how the data is laid out.
pub(crate) const FORMAT_LAYOUT_SHIFT: u16 = 1;
/// Data in blocks from `i_u` on.
pub(crate) const LAYOUT_FLAT_PLAIN: u16 = 0;
/// Likewise, but the last block's bytes follow the inode and its attributes, without crossing a block.
pub(crate) const LAYOUT_FLAT_INLINE: u16 = 2;
/// Data in chunks; their indexes follow the inode and its attributes, 8-byte aligned.
pub(crate) const LAYOUT_CHUNK_BASED: u16 = 4;

/// Chunk format bits 0 to 4: log2 of a chunk's size in blocks.
pub(crate) const CHUNK_BITS_MASK: u16 = 0x1f;
/// Chunk format bit 5: [`ChunkIndex`]es, not mere block numbers.
pub(crate) const CHUNK_INDEXES: u16 = 0x20;

/// An inode in its 64-byte form: the only one with 64-bit times of its own.
///
/// Behind it, in this order: attributes (`xattr_count`), then inline data or chunk indexes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtendedInode {
    /// `FORMAT_*` and layout.
    pub(crate) format: U16,
    /// Attributes take 12 + 4 × (this − 1) bytes; 0: none.
    pub(crate) xattr_count: U16,
    /// File type and permissions, as `st_mode`.
    pub(crate) mode: U16,
    /// Zero.
    pub(crate) reserved: U16,
    /// Size in bytes.
    pub(crate) size: U64,

    /// First data block, device number or chunk format: the type and the layout decide.
    pub(crate) union: U32,
    /// Number for 32-bit `stat`; 1 and up in the image's order.
    pub(crate) ino: U32,
    /// Owner.
    pub(crate) uid: U32,
    /// Group.
    pub(crate) gid: U32,

    /// Seconds since 1970. Two's complement: the kernel assigns it to a signed `time64_t`.
    pub(crate) mtime: I64,
    /// Nanoseconds of `mtime`, below 10⁹.
    pub(crate) mtime_nanos: U32,
    /// Names that reach it; a directory: 2 + subdirectories.
    pub(crate) nlink: U32,

    /// Zero.
    pub(crate) reserved2: [u8; 16],
}
const _: () = assert!(size_of::<ExtendedInode>() == 64);

/// The place of one chunk of a file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ChunkIndex {
    /// Zero (high bits of the block, in images with 48-bit addresses).
    pub(crate) block_high: U16,
    /// 0: the image itself, `n`: slot `n − 1` of the device table.
    pub(crate) device: U16,
    /// First block on that device, or [`NO_BLOCK`].
    pub(crate) block: U32,
}
const _: () = assert!(size_of::<ChunkIndex>() == 8);

/// A chunk without a block reads as zeros.
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// Begins a non-empty list of attributes. Behind it: identifiers of shared attributes, 4 bytes each, then
/// [`XattrEntry`]s up to the size that the inode gives.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrHeader {
    /// Bit set: no attribute here has this hash, see `xattr_filter`.
    pub(crate) name_filter: U32,
    /// Number of identifiers that follow.
    pub(crate) shared_count: u8,
    /// Zero.
    pub(crate) reserved: [u8; 7],
}
const _: () = assert!(size_of::<XattrHeader>() == 12);

/// An attribute. Behind it: name, value, zeros up to a multiple of 4.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrEntry {
    /// Bytes of the name, the namespace's prefix not counted.
    pub(crate) name_length: u8,
    /// `XATTR_*`.
    pub(crate) namespace: u8,
    /// Bytes of the value.
    pub(crate) value_length: U16,
}
const _: () = assert!(size_of::<XattrEntry>() == 4);

/// Attributes are aligned to this, and the identifiers of shared ones count in it.
pub(crate) const XATTR_UNIT: usize = 4;
/// `user.`
pub(crate) const XATTR_USER: u8 = 1;
/// `trusted.`
pub(crate) const XATTR_TRUSTED: u8 = 4;
/// `security.`
pub(crate) const XATTR_SECURITY: u8 = 6;

/// One entry of a directory block. A block holds its entries, then their names without terminators; the last
/// name ends at a NUL or at the block's (or the directory's) end. Names ascend bytewise through the whole
/// directory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Dirent {
    /// The inode.
    pub(crate) nid: U64,
    /// Offset of the name in this block; that of the first entry is thus 12 × the number of entries.
    pub(crate) name_offset: U16,
    /// `FT_*`.
    pub(crate) file_type: u8,
    /// Zero.
    pub(crate) reserved: u8,
}
const _: () = assert!(size_of::<Dirent>() == 12);

/// Regular file.
pub(crate) const FT_REGULAR: u8 = 1;
/// Directory.
pub(crate) const FT_DIRECTORY: u8 = 2;
/// Character device.
pub(crate) const FT_CHAR_DEVICE: u8 = 3;
/// Symbolic link.
pub(crate) const FT_SYMLINK: u8 = 7;

/// File type bits of `mode`.
pub(crate) const S_IFMT: u16 = 0o170_000;
/// Character device.
pub(crate) const S_IFCHR: u16 = 0o020_000;
/// Directory.
pub(crate) const S_IFDIR: u16 = 0o040_000;
/// Regular file.
pub(crate) const S_IFREG: u16 = 0o100_000;
/// Symbolic link.
pub(crate) const S_IFLNK: u16 = 0o120_000;

/// Longest file name, of the format (`EROFS_NAME_LEN`) and of Linux (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Longest target of a symbolic link: Linux reads it into one page of 4,096 bytes and ends it with a NUL.
pub const SYMLINK_MAX: usize = 4095;
/// Most bytes of an inode's attributes: the largest `xattr_count`.
pub const XATTR_BODY_MAX: usize = size_of::<XattrHeader>() + XATTR_UNIT * (u16::MAX as usize - 1);

/// Longest value of an attribute: its length has 16 bits, so it is one byte short of Linux' own 64 KiB.
pub const XATTR_VALUE_MAX: usize = u16::MAX as usize;
/// Longest name of an attribute, its prefix included: `XATTR_NAME_MAX` of Linux, which refuses longer ones.
pub const XATTR_NAME_MAX: usize = 255;
/// Most bytes of the names of one inode's attributes, with prefixes and NULs: `XATTR_LIST_MAX` of Linux,
/// `listxattr` fails above.
pub const XATTR_LIST_MAX: usize = 65_536;

/// The superblock's checksum over `block`, [`CHECKSUMMED`] bytes that begin with a superblock whose own
/// checksum is taken as zero.
pub(crate) fn superblock_checksum(block: &[u8; CHECKSUMMED]) -> u32 {
    let (before, rest) = block.split_at(4);
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    !crc32c::crc32c_append(crc, &rest[4..])
}
