//! Layers that other programs share with images.
//!
//! Who takes in a layer by itself, as containerd does, publishes it here: under its chain ID, the name that
//! an image with this layer would give it, so that both use one copy. It stays as long as an owner, an image,
//! a sandbox or another layer needs it.

use windowsfilter::{LayerId, StagedLayer};

use crate::error::Error;
use crate::import::is_present;
use crate::oci::chain_id;
use crate::records::ImageStore;

impl ImageStore {
    /// Makes `staged` visible under its chain ID on top of `parent`, belonging to `owner`, and returns that
    /// ID. If the store has this layer, it gets another owner, and `staged` is given up.
    ///
    /// # Errors
    /// [`windowsfilter::Error::MissingParent`]; a layer of this ID that is not this one. Nothing is left
    /// behind.
    pub fn publish_shared(
        &self,
        staged: StagedLayer,
        parent: Option<&LayerId>,
        owner: &str,
    ) -> Result<LayerId, Error> {
        let diff_id = staged.imported.diff_id;
        let id = chain_id(parent, diff_id)?;
        let _lock = self.lock()?;
        if is_present(&self.layers, &id, diff_id)? {
            self.layers.own(&id, owner)?;
            staged.discard();
        } else {
            let applied = staged.publish_as(&id, parent, Some(owner))?;
            for note in applied.notes {
                tracing::warn!("layer {diff_id}: {note}");
            }
        }
        Ok(id)
    }

    /// Makes `owner` an owner of the layer `id`, if it is in the store on top of `parent`; the answer is
    /// whether it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn own_shared(&self, id: &LayerId, parent: Option<&LayerId>, owner: &str) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let Ok(record) = self.layers.record(id) else { return Ok(false) };
        let named = record.diff_id.map(|diff_id| chain_id(parent, diff_id)).transpose()?;
        if named.as_ref() != Some(id) || self.layers.chain_ids(id)?.first() != parent {
            return Ok(false);
        }
        self.layers.own(id, owner)?;
        Ok(true)
    }

    /// Ends that `owner` owns the layer `id`, and removes it if nobody else needs it. The answer is whether
    /// it is gone.
    ///
    /// # Errors
    /// [`windowsfilter::Error::HasChildren`], [`windowsfilter::Error::Mounted`], while something still stands
    /// on it; it is still owned then.
    pub fn disown_shared(&self, id: &LayerId, owner: &str) -> Result<bool, Error> {
        let _lock = self.lock()?;
        if !self.layers.contains(id) {
            return Ok(true);
        }
        let others = self.layers.owners(id)?.iter().any(|other| other != owner);
        let needed = others || self.records()?.iter().any(|record| record.layers.contains(id));
        if needed {
            self.layers.disown(id, owner)?;
        } else {
            // Owned until it is gone: in between, nobody would find it any more.
            self.layers.remove_owned(id, owner)?;
        }
        Ok(!needed)
    }
}
