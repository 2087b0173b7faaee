//! The invariants of a sandbox's image.
//!
//! It is written to as long as it lives, so nothing can be compared with a digest. What is in its files is
//! nobody's but theirs; the file system's own metadata carry checksums of ext4, and are looked at while
//! nobody has it mounted.

use std::fs::File;
use std::path::Path;

use super::Invariant;
use super::findings::Violation;
use super::layers::unopened;
use crate::cancel::Cancel;
use crate::engine::portable::ext4::Superblock;
#[cfg(target_os = "linux")]
use crate::engine::portable::linux::{LinuxError, sandbox_image};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::record::LayerRecord;
use crate::store::file;

impl LayerStore {
    pub(super) fn check_sandbox(&self, id: &LayerId, record: &LayerRecord) -> Option<Violation> {
        let path = self.paths.layer(id).join(file::SANDBOX);
        let broken = |invariant, error| Some(Violation { invariant, error });
        let damaged = |reason| Error::Damaged { id: id.clone(), file: file::SANDBOX, reason };
        let image = match File::open(&path) {
            Ok(image) => image,
            Err(error) => return broken(Invariant::SandboxSize, unopened(id, file::SANDBOX, &path, error)),
        };
        let length = match image.metadata().at("look at", &path) {
            Ok(metadata) => metadata.len(),
            Err(error) => return broken(Invariant::SandboxSize, error),
        };
        let recorded = record.sandbox_size.unwrap_or(0);
        if length < recorded {
            let problem = format!("it is {length} bytes, expected {recorded} or more");
            return broken(Invariant::SandboxSize, damaged(problem));
        }
        // Of a file system that is mounted, the kernel knows more than the image says.
        let _lock = self.unmounted(id)?;
        let superblock = match Superblock::read(&image).at("read", &path) {
            Ok(superblock) => superblock,
            Err(error) => return broken(Invariant::SandboxSuperblock, error),
        };
        if let Some(problem) = superblock.problem() {
            return broken(Invariant::SandboxSuperblock, damaged(problem));
        }
        if let Some(size) = superblock.size().filter(|&size| size > length) {
            let problem = format!("it is {length} bytes, its file system {size}");
            return broken(Invariant::SandboxSize, damaged(problem));
        }
        let error = Self::check_file_system(&path, self.cancel()).err()?;
        broken(Invariant::SandboxFileSystem, error)
    }

    /// The lock that keeps a sandbox as it is, if nobody has it mounted.
    fn unmounted(&self, id: &LayerId) -> Option<crate::lock::Lock> {
        let lock = self.try_mount_lock(id).ok()??;
        let is_free = self.mounts(id).is_ok_and(|state| state.users() == 0)
            && self.place(id).and_then(|place| self.engine.in_use(&place)).is_ok_and(|by| by.is_none());
        is_free.then_some(lock)
    }

    #[cfg(target_os = "linux")]
    fn check_file_system(image: &Path, cancel: &Cancel) -> Result<(), Error> {
        match sandbox_image::check_file_system(image, cancel) {
            Err(error @ LinuxError::ToolMissing { .. }) => {
                tracing::warn!("{}: only the superblock was checked: {error}", image.display());
                Ok(())
            }
            other => Ok(other?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
    fn check_file_system(_: &Path, _: &Cancel) -> Result<(), Error> {
        Ok(())
    }
}
