//! The superblock of an ext4 image, as far as it tells whether the image is sound.
//!
//! A sandbox's image is written to as long as it lives, so the store can keep no checksum of it. ext4 sums
//! its own metadata; here, on every host, the block that everything else hangs on is looked at. Source:
//! `struct ext4_super_block` of Linux' `fs/ext4/ext4.h`.

#[cfg(target_os = "linux")]
mod journal;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Where the superblock is, in bytes; what is before it belongs to no file system.
const OFFSET: u64 = 1024;
/// Its length.
const LENGTH: usize = 1024;
const MAGIC: u16 = 0xEF53;
/// Where its checksum is: at its end.
const CHECKSUM: usize = 0x3FC;
/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal has something that is not in its place yet.
#[cfg(target_os = "linux")]
const RECOVER: u32 = 4;

/// A superblock, read.
pub struct Superblock([u8; LENGTH]);

impl Superblock {
    /// Reads it from an image.
    pub fn read(mut image: &File) -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        image.seek(SeekFrom::Start(OFFSET))?;
        image.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Bytes of the file system; `None` where there is none.
    pub fn size(&self) -> Option<u64> {
        let is_ext4 = self.0[0x38..0x3A] == MAGIC.to_le_bytes();
        let blocks = u64::from(self.number(0x150)) << 32 | u64::from(self.number(4));
        is_ext4.then(|| blocks.saturating_mul(self.block_size()))
    }

    /// Whether its journal has to be replayed before the rest of it agrees with itself: it was not unmounted.
    #[cfg(target_os = "linux")]
    pub fn needs_recovery(&self) -> bool {
        self.number(0x60) & RECOVER != 0
    }

    /// What is wrong with it.
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
