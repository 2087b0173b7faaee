//! How layers and sandboxes enter the store: staged in an invisible directory, then published by one rename.

mod kept;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use layer_mounts::remove_tree;

use super::in_place::Made;
use super::{LayerStore, missing_in_chain, owners};
use crate::driver::Applied;
use crate::durable;
use crate::engine::{ChainLayer, ImportRequest, Imported};
use crate::error::{Error, IoContext};
use crate::id::{IMPORTING, LayerId};
use crate::lock::{self, Lock};
use crate::record::{self, LayerKind, LayerRecord};
use crate::store::{self, Paths};

use kept::KEPT;
pub use kept::StagedDirectory;
pub(super) use kept::{is_kept, kept_record_problem};

/// A layer that is complete on disk but not yet visible. Dropping it discards it.
#[derive(Debug)]
pub struct StagedLayer {
    store: LayerStore,
    staging: Staging,
    /// The result of the import.
    pub imported: Imported,
}

/// A directory `<id>-importing`, locked by its writer.
#[derive(Debug)]
pub(super) struct Staging {
    id: LayerId,
    pub(super) dir: PathBuf,
    /// Whether dropping this removes the directory. Cleared when the layer is published or kept.
    remove: bool,
    _lock: Lock,
}

impl Staging {
    /// Claims the staging directory of `id`; waits for another writer of the same ID.
    fn claim(paths: &Paths, id: &LayerId) -> Result<Self, Error> {
        let dir = paths.staging().join(format!("{id}{IMPORTING}"));
        loop {
            let ours = match fs::create_dir(&dir) {
                Ok(()) => true,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
                Err(e) => return Err(e).at("create directory", &dir),
            };
            let lock = match paths.lock_directory(&dir, &format!("the import of layer {id}")) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) if ours => return Err(e.with_undo(fs::remove_dir(&dir).at("remove", &dir))),
                other => other?,
            };
            // The previous writer may have published or removed the directory while we waited.
            if paths.is_locked(&lock, &dir) {
                let staging = Self { id: id.clone(), dir, remove: true, _lock: lock };
                staging.empty()?;
                return Ok(staging);
            }
        }
    }

    /// The staging directory of `id` that a writer left; `None` if there is none or its writer is alive.
    fn adopt(paths: &Paths, id: &LayerId) -> Result<Option<Self>, Error> {
        let dir = paths.staging().join(format!("{id}{IMPORTING}"));
        if !dir.is_dir() {
            return Ok(None);
        }
        let lock = paths.try_lock_directory(&dir)?.filter(|lock| paths.is_locked(lock, &dir));
        Ok(lock.map(|lock| Self { id: id.clone(), dir, remove: true, _lock: lock }))
    }

    /// Removes the files of a writer that died.
    fn empty(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)? {
            let path = entry.at("list", &self.dir)?.path();
            fs::remove_file(&path).at("remove", &path)?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.remove {
            return;
        }
        match remove_tree(&self.dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {e}; cleanup will", self.dir.display());
            }
            _ => {}
        }
    }
}

impl LayerStore {
    /// Imports a layer blob into the store without making it visible. Several can be staged at once; parents
    /// need not exist yet.
    ///
    /// # Errors
    /// Bad data, naming the entry and the reason; more data than the store's limits allow; an unexpected
    /// digest, size or diffID. Nothing is left behind.
    pub fn stage(&self, id: &LayerId, request: ImportRequest<'_>) -> Result<StagedLayer, Error> {
        let staging = Staging::claim(&self.paths, id)?;
        let label = request.label.clone();
        let request = ImportRequest { blob: Box::new(self.cancel().reader(request.blob)), ..request };
        let imported =
            self.engine.stage(&staging.dir, request, &self.limits).map_err(|error| error.in_layer(label))?;
        self.cancel().check()?;
        Ok(StagedLayer { store: self.clone(), staging, imported })
    }

    /// Imports a layer tar (plain, gzip or zstd) as layer `id` on top of `parent`. The import is atomic.
    ///
    /// # Errors
    /// Bad data, naming the entry and the reason; [`Error::LayerExists`] unless `id` is an empty layer with
    /// the same parent; [`Error::MissingParent`].
    pub fn import(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        tar: &mut (dyn Read + Send),
    ) -> Result<Applied, Error> {
        // Checked before reading the first byte; publishing checks again, under the lock.
        if self.contains(id) && self.record(id)?.kind != LayerKind::Empty {
            return Err(self.layer_exists(id));
        }
        if let Some(parent) = parent
            && !self.contains(parent)
        {
            return Err(Error::MissingParent { id: id.clone(), parent: parent.clone() });
        }
        self.stage(id, ImportRequest::new(format!("layer {id}"), tar))?.publish(parent)
    }

