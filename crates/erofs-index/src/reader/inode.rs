//! Inodes: metadata, and the place of their data.

use std::fmt;

use super::{Image, ReadAt, ReadError};
use crate::format::{
    self, BLOCK_SIZE, CHUNK_BITS_MASK, CHUNK_INDEXES, ChunkIndex, ExtendedInode, FORMAT_EXTENDED,
    FORMAT_LAYOUT_SHIFT, INODE_SLOT, LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE, LAYOUT_FLAT_PLAIN, XATTR_UNIT,
    XattrHeader,
};
use crate::{DeviceId, Extent};

/// An inode's number: its offset in units of 32 bytes. The kernel shows it as `st_ino`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nid(pub u64);

impl fmt::Display for Nid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The types of files that images of this crate have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device; in overlayfs, device 0:0 marks a deleted name.
    CharDevice,
}

impl FileType {
    fn from_mode(mode: u16) -> Option<Self> {
        match mode & format::S_IFMT {
            format::S_IFREG => Some(Self::Regular),
            format::S_IFDIR => Some(Self::Directory),
            format::S_IFLNK => Some(Self::Symlink),
            format::S_IFCHR => Some(Self::CharDevice),
            _ => None,
        }
    }

    pub(super) fn from_dirent(file_type: u8) -> Option<Self> {
        match file_type {
            format::FT_REGULAR => Some(Self::Regular),
            format::FT_DIRECTORY => Some(Self::Directory),
            format::FT_SYMLINK => Some(Self::Symlink),
            format::FT_CHAR_DEVICE => Some(Self::CharDevice),
            _ => None,
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Regular => "regular file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::CharDevice => "character device",
        })
    }
}

/// One inode of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InodeInfo {
    /// Its number. Names with the same number are hard links.
    pub nid: Nid,
    /// Its type.
    pub kind: FileType,
    /// Permissions: the lower 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds since 1970, which may be negative, and nanoseconds below 10⁹.
    pub mtime: (i64, u32),
    /// Names; a directory: 2 + its subdirectories.
    pub nlink: u32,
    /// Bytes: of a file, a target, or a directory's entries.
    pub size: u64,
    /// Device number of a character device, in Linux' 32-bit encoding; else 0.
    pub rdev: u32,
    layout: u16,
    union: u32,
    /// The inode's offset; `open` and `inode` have checked that it lies in the image.
    offset: u64,
    xattr_bytes: u32,
}

/// Two of the largest chunks hold as many blocks as a device can have; the writer uses no smaller ones than
/// needed.
const CHUNKS_MAX: u64 = 2;

impl InodeInfo {
    pub(super) fn xattr_range(&self) -> (u64, usize) {
        (self.offset + size_of::<ExtendedInode>() as u64, self.xattr_bytes as usize)
    }

    /// Earliest offset of inline data or chunk indexes.
    fn behind_xattrs(&self) -> u64 {
        let (offset, length) = self.xattr_range();
        offset + length as u64
    }

    pub(super) fn check_type(&self, expected: FileType) -> Result<(), ReadError> {
        match self.kind == expected {
            true => Ok(()),
            false => Err(ReadError::WrongType { nid: self.nid, actual: self.kind, expected }),
        }
    }
}

impl<S: ReadAt> Image<S> {
    /// Reads an inode.
    pub fn inode(&self, nid: Nid) -> Result<InodeInfo, ReadError> {
        let meta = u64::from(self.superblock.meta_block.get()) * BLOCK_SIZE as u64;
        let offset = nid.0.saturating_mul(INODE_SLOT as u64).saturating_add(meta);
        let raw: ExtendedInode = self.read_struct("inode", offset)?;
        let info = parse(nid, offset, &raw)?;
        let (xattrs, length) = info.xattr_range();
        self.check_range("list of attributes", xattrs, length as u64)?;
        if info.kind == FileType::Directory && info.size > self.length {
            return Err(ReadError::InodeField { nid, what: "size", actual: info.size, limit: self.length });
        }
        Ok(info)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, link: &InodeInfo) -> Result<Vec<u8>, ReadError> {
        link.check_type(FileType::Symlink)?;
        let mut target = Vec::new();
        for block in 0..link.size.div_ceil(BLOCK_SIZE as u64) {
            let mut buffer = [0; BLOCK_SIZE];
            let length = self.read_data_block(link, block, &mut buffer)?;
            target.extend_from_slice(&buffer[..length]);
        }
        Ok(target)
    }

    /// The place of a regular file's bytes; `None` if it has none, or only zeros.
    ///
    /// # Errors
    /// Not a regular file; data in the image itself, outside of its device, or in pieces.
    pub fn extent(&self, file: &InodeInfo) -> Result<Option<Extent>, ReadError> {
        file.check_type(FileType::Regular)?;
        if file.size == 0 {
            return Ok(None);
        }
        let chunk_blocks = 1_u64 << (file.union as u16 & CHUNK_BITS_MASK);
        let chunks = file.size.div_ceil(BLOCK_SIZE as u64).div_ceil(chunk_blocks);
        if chunks > CHUNKS_MAX {
            let what = "a number of chunks";
            return Err(ReadError::UnsupportedInode { nid: file.nid, what, actual: chunks });
        }
        let table = file.behind_xattrs().next_multiple_of(size_of::<ChunkIndex>() as u64);
        let first: ChunkIndex = self.read_struct("chunk index", table)?;
        for number in 1..chunks {
            let place = table + number * size_of::<ChunkIndex>() as u64;
            let index: ChunkIndex = self.read_struct("chunk index", place)?;
            if !follows(&first, &index, number * chunk_blocks) {
                let (device, block) = (index.device.get(), index.block.get());
                return Err(ReadError::ScatteredChunks { nid: file.nid, chunk: number, device, block });
            }
        }
        self.check_extent(file, &first)
    }

