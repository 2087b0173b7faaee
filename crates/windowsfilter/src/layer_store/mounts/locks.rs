//! The lock of a layer's mounts.

use std::path::Path;

use crate::durable;
use crate::error::Error;
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::lock::{self, Lock};

impl LayerStore {
    /// Held while `id`'s mounts change or its sandbox is read.
    pub(in crate::layer_store) fn mount_lock(&self, id: &LayerId) -> Result<Lock, Error> {
        let path = lock::beside(&self.paths.mount(id));
        loop {
            let lock = lock::exclusive(&path, &format!("layer {id}"), self.cancel())?;
            // A process that removed the layer while we waited also removed the lock file: others would lock
            // a new file.
            if !lock.still_at(&path) {
                continue;
            }
            return match self.unless_gone(id, &path, lock) {
                Some(lock) => Ok(lock),
                None => Err(Error::NoSuchLayer { id: id.to_string() }),
            };
        }
    }

    /// Like [`Self::mount_lock`], but `None` if the lock is held or the layer is gone.
    pub(in crate::layer_store) fn try_mount_lock(&self, id: &LayerId) -> Result<Option<Lock>, Error> {
        let path = lock::beside(&self.paths.mount(id));
        loop {
            match lock::try_exclusive(&path)? {
                Some(lock) if lock.still_at(&path) => return Ok(self.unless_gone(id, &path, lock)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The lock, unless the layer is gone. Then its lock file is removed, whether it was just created or left
    /// by another process, or it would stay for ever.
    fn unless_gone(&self, id: &LayerId, path: &Path, lock: Lock) -> Option<Lock> {
        if self.is_known(id) {
            return Some(lock);
        }
        if let Err(error) = durable::remove_file(path) {
            tracing::debug!("{error}; cleanup will");
        }
        None
    }

    /// The lock of a removed layer, if its lock file exists and is free.
    pub(in crate::layer_store) fn try_lock_of_gone_layer(&self, id: &LayerId) -> Result<Option<Lock>, Error> {
        let path = lock::beside(&self.paths.mount(id));
        let lock = lock::try_existing(&path)?;
        Ok(lock.filter(|lock| lock.still_at(&path) && !self.is_known(id)))
    }

    /// Whether `id` is a layer or has a mount directory. Anything else gets no lock file.
    pub(super) fn is_known(&self, id: &LayerId) -> bool {
        self.contains(id) || self.paths.mount(id).exists()
    }
}
