//! Saves the writes to a sandbox to its image, and gives the blocks of deleted files back to the store.
//!
//! The image is sparse, so any write of the kernel may find the store's disk full, long after the program's
//! own write has succeeded. Nothing on the disk may depend on such a lost write. So the file system is not
//! mounted with `discard`: ext4 discards the blocks of deleted files even if the transaction that deleted
//! them could not be written to the journal (`ext4_journal_commit_callback` does not check), and a directory
//! that still exists would be full of zeros. The blocks are given back once all deletions are known to be
//! saved.

use super::super::error::LinuxError;
use super::super::sandbox_image::INODE;
use super::super::{mount_table, sys};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Deleted bytes that are worth giving back, which takes a scan of the whole file system (0.4 s for 127 GB).
/// Well over the largest journal, which does not count as a file and so looks deleted.
const WORTH_GIVING_BACK: u64 = 96 << 20;

/// The mounted image of a sandbox, kept in use as long as this lives.
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

    /// Saves the writes of mounting (the overlay recreates its work directory): a disk that becomes full
    /// later must not damage a sandbox that nobody has used yet.
    pub(super) fn settle(&self) -> Result<(), LinuxError> {
        self.flush()
            .map_err(|error| LinuxError::Unsettled { path: self.path.to_path_buf(), source: error.into() })
    }

    /// Saves all writes that are still only in memory; `target` is the mount that users see. Unmounting would
    /// do so too, but never reports a failure, such as a full disk of the store. The kernel reports it once:
    /// saving again succeeds, without the lost writes.
    pub(super) fn save(&self, target: &Path) -> Result<(), LinuxError> {
        self.flush().map_err(|error| LinuxError::Unsaved { path: target.to_path_buf(), source: error.into() })
    }

    /// Gives the blocks of deleted files back to the store, if they are many. All writers must be gone and
    /// everything saved: the blocks of a deletion that cannot be saved look free, too.
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

    /// Writes everything that is only in memory or in the journal to its place in the image. (The note that
    /// the journal is now empty need not be on disk: replaying it again changes nothing.)
    fn flush(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(&self.directory)?;
        match sys::ext4_checkpoint(&self.directory) {
            // Before Linux 5.14; the next mount replays the journal.
            Err(Errno::NOTTY) => Ok(()),
            result => result,
        }
    }
}
