//! Snapshots that a client unpacks into by itself, and whose content is thrown away.
//!
//! BuildKit unpacks the layers of a base image into a mounted snapshot itself, without a differ, and drops
//! all that only Windows knows (`winApplier` of its `util/winlayers`). In the namespace that `serve
//! --buildkit` names it gets a directory to do so in; its commit discards that, and takes the layer from the
//! store, or has it unpacked from containerd's content store. The key says which layer it is: `extract-<id>
//! <chain ID>` (`unlazyLayer` of BuildKit's `cache/refs.go`).

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use windowsfilter::{Digest, LayerId};

use super::{New, Snapshotter};
use crate::error::{Error, IoContext};
use crate::key;
use crate::labels::SNAPSHOT_REF;
use crate::records::{Kind, Record};

/// What a commit needs of containerd's content store.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The snapshot.
    pub(crate) record: Arc<Record>,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The chain ID of the layer.
    pub(crate) chain_id: Digest,
    /// The chain ID of what it stands on.
    pub(crate) below: Option<Digest>,
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

    /// The directory that a client unpacks into, made if it is missing.
    pub(super) fn thrown(&self, number: u64) -> Result<PathBuf, Error> {
        let dir = self.thrown_dir().join(number.to_string());
        fs::create_dir_all(&dir).at("create directory", &dir)?;
        Ok(dir)
    }

    /// Throws away what was unpacked; where there is nothing, nothing is done.
    pub(super) fn throw_away(&self, number: u64) -> Result<(), Error> {
        self.sources.unlink(number)?;
        let dir = self.thrown_dir().join(number.to_string());
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", dir),
            _ => Ok(()),
        }
    }

    /// Throws away what belongs to no snapshot any more.
    pub(super) fn throw_away_leftovers(&self) -> Result<(), Error> {
        let dir = self.thrown_dir();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at("list", &dir)?,
        };
        for entry in entries {
            let name = entry.at("list", &dir)?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if !self
                .records
                .numbered(number)
                .is_some_and(|record| record.kind == Kind::Unpack && record.thrown)
            {
                self.throw_away(number)?;
            }
        }
        Ok(())
    }

    /// What has to be unpacked from containerd's content store before `key` can be committed; `None` if
    /// nothing has.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`]; a parent that is gone.
    pub(crate) fn wanted(&self, key: &str) -> Result<Option<Wanted>, Error> {
        let record = self.records.get(key)?;
        let chain_id = key::unpacked_chain(key).filter(|_| record.kind == Kind::Unpack && record.thrown);
        let (Some(chain_id), Some(namespace)) = (chain_id, self.namespace_of(&record)) else {
            return Ok(None);
        };
        let below = self.records.look(|state| super::commit::committed(state, key, &record.parent))?;
        let below = below.map(|below| format!("sha256:{below}").parse()).transpose()?;
        let is_there = self.unpacks.look(record.number, |_| ()).is_some()
            || self.store.contains(&LayerId::new(chain_id.hex())?);
        Ok((!is_there).then_some(Wanted { record, namespace, chain_id, below }))
    }
}
