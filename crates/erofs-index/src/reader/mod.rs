//! The reader: reads the tree in an untrusted image, without privileges.
//!
//! Every offset, length and count is checked before it is used, and errors name the place and the values.
//! Nothing recurses, memory does not depend on the values of fields, and [`Image::walk`] ends on images whose
//! directories form loops. Features of EROFS that [`crate::ImageBuilder`] does not write (compression, short
//! inodes, file data in the image) are refused by name.

mod cache;
mod directory;
mod error;
mod inode;
mod source;
mod walk;
mod xattrs;

pub use cache::Cached;
pub use directory::{DirEntry, DirPlace, ReadDir};
pub use error::ReadError;
pub use inode::{FileType, InodeInfo, Nid};
pub use source::ReadAt;
pub use walk::{Walk, WalkEntry};
pub use xattrs::Xattr;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::DeviceId;
use crate::format::{self, BLOCK_SIZE, CHECKSUMMED, DeviceTableSlot, SUPERBLOCK_OFFSET, SuperBlock};

/// An open image.
#[derive(Debug)]
pub struct Image<S> {
    source: S,
    /// Bytes that belong to the image; the source may be longer.
    length: u64,
    superblock: SuperBlock,
    devices: Vec<DeviceSlot>,
}

/// One device of an image, besides the image itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceSlot {
    /// Its number in extents.
    pub id: DeviceId,
    /// Its size in blocks of 512 bytes.
    pub blocks: u64,
    tag: [u8; 64],
}

impl DeviceSlot {
    /// The writer's tag of the device; may be empty.
    pub fn tag(&self) -> &[u8] {
        let end = self.tag.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        &self.tag[..end]
    }
}

impl<S: ReadAt> Image<S> {
    /// Reads superblock and device table.
    ///
    /// # Errors
    /// Not an EROFS image, a wrong checksum, a feature that this crate does not write, or a source shorter
    /// than the image.
    pub fn open(source: S) -> Result<Self, ReadError> {
        let length = source.len().map_err(|source| ReadError::Io { offset: 0, length: 0, source })?;
        let mut image = Self { source, length, superblock: SuperBlock::new_zeroed(), devices: Vec::new() };
        let mut block = [0; CHECKSUMMED];
        image.read("superblock", SUPERBLOCK_OFFSET as u64, &mut block)?;
        image.superblock = check_superblock(&block)?;
        let bytes = u64::from(image.superblock.blocks.get()) * BLOCK_SIZE as u64;
        image.check_range("image", 0, bytes)?;
        image.length = bytes;
        image.devices = image.device_table()?;
        Ok(image)
    }

    /// The root directory.
    pub fn root(&self) -> Nid {
        Nid(u64::from(self.superblock.root_nid.get()))
    }

    /// The devices of the files' data, in the order of a mount's `device=` options.
    pub fn devices(&self) -> &[DeviceSlot] {
        &self.devices
    }

    /// The volume's identifier.
    pub fn uuid(&self) -> [u8; 16] {
        self.superblock.uuid
    }

    /// When the image was made, if the writer recorded it: seconds since 1970 and nanoseconds.
    pub fn build_time(&self) -> (i64, u32) {
        (self.superblock.epoch.get(), self.superblock.epoch_nanos.get())
    }

    /// The number of inodes that the image claims.
    pub fn inode_count(&self) -> u64 {
        self.superblock.inodes.get()
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.length
    }

    fn device_table(&self) -> Result<Vec<DeviceSlot>, ReadError> {
        if self.superblock.feature_incompat.get() & format::INCOMPAT_DEVICE_TABLE == 0 {
            return Ok(Vec::new());
        }
        let unit = size_of::<DeviceTableSlot>();
        let start = u64::from(self.superblock.device_slot.get()) * unit as u64;
        let count = self.superblock.devices.get();
        self.check_range("device table", start, u64::from(count) * unit as u64)?;
        let mut devices = Vec::with_capacity(usize::from(count));
        for index in 0..count {
            let slot: DeviceTableSlot =
                self.read_struct("device slot", start + u64::from(index) * unit as u64)?;
            // The count is at most 65,535, so the last number is at most 65,535.
            devices.push(DeviceSlot {
                id: DeviceId(index + 1),
                blocks: slot.blocks.get().into(),
                tag: slot.tag,
            });
        }
        Ok(devices)
    }

    /// Fills `buffer` from `offset` on, if that is all inside the image.
    fn read(&self, what: &'static str, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.check_range(what, offset, buffer.len() as u64)?;
        let length = buffer.len();
        self.source.read_exact_at(buffer, offset).map_err(|source| ReadError::Io { offset, length, source })
    }

    fn read_struct<T: FromBytes + IntoBytes>(&self, what: &'static str, offset: u64) -> Result<T, ReadError> {
        let mut value = T::new_zeroed();
        self.read(what, offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// `length` bytes from `offset` on. Nothing is allocated before the range is known to be in the image.
    fn read_vec(&self, what: &'static str, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        self.check_range(what, offset, length as u64)?;
        let mut bytes = vec![0; length];
        self.read(what, offset, &mut bytes)?;
        Ok(bytes)
    }

    fn check_range(&self, what: &'static str, offset: u64, length: u64) -> Result<(), ReadError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(ReadError::BeyondEnd { what, offset, length, limit: self.length }),
        }
    }
}

fn check_superblock(block: &[u8; CHECKSUMMED]) -> Result<SuperBlock, ReadError> {
    let mut superblock = SuperBlock::new_zeroed();
    superblock.as_mut_bytes().copy_from_slice(&block[..size_of::<SuperBlock>()]);
    let actual = superblock.magic.get();
    if actual != format::MAGIC {
        return Err(ReadError::Magic { actual, expected: format::MAGIC });
    }
    let same = |what, actual: u64, supported: u64| match actual == supported {
        true => Ok(()),
        false => Err(ReadError::UnsupportedImage { what, actual, supported }),
    };
    same("block size bits", superblock.block_bits.into(), format::BLOCK_BITS.into())?;
    let compatible = superblock.feature_compat.get();
    same("no checksum: flag", (compatible & format::COMPAT_CHECKSUM).into(), format::COMPAT_CHECKSUM.into())?;
    let (actual, expected) = (superblock.checksum.get(), format::superblock_checksum(block));
    if actual != expected {
        return Err(ReadError::Checksum { actual, expected });
    }
    let known = format::INCOMPAT_CHUNKED_FILE | format::INCOMPAT_DEVICE_TABLE;
    let incompatible = superblock.feature_incompat.get();
    if incompatible & !known != 0 {
        let (what, actual, supported) = ("incompatible features", incompatible.into(), known.into());
        return Err(ReadError::UnsupportedImage { what, actual, supported });
    }
    same("superblock extensions", superblock.extension_slots.into(), 0)?;
    same("directory block size bits", superblock.directory_block_bits.into(), 0)?;
    Ok(superblock)
}
