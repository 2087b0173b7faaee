//! Room on the disk that is kept for the records.
//!
//! On a full disk a removal has to be written before anything can be freed. A file holds the room for that:
//! it is deleted when a change finds no room, and made again once there is some.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// How much: many times what one change takes.
const SIZE: u64 = 1 << 20;

/// A file that is there for its size.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    kept: bool,
}

impl Reserve {
    /// The one at `path`, which an earlier server may have left.
    pub(super) fn new(path: &Path) -> Self {
        let kept = fs::metadata(path).is_ok_and(|file| file.len() == SIZE);
        Self { path: path.to_owned(), kept }
    }

    /// Gives the room away. Whether there was any.
    pub(super) fn spend(&mut self) -> bool {
        std::mem::take(&mut self.kept) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room, if it is there to be taken.
    pub(super) fn fill(&mut self) {
        if self.kept {
            return;
        }
        match self.allocate() {
            Ok(()) => self.kept = true,
            Err(error) => {
                tracing::debug!("no room is kept for the records: {}: {error}", self.path.display());
                // A part of it would only be in everybody's way.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            Err(Errno::OPNOTSUPP) => {
                file.write_all(&[1; SIZE as usize])?;
                // Until then it may have been promised only.
                file.sync_all()
            }
            other => Ok(other?),
        }
    }
}