    fn check_extent(&self, file: &InodeInfo, first: &ChunkIndex) -> Result<Option<Extent>, ReadError> {
        let (nid, size, device, block) = (file.nid, file.size, first.device.get(), first.block.get());
        if block == format::NO_BLOCK {
            return Ok(None);
        }
        if first.block_high.get() != 0 {
            let actual = first.block_high.get().into();
            return Err(ReadError::UnsupportedInode { nid, what: "block number above 32 bits", actual });
        }
        let slot = device.checked_sub(1).and_then(|index| self.devices.get(usize::from(index)));
        let blocks = match slot {
            Some(slot) => slot.blocks,
            None => return Err(ReadError::UnknownDevice { nid, device, count: self.devices.len() }),
        };
        match u64::from(block) + size.div_ceil(BLOCK_SIZE as u64) <= blocks {
            true => Ok(Some(Extent { device: DeviceId(device), block: block.into() })),
            false => Err(ReadError::ExtentBeyondDevice { nid, device, block, size, blocks }),
        }
    }

    /// Reads block `number` of the data of a directory or symbolic link; returns how much of it is data.
    pub(super) fn read_data_block(
        &self,
        inode: &InodeInfo,
        number: u64,
        buffer: &mut [u8; BLOCK_SIZE],
    ) -> Result<usize, ReadError> {
        let block = BLOCK_SIZE as u64;
        let length = inode.size.saturating_sub(number.saturating_mul(block)).min(block) as usize;
        let last = inode.size.div_ceil(block).saturating_sub(1);
        let offset = if inode.layout == LAYOUT_FLAT_INLINE && number == last {
            let offset = inode.behind_xattrs();
            let within = offset % block + length as u64;
            if within > block {
                let what = "end of its inline data within a block";
                return Err(ReadError::InodeField { nid: inode.nid, what, actual: within, limit: block });
            }
            offset
        } else {
            number.saturating_add(inode.union.into()).saturating_mul(block)
        };
        self.read("data", offset, &mut buffer[..length])?;
        Ok(length)
    }
}

fn follows(first: &ChunkIndex, index: &ChunkIndex, blocks: u64) -> bool {
    match first.block.get() {
        format::NO_BLOCK => index.block.get() == format::NO_BLOCK,
        block => index.device == first.device && u64::from(index.block.get()) == u64::from(block) + blocks,
    }
}

fn parse(nid: Nid, offset: u64, raw: &ExtendedInode) -> Result<InodeInfo, ReadError> {
    let format = raw.format.get();
    let unsupported = |what, actual: u64| Err(ReadError::UnsupportedInode { nid, what, actual });
    let too_large = |what, actual: u64, limit: u64| Err(ReadError::InodeField { nid, what, actual, limit });
    let layout = format >> FORMAT_LAYOUT_SHIFT;
    if format & FORMAT_EXTENDED == 0 {
        return unsupported("a 32-byte form: format", format.into());
    }
    let Some(kind) = FileType::from_mode(raw.mode.get()) else {
        return unsupported("file type and mode", raw.mode.get().into());
    };
    let (size, union) = (raw.size.get(), raw.union.get());
    let supported = match kind {
        FileType::Regular => layout == LAYOUT_CHUNK_BASED || size == 0,
        FileType::Directory | FileType::Symlink => matches!(layout, LAYOUT_FLAT_PLAIN | LAYOUT_FLAT_INLINE),
        FileType::CharDevice => layout == LAYOUT_FLAT_PLAIN,
    };
    if !supported {
        return unsupported("data layout", layout.into());
    }
    if kind == FileType::Regular
        && size > 0
        && union & !u32::from(CHUNK_BITS_MASK) != u32::from(CHUNK_INDEXES)
    {
        return unsupported("chunk format", union.into());
    }
    let limit = match kind {
        FileType::Symlink => format::SYMLINK_MAX as u64,
        _ => i64::MAX as u64,
    };
    if size > limit {
        return too_large("size", size, limit);
    }
    let nanos = raw.mtime_nanos.get();
    if nanos >= 1_000_000_000 {
        return too_large("nanoseconds", nanos.into(), 999_999_999);
    }
    let xattr_bytes = match raw.xattr_count.get() {
        0 => 0,
        count => size_of::<XattrHeader>() + XATTR_UNIT * (usize::from(count) - 1),
    };
    Ok(InodeInfo {
        nid,
        kind,
        mode: raw.mode.get() & !format::S_IFMT,
        uid: raw.uid.get(),
        gid: raw.gid.get(),
        mtime: (raw.mtime.get(), nanos),
        nlink: raw.nlink.get(),
        size,
        rdev: if kind == FileType::CharDevice { union } else { 0 },
        layout,
        union,
        offset,
        xattr_bytes: xattr_bytes as u32,
    })
}
