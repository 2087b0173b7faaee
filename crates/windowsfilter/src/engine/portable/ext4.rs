//! The superblock of an ext4 image, as far as it tells whether the image is sound.
//!
//! A sandbox's image is written to as long as it lives, so the store can keep no checksum of it. ext4 sums its own metadata; here, on
//! every host, the block that everything else hangs on is looked at. Source: `struct ext4_super_block` of Linux' `fs/ext4/ext4.h`.

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
/// Where the superblock has a copy of the journal's extents, as they are in an inode.
#[cfg(target_os = "linux")]
const JOURNAL_EXTENTS: usize = 0x10C;
/// `EXT4_EXT_MAGIC`, and that extents follow, not blocks of them.
#[cfg(target_os = "linux")]
const EXTENT_MAGIC: u16 = 0xF30A;
/// `JBD2_MAGIC_NUMBER`; journals are big-endian.
#[cfg(target_os = "linux")]
const JOURNAL_MAGIC: u32 = 0xC03B_3998;
/// Where the error is that the kernel noted in a journal's superblock, which is as long as the file system's.
#[cfg(target_os = "linux")]
const JOURNAL_ERROR: usize = 0x20;
/// Where its checksum is, which counts as zero in itself.
#[cfg(target_os = "linux")]
const JOURNAL_CHECKSUM: usize = 0xFC;

/// A superblock, read.
pub(crate) struct Superblock([u8; LENGTH]);

impl Superblock {
    /// Reads it from an image.
    pub(crate) fn read(mut image: &File) -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        image.seek(SeekFrom::Start(OFFSET))?;
        image.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Bytes of the file system; `None` where there is none.
    pub(crate) fn size(&self) -> Option<u64> {
        let is_ext4 = self.0[0x38..0x3A] == MAGIC.to_le_bytes();
        let blocks = u64::from(self.number(0x150)) << 32 | u64::from(self.number(4));
        is_ext4.then(|| blocks.saturating_mul(self.block_size()))
    }

    /// Whether its journal has to be replayed before the rest of it agrees with itself: it was not unmounted.
    #[cfg(target_os = "linux")]
    pub(crate) fn needs_recovery(&self) -> bool {
        self.number(0x60) & RECOVER != 0
    }

    /// Whether the kernel noted in the journal of `image`, on which this is, that it could not write something. The next mount takes the note over into the
    /// superblock; until then e2fsck wants to do so even if it may write nothing, and stops. Source: `struct journal_superblock_s` of Linux'
    /// `include/linux/jbd2.h`, `struct ext4_extent` of `fs/ext4/ext4_extents.h`.
    #[cfg(target_os = "linux")]
    pub(crate) fn journal_has_error(&self, mut image: &File) -> io::Result<bool> {
        let header = self.number(JOURNAL_EXTENTS).to_le_bytes();
        let has_extents = header[..2] == EXTENT_MAGIC.to_le_bytes() && header[2..] != [0, 0];
        let depth = self.number(JOURNAL_EXTENTS + 4) >> 16;
        if !has_extents || depth != 0 {
            return Ok(false);
        }
        let extent = JOURNAL_EXTENTS + 12;
        let block = u64::from(self.number(extent + 4) >> 16) << 32 | u64::from(self.number(extent + 8));
        let mut journal = [0; LENGTH];
        image.seek(SeekFrom::Start(block.saturating_mul(self.block_size())))?;
        image.read_exact(&mut journal)?;
        let sum = [0, 1, 2, 3].map(|i| std::mem::take(&mut journal[JOURNAL_CHECKSUM + i]));
        let is_sound =
            journal[..4] == JOURNAL_MAGIC.to_be_bytes() && sum == ext4_checksum(&journal).to_be_bytes();
        Ok(is_sound && journal[JOURNAL_ERROR..][..4] != [0; 4])
    }

    /// What is wrong with it.
    pub(crate) fn problem(&self) -> Option<String> {
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::engine::portable::linux::sandbox_image;
    use crate::engine::portable::linux::sandbox_mount::mount_storage;
    use crate::engine::portable::linux::{loop_device, mount_table};

    /// Notes an error in the journal, as the kernel does when it cannot write.
    fn note_error(image: &File) -> u64 {
        let extent = Superblock::read(image).unwrap().number(JOURNAL_EXTENTS + 12 + 8);
        let at = u64::from(extent) * 4096;
        let mut journal = [0; LENGTH];
        image.read_exact_at(&mut journal, at).unwrap();
        journal[JOURNAL_ERROR..][..4].copy_from_slice(&(-5_i32).to_be_bytes());
        journal[JOURNAL_CHECKSUM..][..4].fill(0);
        let sum = ext4_checksum(&journal);
        journal[JOURNAL_CHECKSUM..][..4].copy_from_slice(&sum.to_be_bytes());
        image.write_all_at(&journal, at).unwrap();
        at
    }

    #[test]
    fn an_error_noted_in_the_journal_is_seen_until_the_next_mount() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandbox.img");
        sandbox_image::create(&dir.path().join("templates"), &path, 16 << 20).unwrap();
        let image = File::options().read(true).write(true).open(&path).unwrap();
        let has_error = || Superblock::read(&image).unwrap().journal_has_error(&image).unwrap();
        assert!(!has_error());
        let at = note_error(&image);
        assert!(has_error());
        sandbox_image::check_file_system(&path).unwrap();
        image.write_all_at(&[0xFF], at + JOURNAL_ERROR as u64).unwrap();
        assert!(has_error(), "the same byte");
        image.write_all_at(&[0xFE], at + JOURNAL_ERROR as u64).unwrap();
        assert!(!has_error(), "that is damage, for e2fsck to find");
        note_error(&image);
        let target = dir.path().join("target");
        std::fs::create_dir(&target).unwrap();
        mount_storage(&path, &target).unwrap();
        mount_table::unmount(&target).unwrap();
        loop_device::wait_until_detached(&path).unwrap();
        assert!(!has_error());
        sandbox_image::check_file_system(&path).unwrap();
    }
}