    /// The chain of a layer on top of `parent`, without parents that have no content: the original leaves out
    /// `-init` layers in the same way.
    pub(super) fn chain_on(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Vec<LayerId>, Error> {
        let Some(parent) = parent else { return Ok(Vec::new()) };
        let missing = |e| match e {
            Error::NoSuchLayer { .. } => Error::MissingParent { id: id.clone(), parent: parent.clone() },
            other => other,
        };
        let parent = self.resolve(parent)?;
        let record = self.record(&parent).map_err(missing)?;
        let mut chain = self.chain_ids(&parent).map_err(missing)?;
        if record.kind == LayerKind::Layer {
            chain.insert(0, parent);
        }
        Ok(chain)
    }

    /// Creates a read-only layer without content; [`Self::import`] fills it.
    ///
    /// # Errors
    /// [`Error::LayerExists`], [`Error::MissingParent`]; nothing is left behind.
    pub fn create_empty(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<(), Error> {
        let record = LayerRecord::new(LayerKind::Empty);
        // The host makes it at its final path, so there is nothing to rename.
        if self.is_in_place() {
            let made = Made { id, parent, record: &record, owner: None };
            let parent = parent.map(|parent| self.resolve(parent)).transpose()?;
            return self.make_in_place(&made, |layer| self.engine.create(layer, parent.as_ref()));
        }
        let staging = self.claim_new(id)?;
        self.publish(staging, id, parent, &record)
    }

    /// The error that `id` exists, with its kind.
    pub(super) fn layer_exists(&self, id: &LayerId) -> Error {
        let kind = self.record(id).map_or(LayerKind::Layer, |record| record.kind);
        Error::LayerExists { id: id.clone(), kind }
    }

    pub(super) fn claim_new(&self, id: &LayerId) -> Result<Staging, Error> {
        if self.contains(id) {
            return Err(self.layer_exists(id));
        }
        Staging::claim(&self.paths, id)
    }

    /// Writes the records of a staged directory and makes it visible as `id`.
    pub(super) fn publish(
        &self,
        mut staging: Staging,
        id: &LayerId,
        parent: Option<&LayerId>,
        record: &LayerRecord,
    ) -> Result<(), Error> {
        let _lock = self.lock()?;
        let chain = self.chain_on(id, parent)?;
        let digest = record::write_chain(&staging.dir, &chain)?;
        record::write_record(&staging.dir, &LayerRecord { chain: Some(digest), ..record.clone() })?;
        durable::sync_dir(&staging.dir)?;
        let target = self.paths.layer(id);
        if target.is_dir() {
            self.replace_empty(&staging, id, &chain)?;
        } else {
            fs::rename(&staging.dir, &target).at("publish", &target)?;
        }
        // From here on, a directory at the staging path belongs to another writer.
        staging.remove = false;
        durable::sync_dir(&self.paths.layers())
    }

    /// `apply_diff` after `create`: swaps the staged content for the empty layer in one step.
    fn replace_empty(&self, staging: &Staging, id: &LayerId, chain: &[LayerId]) -> Result<(), Error> {
        let target = self.paths.layer(id);
        let old = record::read_record(&target, id)?;
        if old.kind != LayerKind::Empty || self.read_chain(id)? != chain {
            return Err(Error::LayerExists { id: id.clone(), kind: old.kind });
        }
        if self.mounts(id)?.users() > 0 {
            return Err(Error::Mounted { id: id.clone(), path: self.paths.mount(id) });
        }
        // Other writers of this ID wait for the lock of the directory at the staging path, so hold that of
        // the swapped-out directory until it is removed.
        let Some(_swapped_out) = lock::try_exclusive_dir(&target)? else {
            return Err(Error::Busy { id: id.clone() });
        };
        let swapped_out = self.exchange(staging, &target)?;
        remove_tree(&swapped_out).at("remove", &swapped_out)
    }

    /// Replaces `target` by the staged directory and returns the new path of the old one.
    #[cfg(target_os = "linux")]
    fn exchange(&self, staging: &Staging, target: &Path) -> Result<PathBuf, Error> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, &staging.dir, CWD, target, RenameFlags::EXCHANGE).at("publish", target)?;
        Ok(staging.dir.clone())
    }

