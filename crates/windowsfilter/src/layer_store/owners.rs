//! Owners: programs with records of their own that need a layer, such as containerd's snapshots, besides
//! images, sandboxes and other layers.
//!
//! `owners.json` in the layer's directory lists them. A layer with owners is neither removed nor pruned. A
//! layer and its first owner become visible in the same rename, so that a crash cannot leave a layer without
//! its owner.

use std::collections::BTreeSet;
use std::path::Path;

use super::LayerStore;
use crate::durable;
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::sealed::{self, BrokenSeal};
use crate::store::file;

/// Writes the first owner of a layer that is not visible yet.
pub(super) fn write_new(dir: &Path, owner: &str) -> Result<(), Error> {
    durable::write_new(&dir.join(file::OWNERS), &text(BTreeSet::from([owner.to_owned()]))?)
}

/// Version of `owners.json` that this code writes and reads.
const VERSION: u32 = 1;

/// The content of `owners.json`.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Owners {
    owners: BTreeSet<String>,
}

fn text(owners: BTreeSet<String>) -> Result<Vec<u8>, Error> {
    sealed::seal(VERSION, &Owners { owners }).at("write", Path::new(file::OWNERS))
}

impl LayerStore {
    /// The owners of `id`; most layers have none.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn owners(&self, id: &LayerId) -> Result<BTreeSet<String>, Error> {
        let Some(text) = durable::read_file(&self.dir(id)?.join(file::OWNERS))? else {
            return Ok(BTreeSet::new());
        };
        let damaged = |error: BrokenSeal| Error::Damaged {
            id: id.clone(),
            file: file::OWNERS,
            reason: error.to_string(),
        };
        sealed::unseal::<Owners>(VERSION, &text).map(|content| content.owners).map_err(damaged)
    }

    /// Makes `owner` an owner of `id`; no-op if it already is.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn own(&self, id: &LayerId, owner: &str) -> Result<(), Error> {
        // The lock prevents a removal between the check and the write.
        let _lock = self.lock()?;
        self.record(id)?;
        let mut owners = self.owners(id)?;
        if owners.insert(owner.to_owned()) { self.write_owners(id, owners) } else { Ok(()) }
    }

    /// Removes `owner` from the owners of `id`; no-op if it is not one, or if there is no such layer.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn disown(&self, id: &LayerId, owner: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut owners = self.owners(id)?;
        if owners.remove(owner) { self.write_owners(id, owners) } else { Ok(()) }
    }

    fn write_owners(&self, id: &LayerId, owners: BTreeSet<String>) -> Result<(), Error> {
        self.paths.temporaries().write(&self.dir(id)?.join(file::OWNERS), &text(owners)?)
    }
}
