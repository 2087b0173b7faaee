//! Snapshots that a client unpacks into by itself, and whose content is thrown away.
//!
//! BuildKit unpacks the layers of a base image into a mounted snapshot itself, without a differ, and drops
//! all that only Windows knows (`winApplier` of its `util/winlayers`). In the namespace that `serve
//! --buildkit` names it gets a directory to do so in; its commit discards that, and takes the layer from the
//! store, or the one that was unpacked from containerd's content store. The key says which layer it is:
//! `extract-<id> <chain ID>` (`unlazyLayer` of BuildKit's `cache/refs.go`).
//!
//! All that takes time is done when the client asks for the mounts, as BuildKit does after it has prepared
//! the snapshot: then containerd holds no lock. During a commit it holds that of its database, and nothing
//! else could be written there; during Prepare one that its garbage collection waits for, and all behind
//! that. So Prepare makes no directory. A directory that is there is complete: nothing is written to it any
//! more but by the client. `docs/decisions/0016-buildkits-own-unpacking.md` says what else was possible.

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

/// What the mounts of a snapshot need of containerd's content store.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The snapshot.
    pub(crate) record: Arc<Record>,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The chain ID of the layer.
    pub(crate) chain_id: Digest,
    /// What it stands on.
    pub(crate) below: Option<LayerId>,
}

impl Snapshotter {
    /// Whether a new snapshot to unpack into is one whose client unpacks by itself.
    pub(super) fn is_thrown(&self, new: &New, namespace: &str) -> bool {
        self.buildkit.as_deref() == Some(namespace)
            && !new.labels.contains_key(SNAPSHOT_REF)
            && key::unpacked_chain(&new.key).is_some()
    }

    /// Whether there is a namespace for such clients.
    pub(crate) fn unpacks_for_clients(&self) -> bool {
        self.buildkit.is_some()
    }

    fn thrown_dir(&self) -> PathBuf {
        self.dir.join("thrown")
    }

    /// The directory that a client unpacks into, if it was made.
    pub(super) fn thrown(&self, number: u64) -> Option<PathBuf> {
        Some(self.thrown_dir().join(number.to_string())).filter(|dir| dir.is_dir())
    }

    /// Makes that directory, unless it is there. Its layer is in the store or staged by now.
    ///
    /// # Errors
    /// [`Error::NeverApplied`] if the layer is not there; a full disk.
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

    /// Throws away what was unpacked; where there is nothing, nothing is done.
    pub(super) fn throw_away(&self, number: u64) -> Result<(), Error> {
        self.sources.unlink(number)?;
        remove(&self.thrown_dir().join(number.to_string()))?;
        remove(&self.making(number))
    }

    /// Throws away what belongs to no snapshot any more, and what was not complete.
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

    /// What has to be unpacked from containerd's content store before the mounts of `key` can be given;
    /// `None` if nothing has. A layer that the store has belongs to the snapshot from here on.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`]; a parent that is gone.
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

    /// Makes the snapshot an owner of the layer `diff_id`, which is the one that it is for, if that is in the
    /// store on top of what it stands on. The answer is whether it is.
    ///
    /// # Errors
    /// A store that cannot be read.
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

    /// Digest and length of the tar of the layer that is there for a client that unpacks by itself, and asks
    /// us to apply the same all the same: BuildKit does so with layers from its caches, of which it does not
    /// know that they are Windows'.
    ///
    /// # Errors
    /// A store that cannot be read.
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

/// Removes a directory with all that is in it, if it is there.
fn remove(dir: &std::path::Path) -> Result<(), Error> {
    match windowsfilter::support::remove_tree(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", dir),
        _ => Ok(()),
    }
}
