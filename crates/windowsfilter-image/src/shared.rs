//! Layers that images share with other programs.
//!
//! A program that imports single layers, such as containerd, publishes them here under their chain IDs, as
//! an image import would, so that both use one copy. A layer stays as long as an owner, an image, a sandbox
//! or another layer needs it.

use windowsfilter::{LayerId, StagedLayer};

use crate::error::Error;
use crate::import::is_present;
use crate::oci::chain_id;
use crate::records::ImageStore;

impl ImageStore {
    /// Publishes `staged` under its chain ID on top of `parent`, owned by `owner`, and returns that ID. If
    /// the store has this layer, adds the owner to it and drops `staged`.
    ///
    /// # Errors
    /// [`windowsfilter::Error::MissingParent`]; a different layer with this ID. Nothing is left behind.
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

    /// Makes `owner` an owner of the layer `id`, if the store has it on top of `parent`. Returns whether it
    /// does.
    ///
    /// # Errors
    /// If the store cannot be read.
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

    /// Removes `owner` from the owners of the layer `id`, and removes the layer if nothing else needs it.
    /// Returns whether the layer is gone.
    ///
    /// # Errors
    /// [`windowsfilter::Error::HasChildren`], [`windowsfilter::Error::Mounted`], while the layer has
    /// children or is mounted; the owner stays then.
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
            // Keep the owner until the layer is gone: without it, an interrupted removal would leave the
            // layer forgotten.
            self.layers.remove_owned(id, owner)?;
        }
        Ok(!needed)
    }
}
