//! Snapshots that a client unpacks into by itself, with a result that is discarded.
//!
//! BuildKit unpacks a base image's layers into a mounted snapshot by itself, without a differ, and drops
//! all of Windows' own metadata (`winApplier` of its `util/winlayers`). In the namespace of `serve
//! --buildkit` it gets a directory for that; its commit discards the directory and takes the layer from the
//! store, unpacked from containerd's content store if needed. The key names the layer: `extract-<id> <chain
//! ID>` (`unlazyLayer` of BuildKit's `cache/refs.go`).
//!
//! The slow part runs in Mounts, which BuildKit calls after Prepare: containerd holds no lock then. During
//! Commit it holds that of its database, which would block all other writes; during Prepare it holds one
//! that its garbage collection waits for, and everything behind that. So Prepare creates no directory. A
//! directory that exists is complete: from then on only the client writes to it.
//! `docs/decisions/0016-buildkits-own-unpacking.md` describes the alternatives.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use windowsfilter::{DiffId, Digest, LayerId, StagedLayer};

use super::{New, Snapshotter, link_targets};
use crate::error::{Error, IoContext};
use crate::key;
use crate::labels::SNAPSHOT_REF;
use crate::records::Record;
use crate::stop::Stop;

/// A layer to unpack from containerd's content store before a snapshot's mounts can be returned.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The snapshot.
    pub(crate) record: Arc<Record>,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The chain ID of the layer.
    pub(crate) chain_id: Digest,
    /// The parent layer.
    pub(crate) below: Option<LayerId>,
}

impl Snapshotter {
    /// Whether the client of a new snapshot will unpack by itself.
    pub(super) fn is_thrown(&self, new: &New, namespace: &str) -> bool {
        self.buildkit.as_deref() == Some(namespace)
            && !new.labels.contains_key(SNAPSHOT_REF)
            && key::unpacked_chain(&new.key).is_some()
    }

    /// Whether a namespace for such clients is configured.
    pub(crate) fn unpacks_for_clients(&self) -> bool {
        self.buildkit.is_some()
    }

    fn thrown_dir(&self) -> PathBuf {
        self.dir.join("thrown")
    }

    /// The directory that a client unpacks into, if it exists.
    pub(super) fn thrown(&self, number: u64) -> Option<PathBuf> {
        Some(self.thrown_dir().join(number.to_string())).filter(|dir| dir.is_dir())
    }

    /// Creates that directory, if missing. Its layer must be in the store or staged.
    ///
    /// # Errors
    /// [`Error::NeverApplied`] if the layer is missing; a full disk.
    pub(super) fn make_thrown(&self, record: &Record, stop: &Stop) -> Result<(), Error> {
        if self.thrown(record.number).is_some() {
            return Ok(());
        }
        let tar = match (self.unpacks.look(record.number, StagedLayer::open_tar), &record.layer) {
            (Some(staged), _) => staged?,
            (None, Some(layer)) => self.store.open_tar(layer)?,
            (None, None) => return Err(Error::NeverApplied { key: record.short_key() }),
        };
        let (dir, making) = (self.thrown_dir().join(record.number.to_string()), self.making(record.number));
        remove(&making)?;
        fs::create_dir_all(&making).at("create directory", &making)?;
        link_targets::place(tar, &making, stop)?;
        fs::rename(&making, &dir).at("rename to", dir)
    }

    fn making(&self, number: u64) -> PathBuf {
        self.thrown_dir().join(format!("{number}-making"))
    }

    /// Removes what the client unpacked; no-op if there is nothing.
    pub(super) fn throw_away(&self, number: u64) -> Result<(), Error> {
        self.sources.unlink(number)?;
        remove(&self.thrown_dir().join(number.to_string()))?;
        remove(&self.making(number))
    }

    /// Removes directories that belong to no snapshot or are incomplete.
    pub(super) fn throw_away_leftovers(&self) -> Result<(), Error> {
        let dir = self.thrown_dir();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at("list", &dir)?,
        };
        for entry in entries {
            let entry = entry.at("list", &dir)?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let record = number.and_then(|number| self.records.numbered(number));
            match (number, record.is_some_and(|record| record.is_thrown())) {
                (_, true) => {}
                (Some(number), false) => self.throw_away(number)?,
                (None, false) => remove(&entry.path())?,
            }
        }
        Ok(())
    }

    /// The layer to unpack from containerd's content store before Mounts of `key` can answer; `None` if
    /// there is none. Makes the snapshot an owner of the layer if the store has it.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`]; a missing parent.
    pub(crate) fn wanted(&self, key: &str, stop: &Stop) -> Result<Option<Wanted>, Error> {
        let _claim = self.claims.claim(&[key], stop)?;
        let record = self.records.get(key)?;
        let chain_id = key::unpacked_chain(key).filter(|_| record.is_thrown());
        let (Some(chain_id), Some(namespace)) = (chain_id, self.namespace_of(&record)) else {
            return Ok(None);
        };
        if record.layer.is_some() || self.unpacks.look(record.number, |_| ()).is_some() {
            return Ok(None);
        }
        let below = self.records.look(|state| super::commit::committed(state, key, &record.parent))?;
        if self.own_wanted(&record, &LayerId::new(chain_id.hex())?, below.as_ref())? {
            return Ok(None);
        }
        Ok(Some(Wanted { record, namespace, chain_id, below }))
    }

    /// Makes the snapshot an owner of its layer, `diff_id`, if the store has it on top of the snapshot's
    /// parent. Returns whether it does.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn own_found(&self, wanted: &Wanted, diff_id: DiffId) -> Result<bool, Error> {
        let below = wanted.below.as_ref();
        self.own_wanted(&wanted.record, &windowsfilter_image::chain_id(below, diff_id)?, below)
    }

    fn own_wanted(&self, record: &Record, id: &LayerId, below: Option<&LayerId>) -> Result<bool, Error> {
        if !self.store.contains(id) || !self.images.own_shared(id, below, &self.owner(record.number)?)? {
            return Ok(false);
        }
        self.records
            .modify(record.number, |record| Record { layer: Some(id.clone()), ..record.clone() })
            .map(|()| true)
    }

    /// Digest and length of the layer's tar, if the layer is there for a client that unpacks by itself but
    /// still calls Apply: BuildKit does so for layers from its caches, which it does not know to be Windows
    /// layers.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn present_for_client(&self, record: &Record) -> Result<Option<(DiffId, u64)>, Error> {
        if !record.is_thrown() {
            return Ok(None);
        }
        let staged =
            self.unpacks.look(record.number, |staged| (staged.imported.diff_id, staged.imported.tar_size));
        if let (None, Some(layer)) = (staged, &record.layer) {
            let layer = self.store.record(layer)?;
            return Ok(layer.diff_id.map(|diff_id| (diff_id, layer.tar_size)));
        }
        Ok(staged)
    }
}

/// Removes a directory tree, if it exists.
fn remove(dir: &std::path::Path) -> Result<(), Error> {
    match windowsfilter::support::remove_tree(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", dir),
        _ => Ok(()),
    }
}
