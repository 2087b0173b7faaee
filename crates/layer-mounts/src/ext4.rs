//! The fields of an ext4 superblock that tell whether the image is sound.
//!
//! A sandbox's image changes as long as it lives, so the store cannot keep a checksum of it. ext4 has
//! checksums of its metadata; this module checks, on every host, the block on which everything else depends.
//! Source: `struct ext4_super_block` of Linux' `fs/ext4/ext4.h`.

#[cfg(target_os = "linux")]
mod journal;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Offset of the superblock in bytes; the file system does not use the bytes before it.
const OFFSET: u64 = 1024;
/// Its length.
const LENGTH: usize = 1024;
const MAGIC: u16 = 0xEF53;
/// Offset of its checksum, at its end.
const CHECKSUM: usize = 0x3FC;
/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal has changes that are not written to their places yet.
#[cfg(target_os = "linux")]
const RECOVER: u32 = 4;

/// The bytes of a superblock.
pub struct Superblock([u8; LENGTH]);

impl Superblock {
    /// Reads it from an image.
    pub fn read(mut image: &File) -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        image.seek(SeekFrom::Start(OFFSET))?;
        image.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Bytes of the file system; `None` if this is not a superblock.
    pub fn size(&self) -> Option<u64> {
        let is_ext4 = self.0[0x38..0x3A] == MAGIC.to_le_bytes();
        let blocks = u64::from(self.number(0x150)) << 32 | u64::from(self.number(4));
        is_ext4.then(|| blocks.saturating_mul(self.block_size()))
    }

    /// Whether the file system was not unmounted, so that it is only consistent after its journal is
    /// replayed.
    #[cfg(target_os = "linux")]
    pub fn needs_recovery(&self) -> bool {
        self.number(0x60) & RECOVER != 0
    }

    /// The problem of an invalid superblock.
    pub fn problem(&self) -> Option<String> {
        if self.size().is_none() {
            return Some("there is no ext4 file system in it".to_owned());
        }
        let (stored, actual) = (self.number(CHECKSUM), ext4_checksum(&self.0[..CHECKSUM]));
        (stored != actual).then(|| {
            format!("the checksum of its superblock is {stored:#010x}, its content gives {actual:#010x}")
        })
    }

    fn block_size(&self) -> u64 {
        1024 << self.number(0x18).min(6)
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|i| self.0[at + i]))
    }
}

/// CRC-32C whose register starts at all ones and is not inverted at the end.
fn ext4_checksum(bytes: &[u8]) -> u32 {
    !crc32c::crc32c(bytes)
}
