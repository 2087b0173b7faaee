//! Creating and expanding sandboxes.

use super::LayerStore;
use super::in_place::Made;
use crate::digest::Digest;
use crate::engine::{Layer, Place};
use crate::error::Error;
use crate::id::LayerId;
use crate::options::StorageOptions;
use crate::record::{self, LayerKind, LayerRecord};

impl LayerStore {
    /// Creates a sandbox on top of `parent`. A parent without content is left out of its chain. The size in
    /// `options` overrides the store's default. `image` is the digest of the config of its image, see
    /// [`LayerRecord::image`].
    ///
    /// # Errors
    /// [`Error::LayerExists`], [`Error::MissingParent`], a size that is too small; nothing is left behind.
    pub fn create_sandbox(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        options: StorageOptions,
        image: Option<Digest>,
    ) -> Result<(), Error> {
        let size = options.size.filter(|size| *size != 0).unwrap_or(self.default_size);
        let streams = Some(self.streams);
        let new = LayerRecord::new(LayerKind::Sandbox);
        let record =
            LayerRecord { sandbox_size: Some(size).filter(|size| *size != 0), image, streams, ..new };
        // As in `create_empty`.
        if self.is_in_place() {
            let made = Made { id, parent, record: &record, owner: None };
            return self.make_in_place(&made, |sandbox| self.engine.create_sandbox(sandbox, size));
        }
        // Checked before anything is written; publishing checks again, under the lock.
        self.chain_on(id, parent)?;
        let staging = self.claim_new(id)?;
        let place = Place { id: id.clone(), dir: staging.dir.clone(), mounts: self.paths.mount(id) };
        // No chain: the engine needs only the storage now, and mounting reads the chain.
        let sandbox = Layer { place, kind: LayerKind::Sandbox, chain: Vec::new(), streams: self.streams };
        self.engine.create_sandbox(&sandbox, size)?;
        self.cancel().check()?;
        self.publish(staging, id, parent, &record)
    }

    /// Expands a sandbox, mounted or not; it cannot shrink.
    ///
    /// # Errors
    /// [`Error::WrongKind`] unless it is a sandbox; a size smaller than the present one; a refusal of the
    /// host. The sandbox keeps its size.
    pub fn expand(&self, id: &LayerId, size: u64) -> Result<(), Error> {
        let place = self.place(id)?;
        self.expect_kind(&place.id, LayerKind::Sandbox)?;
        let _lock = self.mount_lock(&place.id)?.for_changes()?;
        let record = self.expect_kind(&place.id, LayerKind::Sandbox)?;
        self.engine.expand(&place, size)?;
        // Written last: if this fails, expanding to the same size again only writes the record.
        let record = LayerRecord { sandbox_size: Some(size), ..record };
        record::replace_record(&place.dir, &record, &self.paths.temporaries())
    }
}
