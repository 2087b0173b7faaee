//! The changes of a layer or sandbox, as a tar, a list or a number of bytes (`Diff`, `Changes`, `DiffSize` of
//! the original).
//!
//! The service reads a layer only while the filter is off. So a mounted layer is unprepared, and prepared
//! again after reading, even if that fails; another layer is activated while it is read.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;

use hcs::{DriverInfo, Host, LayerDescriptor, Privilege};
use wclayer::layer_tar::{self, LayerSource, SourceItem};

use super::bounded::{Bounded, BoundedTar};
use super::layer_reader::BaseReader;
use super::transport_directory::TransportDirectory;
use super::{ForLayer, Hcs, remove_transport, transport};
use crate::driver::{Change, ChangeKind};
use crate::engine::stream::piped;
use crate::engine::{Guard, Layer, Place};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::limits::DiffLimits;
use crate::record::LayerKind;
use crate::temporary::Temporaries;

/// Losses of a diff that are logged one by one.
const TOLD: usize = 10;

/// A layer to be read.
struct Source<H> {
    host: Arc<H>,
    info: DriverInfo,
    id: LayerId,
    parents: Vec<LayerDescriptor>,
    temporaries: Temporaries,
}

impl<H: Host> Hcs<H> {
    fn source(&self, layer: &Layer) -> Result<Source<H>, Error> {
        Ok(Source {
            host: Arc::clone(&self.host),
            info: self.info.clone(),
            id: layer.place.id.clone(),
            parents: self.chain_descriptors(layer)?,
            temporaries: self.temporaries.clone(),
        })
    }

    /// Makes the layer readable: takes the filter off, or activates the layer if it is not mounted.
    fn begin_reading(&self, layer: &Layer, mounted: bool) -> Result<(), Error> {
        let place = &layer.place;
        if mounted {
            return self.take_filter_off(place);
        }
        // As for a mount: if this process dies before deactivating the layer, the directory tells the next
        // one.
        let dir = &place.mounts;
        let was_there = dir.exists();
        if was_there {
            self.reset_layer(place);
        }
        fs::create_dir_all(dir).at("create directory", dir)?;
        self.activate_layer(&place.id).map_err(|error| match was_there {
            // It may still be active, which the directory tells the next process.
            true => error,
            false => error.with_undo(remove_mounts(place)),
        })?;
        if layer.kind != LayerKind::Sandbox {
            return Ok(());
        }
        // A sandbox cannot be read before it was mounted once (hcsshim `pkg/ociwclayer/export.go`).
        let initialised = self
            .prepare_layer(layer)
            .and_then(|()| self.host.unprepare_layer(&self.info, place.id.as_str()).for_layer(&place.id));
        initialised.map_err(|error| error.with_undo(self.end_reading(layer, false)))
    }

    /// Undoes [`Self::begin_reading`].
    fn end_reading(&self, layer: &Layer, mounted: bool) -> Result<(), Error> {
        let id = &layer.place.id;
        if mounted {
            return self.put_filter_on_again(layer);
        }
        self.host.deactivate_layer(&self.info, id.as_str()).for_layer(id)?;
        remove_mounts(&layer.place)
    }

    /// The layer's tar. The thread that writes it holds `guard`, and restores the layer's state before the
    /// stream ends.
    pub(super) fn read_layer(
        &self,
        layer: &Layer,
        mounted: bool,
        limits: DiffLimits,
        guard: Guard,
    ) -> Result<Box<dyn Read + Send>, Error> {
        if layer.kind == LayerKind::Empty {
            return Ok(Box::new(std::io::Cursor::new(super::EMPTY_TAR)));
        }
        let source = self.source(layer)?;
        self.begin_reading(layer, mounted)?;
        let (engine, read) = (self.clone(), layer.clone());
        let stream = piped("layer diff", self.temporaries.cancel(), move |out| {
            let _guard = guard;
            let written = source.read(|items| {
                let losses = write_tar(items, out, limits)?;
                tell_losses(&source.id, &losses);
                Ok(())
            });
            let ended = engine.end_reading(&read, mounted);
            if let Err(error) = &ended {
                // Logged, because a caller that dropped the stream does not get the error.
                tracing::error!("layer {}: after its diff was read: {error}", read.place.id);
            }
            match written {
                Ok(()) => ended,
                Err(error) => Err(error.with_undo(ended)),
            }
        });
        stream
            .at("start a thread for", &layer.place.dir)
            .map_err(|error| error.with_undo(self.end_reading(layer, mounted)))
    }

    /// Reads the whole layer. A list is not a tar, so only the limit on entries applies.
    fn read_all<T>(
        &self,
        layer: &Layer,
        mounted: bool,
        limits: &DiffLimits,
        read: impl FnOnce(&mut dyn LayerSource) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let source = self.source(layer)?;
        self.begin_reading(layer, mounted)?;
        let entries = DiffLimits { entries: limits.entries, ..DiffLimits::default() };
        let result = source.read(|items| {
            let mut items = Bounded::new(items, entries);
            read(&mut items).map_err(|error| items.exceeded().unwrap_or(error))
        });
        let ended = self.end_reading(layer, mounted);
        match result {
            Ok(value) => ended.map(|()| value),
            Err(error) => Err(error.with_undo(ended)),
        }
    }