    /// Replaces `target` by the staged directory and returns the new path of the old one. Only Linux has one
    /// call for it: elsewhere a crash between the two renames loses the empty layer.
    #[cfg(not(target_os = "linux"))]
    fn exchange(&self, staging: &Staging, target: &Path) -> Result<PathBuf, Error> {
        let aside = self.removing_name(&staging.id);
        fs::rename(target, &aside).at("replace", target)?;
        match fs::rename(&staging.dir, target).at("publish", target) {
            Ok(()) => Ok(aside),
            Err(e) => Err(e.with_undo(fs::rename(&aside, target).at("put back", target))),
        }
    }
}

impl StagedLayer {
    /// Its tar, exactly as imported.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open_tar(&self) -> Result<fs::File, Error> {
        let path = self.staging.dir.join(store::file::TAR);
        fs::File::open(&path).at("open", &path)
    }

    /// Removes the layer for good, kept or not.
    pub fn discard(mut self) {
        self.staging.remove = true;
        let parent = self.store.paths.staging();
        drop(self);
        if let Err(error) = durable::sync_dir(&parent) {
            tracing::warn!("a staged layer that was given up may come back after a crash: {error}");
        }
    }

    /// Makes the layer visible on top of `parent`.
    ///
    /// # Errors
    /// [`Error::MissingParent`], [`Error::LayerExists`], a hard link to a file that neither the layer nor its
    /// parents have. Nothing is left behind.
    pub fn publish(self, parent: Option<&LayerId>) -> Result<Applied, Error> {
        let id = self.staging.id.clone();
        self.publish_as(&id, parent, None)
    }

    /// Makes the layer visible as `id`, which may differ from the ID it was staged as, on top of `parent`.
    /// `owner`, if given, owns it from the moment it is visible.
    ///
    /// # Errors
    /// As [`StagedLayer::publish`].
    pub fn publish_as(
        mut self,
        id: &LayerId,
        parent: Option<&LayerId>,
        owner: Option<&str>,
    ) -> Result<Applied, Error> {
        self.staging.remove = true;
        self.check_parent_links(id, parent)?;
        // In place, the staged content is installed instead of renamed.
        let in_place = self.store.is_in_place();
        let Self { store, staging, imported } = self;
        let kept = staging.dir.join(KEPT);
        if kept.exists() {
            fs::remove_file(&kept).at("remove", &kept)?;
        }
        let record = LayerRecord {
            diff_id: Some(imported.diff_id),
            tar_size: imported.tar_size,
            size: imported.size,
            entries: imported.entries,
            index: imported.index,
            ..LayerRecord::new(LayerKind::Layer)
        };
        if in_place {
            let made = Made { id, parent, record: &record, owner };
            store.make_in_place(&made, |layer| store.engine.install(layer, &staging.dir))?;
        } else {
            if let Some(owner) = owner {
                owners::write_new(&staging.dir, owner)?;
            }
            store.publish(staging, id, parent, &record)?;
        }
        let Imported { size, diff_id, entries, mut notes, whiteouts, .. } = imported;
        if parent.is_none() && whiteouts > 0 {
            notes.push(format!("the layer has no parents, so its {whiteouts} deletions delete nothing"));
        }
        Ok(Applied { size, diff_id, entries, notes })
    }

    /// Refuses hard links to files that no parent has: they can be staged, but the layer could never be
    /// mounted.
    fn check_parent_links(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<(), Error> {
        if self.imported.parent_links.is_empty() {
            return Ok(());
        }
        let chain = || {
            let parents = self.store.chain_on(id, parent)?;
            let parents = parents.iter().rev().map(|parent| self.store.chain_layer(id, parent));
            let mut chain = parents.collect::<Result<Vec<_>, _>>()?;
            let (dir, diff_id) = (self.staging.dir.clone(), Some(self.imported.diff_id));
            chain.push(ChainLayer { id: id.clone(), dir, diff_id });
            Ok(chain)
        };
        self.store.engine.check_chain(&chain).map_err(|error| match chain() {
            Ok(chain) => missing_in_chain(&chain, error),
            Err(_) => error,
        })
    }
}

#[cfg(test)]
mod tests;
