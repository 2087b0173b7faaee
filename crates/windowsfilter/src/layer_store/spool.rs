//! A sandbox's changes in a file of the store, so that they are what they are while they are read twice.
//!
//! Whoever works in the sandbox decides how much that is. Before anything is written the walk has refused
//! what is too large by its sizes; while it is written, the disk's last room stays free, since others need
//! it: records, and sandboxes whose writes would be lost.

use std::fs::File;
use std::io::{Read, Seek, Write};

use super::LayerStore;
use crate::diff_options::DiffOptions;
use crate::digest::{Digest, Hashed};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::limits::{DiffLimits, Exceeded, Limit};

/// Bytes that are written between two looks at the disk.
const CHUNK: usize = 1 << 20;

/// Bytes of a disk of `total` that a commit leaves to everybody else: 64 MiB, and of a small disk an eighth.
#[cfg(any(target_os = "linux", test))]
fn reserve(total: u64) -> u64 {
    (total / 8).min(64 << 20)
}

/// What a sandbox changed, as a tar.
#[derive(Debug)]
pub struct Spooled {
    /// The tar, from its beginning; it has no name and goes when it is closed.
    pub file: File,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl LayerStore {
    /// Copies what a sandbox changed into a file of the store, as [`LayerStore::diff_with`] gives it.
    ///
    /// # Errors
    /// As [`LayerStore::diff_with`]; more than [`LayerStore::limits`], the sandbox's size or the disk have room
    /// for, before that is written.
    pub fn spool_changes(&self, id: &LayerId, options: DiffOptions) -> Result<Spooled, Error> {
        let limits = DiffLimits { disk: self.room()?, ..options.limits };
        let mut diff = Hashed::new(self.diff_with(id, DiffOptions { limits, ..options })?);
        let mut file = self.files().spool()?;
        let mut buffer = vec![0; CHUNK];
        let mut size = 0;
        loop {
            let length = self.read_changes_of(id, &mut diff, &mut buffer)?;
            if length == 0 {
                break;
            }
            size += length as u64;
            self.limits.check_size(size)?;
            self.check_reserve(size)?;
            let writing = "write the changes to a temporary file in";
            file.write_all(&buffer[..length]).at(writing, self.root())?;
        }
        file.rewind().at("read a temporary file in", self.root())?;
        let (digest, size) = diff.finish();
        Ok(Spooled { file, digest, size })
    }

    /// What the walk of a sandbox meets is an error of the stream.
    fn read_changes_of(&self, id: &LayerId, diff: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Error> {
        diff.read(buffer).map_err(|error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Io { action: "read the changes in", path: self.paths.layer(id), source },
        })
    }

    fn check_reserve(&self, size: u64) -> Result<(), Exceeded> {
        match self.room() {
            Ok(Some(0)) => {
                Err(Exceeded { limit: Limit::Disk, allowed: size.saturating_sub(CHUNK as u64), actual: size })
            }
            _ => Ok(()),
        }
    }

    /// Bytes that may be written where the store is, where that can be known.
    #[cfg(target_os = "linux")]
    fn room(&self) -> Result<Option<u64>, Error> {
        let root = self.root();
        let look = || rustix::fs::statvfs(root).at("look at the disk of", root);
        let room = |disk: rustix::fs::StatVfs| {
            let [free, total] =
                [disk.f_bavail, disk.f_blocks].map(|blocks| blocks.saturating_mul(disk.f_frsize));
            free.saturating_sub(reserve(total))
        };
        match room(look()?) {
            // Btrfs counts what was deleted as free only when it has written that down.
            0 => {
                let dir = File::open(root).at("open", root)?;
                rustix::fs::syncfs(&dir).map_err(std::io::Error::from).at("sync the disk of", root)?;
                Ok(Some(room(look()?)))
            }
            room => Ok(Some(room)),
        }
    }

    /// Bytes that may be written where the store is, where that can be known.
    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on Linux")]
    fn room(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::reserve;

    #[test]
    fn the_last_64_mib_stay_and_of_a_small_disk_the_last_eighth() {
        assert_eq!([0, 64 << 20, 512 << 20, u64::MAX].map(reserve), [0, 8 << 20, 64 << 20, 64 << 20]);
    }
}
