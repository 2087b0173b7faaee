//! Disk space reserved for the records.
//!
//! On a full disk a removal must write its record before it can free anything. A reserve file holds the
//! space for that: a change that finds the disk full deletes it, and it is created again once there is
//! space.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// The reserve's size: many times that of one change.
const SIZE: u64 = 1 << 20;

/// A file that exists only for its size.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    kept: bool,
}

impl Reserve {
    /// The reserve at `path`; an earlier server may have left it.
    pub(super) fn new(path: &Path) -> Self {
        let kept = fs::metadata(path).is_ok_and(|file| file.len() == SIZE);
        Self { path: path.to_owned(), kept }
    }

    /// Frees the reserve. Returns whether it existed.
    pub(super) fn spend(&mut self) -> bool {
        std::mem::take(&mut self.kept) && fs::remove_file(&self.path).is_ok()
    }

    /// Allocates the reserve, if the disk has space.
    pub(super) fn fill(&mut self) {
        if self.kept {
            return;
        }
        match self.allocate() {
            Ok(()) => self.kept = true,
            Err(error) => {
                tracing::debug!("no room is kept for the records: {}: {error}", self.path.display());
                // A partial reserve would only waste space.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            Err(Errno::OPNOTSUPP) => {
                file.write_all(&[1; SIZE as usize])?;
                // Until the sync the blocks may not be allocated.
                file.sync_all()
            }
            other => Ok(other?),
        }
    }
}
