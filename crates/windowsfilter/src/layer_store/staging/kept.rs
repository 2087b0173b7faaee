//! Staged layers that outlive the process that staged them.

use std::path::Path;

use super::{StagedLayer, Staging};
use crate::durable;
use crate::engine::Imported;
use crate::error::{Error, IoContext};
use crate::id::{IMPORTING, LayerId};
use crate::layer_store::LayerStore;
use crate::sealed;

/// Record of a kept staged layer, for [`LayerStore::take_up_staged`].
pub(super) const KEPT: &str = "staged.json";
/// Version of the record that this code writes and reads.
const KEPT_VERSION: u32 = 1;

impl LayerStore {
    /// Takes over a layer that was staged as `id` and kept, perhaps by a process that is gone; `None` if
    /// there is none or it is in use. A leftover that was staged but not kept is removed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take_up_staged(&self, id: &LayerId) -> Result<Option<StagedLayer>, Error> {
        let Some(mut staging) = Staging::adopt(&self.paths, id)? else { return Ok(None) };
        let kept = staging.dir.join(KEPT);
        let Some(text) = durable::read_file(&kept)? else { return Ok(None) };
        match sealed::unseal(KEPT_VERSION, &text) {
            Ok(imported) => {
                staging.remove = false;
                Ok(Some(StagedLayer { store: self.clone(), staging, imported }))
            }
            Err(error) => {
                // The record was renamed into place when it was whole, so this is damage; the layer can be
                // imported again.
                tracing::warn!("{} cannot be read, so the staged layer is given up: {error}", kept.display());
                Ok(None)
            }
        }
    }
}

/// A staging directory: of an import in progress, or left by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedDirectory {
    /// The ID it is staged as.
    pub id: LayerId,
    /// Whether it is complete and kept, see [`StagedLayer::keep`].
    pub kept: bool,
}

impl LayerStore {
    /// Everything that is staged, by ID.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn staged(&self) -> Result<Vec<StagedDirectory>, Error> {
        let dir = self.paths.staging();
        let mut staged = Vec::new();
        for name in self.entries(&dir)? {
            if let Some(Ok(id)) = name.strip_suffix(IMPORTING).map(LayerId::new) {
                staged.push(StagedDirectory { id, kept: is_kept(&dir.join(name)) });
            }
        }
        staged.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(staged)
    }
}

/// Whether a staging directory holds a kept layer, see [`StagedLayer::keep`].
pub(in crate::layer_store) fn is_kept(dir: &Path) -> bool {
    dir.join(KEPT).exists()
}

/// Why the record of a kept layer cannot be read, if it cannot.
pub(in crate::layer_store) fn kept_record_problem(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join(KEPT);
    let Some(text) = durable::read_file(&path)? else { return Ok(None) };
    let problem = sealed::unseal::<Imported>(KEPT_VERSION, &text).err();
    Ok(problem
        .map(|problem| format!("{}: {problem}; the layer in it has to be applied again", path.display())))
}

impl StagedLayer {
    /// Keeps the staged layer beyond this process: neither dropping it nor cleanup removes it, and
    /// [`LayerStore::take_up_staged`] finds it again. The caller must publish or discard it some time.
    ///
    /// # Errors
    /// When the record to find it again cannot be written.
    pub fn keep(&mut self) -> Result<(), Error> {
        let path = self.staging.dir.join(KEPT);
        let text = sealed::seal(KEPT_VERSION, &self.imported).at("write", &path)?;
        // The directory survives a crash, so the record in it must never be half-written.
        self.store.files().write(&path, &text)?;
        self.staging.remove = false;
        Ok(())
    }
}
