//! Layers that are made at their final path, because the compute service identifies a layer by its path.
//!
//! While a layer is made, `incomplete/<id>` marks it as hidden, and cleanup destroys it if its maker dies.
//! Once its records are written, removing the mark makes the layer visible. The maker holds the lock of the
//! layer's directory.

use std::fs;

use super::{LayerStore, owners};
use crate::digest::Digest;
use crate::durable;
use crate::engine::{ChainLayer, Layer, Place};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::record::{self, LayerKind, LayerRecord};
use crate::store::file;

/// A layer to be made.
pub(super) struct Made<'a> {
    pub(super) id: &'a LayerId,
    pub(super) parent: Option<&'a LayerId>,
    pub(super) record: &'a LayerRecord,
    pub(super) owner: Option<&'a str>,
}

impl LayerStore {
    /// Whether `id` is being made, or its maker died.
    pub(super) fn is_incomplete(&self, id: &LayerId) -> bool {
        self.paths.is_incomplete(id)
    }

    /// Calls `make` to make a layer at its final path, writes its records and makes it visible. On failure
    /// nothing is left behind.
    pub(super) fn make_in_place(
        &self,
        made: &Made<'_>,
        make: impl FnOnce(&Layer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let dir = self.paths.layer(made.id);
        let _lock = self.paths.lock_directory(&dir, &format!("layer {}", made.id))?;
        if self.is_incomplete(made.id) {
            self.destroy_incomplete(made.id)?;
        }
        let chain = self.chain_on(made.id, made.parent)?;
        let replaced = self.replaceable(made, &chain)?;
        let layer = self.unpublished(made, &chain)?;
        let mark = self.paths.incomplete(made.id);
        durable::write_new(&mark, b"")?;
        durable::sync_dir(&self.paths.incomplete_dir())?;
        make(&layer)
            .and_then(|()| self.complete(&layer, made, &chain))
            .map_err(|error| error.with_undo(self.give_up(made, &chain, replaced)))
    }

    /// The record of the empty layer that the new one replaces, if there is one; any other layer of this ID
    /// is an error.
    fn replaceable(&self, made: &Made<'_>, chain: &[LayerId]) -> Result<Option<LayerRecord>, Error> {
        let id = made.id;
        if !self.paths.layer(id).is_dir() {
            return Ok(None);
        }
        let exists = || self.layer_exists(id);
        let old = self.read_record(id)?;
        let fills = made.record.kind == LayerKind::Layer && old.kind == LayerKind::Empty;
        if !fills || self.read_chain(id)? != chain {
            return Err(exists());
        }
        if self.mounts(id)?.users() > 0 {
            return Err(Error::Mounted { id: id.clone(), path: self.paths.mount(id) });
        }
        Ok(Some(old))
    }

    /// The layer for the engine, before it is visible.
    fn unpublished(&self, made: &Made<'_>, chain: &[LayerId]) -> Result<Layer, Error> {
        let id = made.id.clone();
        let place = Place { dir: self.paths.layer(&id), mounts: self.paths.mount(&id), id };
        let mut layers = Vec::new();
        for parent in chain.iter().rev() {
            layers.push(self.chain_layer(made.id, parent)?);
        }
        if made.record.kind == LayerKind::Layer {
            let (id, dir) = (place.id.clone(), place.dir.clone());
            layers.push(ChainLayer { id, dir, diff_id: made.record.diff_id });
        }
        Ok(Layer { place, kind: made.record.kind, chain: layers, streams: self.streams })
    }

    /// Writes the records and removes the mark, if the parents still exist. The layer's files are synced
    /// first: otherwise a power loss could leave a complete layer with files of zeros. The sync may take a
    /// while, so it runs without the store lock.
    fn complete(&self, layer: &Layer, made: &Made<'_>, chain: &[LayerId]) -> Result<(), Error> {
        self.write_records(made, chain)?;
        self.engine.make_durable(&layer.place)?;
        {
            let _store_lock = self.lock()?;
            if self.chain_on(made.id, made.parent)? != chain {
                let parent = made.parent.unwrap_or(made.id).clone();
                return Err(Error::ParentGone { id: made.id.clone(), parent });
            }
            let mark = self.paths.incomplete(made.id);
            fs::remove_file(&mark).at("remove", &mark)?;
            durable::sync_dir(&self.paths.incomplete_dir())?;
        }
        // Others may already use the layer, so it stays even if this fails.
        if let Err(error) = self.engine.make_durable(&layer.place) {
            tracing::warn!("layer {} is complete, but a power loss now may cost it: {error}", made.id);
        }
        Ok(())
    }

    fn write_records(&self, made: &Made<'_>, chain: &[LayerId]) -> Result<(), Error> {
        let (dir, temporaries) = (self.paths.layer(made.id), self.paths.temporaries());
        if let Some(owner) = made.owner {
            owners::write_new(&dir, owner)?;
        }
        let text = self.paths.with_chain_form(|form| record::chain_text(chain, form));
        temporaries.write(&dir.join(file::CHAIN), &text)?;
        let record = LayerRecord { chain: Some(Digest::of(&text)), ..made.record.clone() };
        record::replace_record(&dir, &record, &temporaries)
    }

    /// Destroys the layer and restores the empty layer that it replaced, if any. If it cannot be destroyed,
    /// it stays marked.
    fn give_up(
        &self,
        made: &Made<'_>,
        chain: &[LayerId],
        replaced: Option<LayerRecord>,
    ) -> Result<(), Error> {
        let dir = self.paths.layer(made.id);
        if dir.exists() {
            self.engine.destroy(&dir)?;
        }
        if let Some(record) = replaced {
            let made = Made { record: &record, owner: None, ..*made };
            let layer = self.unpublished(&made, chain)?;
            self.engine.create(&layer, made.parent)?;
            self.write_records(&made, chain)?;
        }
        self.unmark(made.id)
    }

    fn unmark(&self, id: &LayerId) -> Result<(), Error> {
        let mark = self.paths.incomplete(id);
        match fs::remove_file(&mark) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("remove", &mark),
            _ => Ok(()),
        }
    }

    fn destroy_incomplete(&self, id: &LayerId) -> Result<(), Error> {
        let dir = self.paths.layer(id);
        if dir.exists() {
            self.engine.destroy(&dir)?;
        }
        self.unmark(id)
    }

    /// Incomplete layers that are not being made.
    pub(super) fn abandoned_in_place(&self) -> Result<Vec<LayerId>, Error> {
        // Other stores have no such directory.
        if !self.paths.incomplete_dir().is_dir() {
            return Ok(Vec::new());
        }
        let mut abandoned = Vec::new();
        for name in self.entries(&self.paths.incomplete_dir())? {
            let Ok(id) = LayerId::new(name) else { continue };
            if self.paths.try_lock_directory(&self.paths.layer(&id))?.is_some() {
                abandoned.push(id);
            }
        }
        Ok(abandoned)
    }

    /// Destroys an incomplete layer, unless it is being made.
    pub(super) fn drop_incomplete(&self, id: &LayerId) -> Result<(), Error> {
        let Some(_lock) = self.paths.try_lock_directory(&self.paths.layer(id))? else { return Ok(()) };
        // Check again now that we hold its lock.
        if self.is_incomplete(id) { self.destroy_incomplete(id) } else { Ok(()) }
    }
}