    /// The changes of the layer, sorted. The service does not distinguish new paths from modified ones.
    pub(super) fn layer_changes(
        &self,
        layer: &Layer,
        mounted: bool,
        limits: &DiffLimits,
    ) -> Result<Vec<Change>, Error> {
        if layer.kind == LayerKind::Empty {
            return Ok(Vec::new());
        }
        let there = if layer.below().is_empty() { ChangeKind::Add } else { ChangeKind::Modify };
        self.read_all(layer, mounted, limits, |items| {
            let mut changes = Vec::new();
            while let Some(item) = next(items)? {
                let (path, kind) = match item {
                    SourceItem::Tombstone { path } => (path, ChangeKind::Delete),
                    SourceItem::File { path, .. } => (path, there),
                };
                let path = path.into_iter().map(|byte| if byte == b'\\' { b'/' } else { byte }).collect();
                changes.push(Change { path, kind });
            }
            changes.sort();
            Ok(changes)
        })
    }

    /// Bytes of the files that the layer changes; a file with several names counts once.
    pub(super) fn layer_changed_bytes(
        &self,
        layer: &Layer,
        mounted: bool,
        limits: &DiffLimits,
    ) -> Result<u64, Error> {
        self.read_all(layer, mounted, limits, |items| {
            let (mut bytes, mut seen) = (0, HashSet::new());
            while let Some(item) = next(items)? {
                if let SourceItem::File { size, link_id, .. } = item
                    && link_id.is_none_or(|id| seen.insert(id))
                {
                    bytes = u64::saturating_add(bytes, size);
                }
            }
            Ok(bytes)
        })
    }
}

/// Writes the tar of a layer, in the original's form where that loses nothing. Things that have no form
/// there, for which the original fails or which it leaves out, are written as records of our own, so that a
/// commit does not fail because of one socket.
fn write_tar(
    items: &mut dyn LayerSource,
    out: &mut dyn Write,
    limits: DiffLimits,
) -> Result<Vec<layer_tar::Loss>, Error> {
    let (mut items, mut out) = (Bounded::new(items, limits), BoundedTar::new(out, limits));
    match layer_tar::export(&mut items, layer_tar::Writer::extended(&mut out)) {
        Ok((_, losses)) => Ok(losses),
        Err(error) => Err(items.exceeded().or_else(|| out.exceeded()).unwrap_or_else(|| error.into())),
    }
}

/// Logs only the first losses: a container can create any number of sparse files.
fn tell_losses(id: &LayerId, losses: &[layer_tar::Loss]) {
    for loss in losses.iter().take(TOLD) {
        tracing::warn!("layer {id}: {loss}");
    }
    if let Some(more) = losses.len().checked_sub(TOLD).filter(|more| *more > 0) {
        tracing::warn!("layer {id}: {more} more that a tar has no place for");
    }
}

fn remove_mounts(place: &Place) -> Result<(), Error> {
    fs::remove_dir_all(&place.mounts).at("remove", &place.mounts)
}

fn next(items: &mut dyn LayerSource) -> Result<Option<SourceItem>, Error> {
    items.next_item().map_err(|source| wclayer::layer_tar::LayerTarError::Source { source }.into())
}

impl<H: Host> Source<H> {
    fn fail(&self, error: hcs::Error) -> Error {
        Error::Hcs { id: self.id.to_string(), error }
    }

    /// Reads the layer on this thread, with the backup privilege.
    fn read<T>(&self, read: impl FnOnce(&mut dyn LayerSource) -> Result<T, Error>) -> Result<T, Error> {
        self.read_whatever_it_is(read).map_err(|error| error.about_layer("read", self.id.as_str()))
    }

    fn read_whatever_it_is<T>(
        &self,
        read: impl FnOnce(&mut dyn LayerSource) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _privileges =
            self.host.thread_privileges(&[Privilege::Backup]).map_err(|error| self.fail(error))?;
        if self.parents.is_empty() {
            return self.read_base(read);
        }
        let target = transport(&self.temporaries)?;
        let folder = super::paths::plain(target.path());
        self.host
            .export_layer(&self.info, self.id.as_str(), &folder, &self.parents)
            .map_err(|error| self.fail(error))?;
        let files = self.host.open_tree(&folder).map_err(|error| self.fail(error))?;
        let directory = TransportDirectory::exported(&files);
        let mut reader = wclayer::transport::Reader::new(&directory)?;
        let result = read(&mut reader);
        drop(reader);
        drop(files);
        remove_transport(&*self.host, self.id.as_str(), target);
        result
    }

    fn read_base<T>(&self, read: impl FnOnce(&mut dyn LayerSource) -> Result<T, Error>) -> Result<T, Error> {
        let dir = self.info.layer(self.id.as_str());
        let layer = self.host.open_tree(&dir).map_err(|error| self.fail(error))?;
        let mut reader = BaseReader::new(&layer).map_err(|error| self.fail(error))?;
        read(&mut reader)
    }
}
