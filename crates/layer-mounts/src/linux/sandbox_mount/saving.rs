//! Bringing what was written to a sandbox to its image, and giving the store back what was deleted in it.
//!
//! The image is sparse, so any write of the kernel may find the store's disk full, long after the program
//! that wrote was told that all is well. Then nothing on the disk may depend on that write. So the file
//! system is not mounted with `discard`: ext4 discards the blocks of files that were deleted even if the
//! transaction that deleted them could not be written to the journal (`ext4_journal_commit_callback` does not
//! ask), and a directory that is still there would be full of zeros. What was deleted is given back when all
//! of it is known to be saved.

use super::super::error::LinuxError;
use super::super::sandbox_image::INODE;
use super::super::{mount_table, sys};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes that are worth the look through the whole file system that giving them back takes (0.4 s for 127
/// GB). Well over the largest journal, which is no file and so looks deleted.
const WORTH_GIVING_BACK: u64 = 96 << 20;

/// The mounted image of a sandbox. It is in use as long as this is there.
pub(super) struct Storage<'a> {
    path: &'a Path,
    directory: File,
}

impl<'a> Storage<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, LinuxError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty());
        Ok(Self { path, directory: directory.map(File::from).map_err(LinuxError::system("openat", path))? })
    }

    pub(super) fn open_if_mounted(path: &'a Path) -> Result<Option<Self>, LinuxError> {
        let is_mounted = path.exists() && mount_table::at(path)?.is_some();
        is_mounted.then(|| Self::open(path)).transpose()
    }

    /// Saves what mounting has written (the overlay makes its work directory anew): a disk that becomes full
    /// later must not damage a sandbox that nobody has used yet.
    pub(super) fn settle(&self) -> Result<(), LinuxError> {
        self.flush()
            .map_err(|error| LinuxError::Unsettled { path: self.path.to_path_buf(), source: error.into() })
    }

    /// Saves what is still only in memory; `target` is where users see it. Unmounting would do so too, but
    /// never says that it failed, as it does when the store's disk is full. The kernel says it once: saving
    /// again succeeds, without what was lost.
    pub(super) fn save(&self, target: &Path) -> Result<(), LinuxError> {
        self.flush().map_err(|error| LinuxError::Unsaved { path: target.to_path_buf(), source: error.into() })
    }

    /// Gives the store the blocks of deleted files back, if they are many. Nobody may write any more, and
    /// everything must be saved: the blocks of a deletion that cannot be saved look free, too.
    pub(super) fn give_back(&self, image: &Path) -> Result<(), LinuxError> {
        let occupied = std::fs::metadata(image).map_err(LinuxError::system("stat", image))?.blocks() * 512;
        let file_system = rustix::fs::fstatvfs(&self.directory);
        let file_system = file_system.map_err(LinuxError::system("fstatvfs", self.path))?;
        let files = file_system.f_files.saturating_sub(file_system.f_ffree) * INODE;
        let data = file_system.f_blocks.saturating_sub(file_system.f_bfree) * file_system.f_frsize;
        if occupied < data + files + WORTH_GIVING_BACK {
            return Ok(());
        }
        sys::trim(&self.directory).map_err(LinuxError::system("ioctl FITRIM", self.path))
    }

    /// Brings everything that is only in memory, or only in the journal, to its place in the image. (That the
    /// journal is empty then need not have been written: replaying it once more changes nothing.)
    fn flush(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.directory)?;
        match sys::ext4_checkpoint(&self.directory) {
            // Before Linux 5.14; the next mount replays the journal.
            Err(Errno::NOTTY) => Ok(()),
            result => result,
        }
    }
}
