//! The kernel's error note in the journal of an image. Source: `struct journal_superblock_s` of Linux'
//! `include/linux/jbd2.h`, `struct ext4_extent` of `fs/ext4/ext4_extents.h`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::{LENGTH, Superblock, ext4_checksum};

/// Offset in the superblock of the copy of the journal's extents, in the form of an inode's.
const EXTENTS: usize = 0x10C;
/// `EXT4_EXT_MAGIC`.
const EXTENT_MAGIC: u16 = 0xF30A;
/// `JBD2_MAGIC_NUMBER`; journals are big-endian.
const MAGIC: u32 = 0xC03B_3998;
/// Offset of the kernel's error number in a journal's superblock, which is as long as the file system's.
const ERROR: usize = 0x20;
/// Offset of its checksum, which is computed with zeros in its own place.
const CHECKSUM: usize = 0xFC;

impl Superblock {
    /// Whether the kernel noted a failed write in the journal of `image`, whose superblock this is. The next
    /// mount copies the note to the superblock. Until then e2fsck insists on doing so even if it must not
    /// write, and stops.
    pub fn journal_has_error(&self, mut image: &File) -> io::Result<bool> {
        let Some(offset) = self.journal_offset() else { return Ok(false) };
        let mut journal = [0; LENGTH];
        image.seek(SeekFrom::Start(offset))?;
        image.read_exact(&mut journal)?;
        let sum = [0, 1, 2, 3].map(|i| std::mem::take(&mut journal[CHECKSUM + i]));
        let is_sound = journal[..4] == MAGIC.to_be_bytes() && sum == ext4_checksum(&journal).to_be_bytes();
        Ok(is_sound && journal[ERROR..][..4] != [0; 4])
    }

    /// Offset of the journal in the image, in bytes; `None` if unknown.
    fn journal_offset(&self) -> Option<u64> {
        let header = self.number(EXTENTS).to_le_bytes();
        let has_extents = header[..2] == EXTENT_MAGIC.to_le_bytes() && header[2..] != [0, 0];
        let depth = self.number(EXTENTS + 4) >> 16;
        let extent = EXTENTS + 12;
        let block = u64::from(self.number(extent + 4) >> 16) << 32 | u64::from(self.number(extent + 8));
        (has_extents && depth == 0).then(|| block.saturating_mul(self.block_size()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::linux::sandbox_image;
    use crate::linux::sandbox_mount::mount_storage;
    use crate::linux::test_support::no_record;
    use crate::linux::{in_use, mount_table};

    /// Notes an error in the journal, as the kernel does after a failed write.
    fn note_error(image: &File) -> u64 {
        let at = Superblock::read(image).unwrap().journal_offset().unwrap();
        let mut journal = [0; LENGTH];
        image.read_exact_at(&mut journal, at).unwrap();
        journal[ERROR..][..4].copy_from_slice(&(-5_i32).to_be_bytes());
        journal[CHECKSUM..][..4].fill(0);
        let sum = ext4_checksum(&journal);
        journal[CHECKSUM..][..4].copy_from_slice(&sum.to_be_bytes());
        image.write_all_at(&journal, at).unwrap();
        at
    }

    #[test]
    fn an_error_noted_in_the_journal_is_seen_until_the_next_mount() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandbox.img");
        sandbox_image::create(
            &dir.path().join("templates"),
            &path,
            16 << 20,
            (no_record, &crate::Cancel::default()),
        )
        .unwrap();
        let image = File::options().read(true).write(true).open(&path).unwrap();
        let has_error = || Superblock::read(&image).unwrap().journal_has_error(&image).unwrap();
        assert!(!has_error());
        let at = note_error(&image);
        assert!(has_error());
        sandbox_image::check_file_system(&path, &crate::Cancel::default()).unwrap();
        image.write_all_at(&[0xFF], at + ERROR as u64).unwrap();
        assert!(has_error(), "the same byte");
        image.write_all_at(&[0xFE], at + ERROR as u64).unwrap();
        assert!(!has_error(), "that is damage, for e2fsck to find");
        note_error(&image);
        let target = dir.path().join("target");
        std::fs::create_dir(&target).unwrap();
        mount_storage(&path, &target).unwrap();
        mount_table::unmount(&target).unwrap();
        in_use::wait_for_image(&path).unwrap();
        assert!(!has_error());
        sandbox_image::check_file_system(&path, &crate::Cancel::default()).unwrap();
    }
}
