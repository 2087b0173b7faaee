//! Copies a sandbox's changes into a file of the store, so that they stay the same while they are read twice.
//!
//! The users of the sandbox decide how large the changes are. Before anything is written, the walk refuses
//! changes that are too large by the sizes it finds. While they are written, a reserve of the disk stays free
//! for others: for records, and for sandboxes whose writes would be lost.

use std::fs::File;
use std::io::{Read, Seek, Write};

use super::LayerStore;
use crate::diff_options::DiffOptions;
use crate::digest::{Digest, Hashed};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::limits::{DiffLimits, Exceeded, Limit};

/// Bytes that are written between two checks of the disk.
const CHUNK: usize = 1 << 20;

/// Bytes that a commit leaves free on a disk of `total` bytes: 64 MiB, or an eighth of a small disk.
#[cfg(any(target_os = "linux", test))]
fn reserve(total: u64) -> u64 {
    (total / 8).min(64 << 20)
}

/// The changes of a sandbox, as a tar.
#[derive(Debug)]
pub struct Spooled {
    /// The tar, positioned at its start; it has no name and disappears when it is closed.
    pub file: File,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl LayerStore {
    /// Copies the changes of a sandbox, as [`LayerStore::diff_with`] returns them, into a file of the store.
    ///
    /// # Errors
    /// As [`LayerStore::diff_with`]; changes that exceed [`LayerStore::limits`], the sandbox's size or the
    /// disk's free space, before the excess is written.
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

    /// Reads from the diff. Errors of the walk arrive as errors of the stream and are unwrapped.
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

    /// Bytes that may be written to the store's disk; `None` if unknown.
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
            // Btrfs counts deleted blocks as free only after a commit of its transaction.
            0 => {
                let dir = File::open(root).at("open", root)?;
                rustix::fs::syncfs(&dir).map_err(std::io::Error::from).at("sync the disk of", root)?;
                Ok(Some(room(look()?)))
            }
            room => Ok(Some(room)),
        }
    }

    /// Bytes that may be written to the store's disk; `None` if unknown.
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
