//! Prepare and View: new snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use windowsfilter::{Digest, Driver, LayerId, StorageOptions};

use super::{Snapshotter, now, used};
use crate::api::types::Mount;
use crate::error::Error;
use crate::key;
use crate::labels::{self, SNAPSHOT_REF};
use crate::records::{Kind, Record, State};

/// A snapshot to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct New {
    /// Its key.
    pub key: String,
    /// Name of a committed snapshot, or nothing.
    pub parent: String,
    /// containerd's namespace, if the call says so.
    pub namespace: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Snapshotter {
    /// Makes an active snapshot: for a layer to be unpacked into if the key says so, else a sandbox.
    ///
    /// # Errors
    /// As containerd's own snapshotters; [`Error::LayerPresent`] if the layer is there and need not be unpacked.
    pub(crate) fn prepare(&self, new: New) -> Result<Vec<Mount>, Error> {
        let kind = if key::is_for_unpacking(&new.key) { Kind::Unpack } else { Kind::Sandbox };
        self.create(new, kind)
    }

    /// Makes a view of a committed snapshot, or of nothing.
    ///
    /// # Errors
    /// As containerd's own snapshotters.
    pub(crate) fn view(&self, new: New) -> Result<Vec<Mount>, Error> {
        self.create(new, Kind::View)
    }

    fn create(&self, new: New, kind: Kind) -> Result<Vec<Mount>, Error> {
        key::check(&new.key)?;
        let _claim = self.claims.claim(&[&new.key]);
        let parent = self.records.look(|state| check(state, &new))?;
        let below = parent.as_ref().and_then(|parent| parent.layer.clone());
        if kind == Kind::Unpack && self.skip_existing && self.present(&new, below.as_ref())? {
            return Err(Error::LayerPresent { key: new.key.as_str().into() });
        }
        let time = now();
        let mut record = Record {
            number: self.records.allocate(),
            kind,
            namespace: namespace(&new),
            key: new.key.clone(),
            parent: new.parent.clone(),
            labels: new.labels.clone(),
            created: time,
            updated: time,
            layer: below.clone().filter(|_| kind == Kind::View),
            empty: None,
        };
        let made = self.make(&mut record, below.as_ref()).and_then(|()| {
            // The parent may have been removed meanwhile.
            self.records.change(None, Some(record.clone()), |state| check(state, &new).map(drop))
        });
        match made {
            Ok(()) => Ok(self.mounts_of(&record)),
            Err(error) => {
                self.release(record);
                Err(error)
            }
        }
    }

    /// Makes what the snapshot needs in the store.
    fn make(&self, record: &mut Record, below: Option<&LayerId>) -> Result<(), Error> {
        if record.kind == Kind::Sandbox {
            let options = StorageOptions { size: labels::sandbox_size(&record.labels)? };
            self.store.create_read_write(&self.layer_id(record.number)?, below, options, "")?;
        }
        let path = self.show(record)?;
        if let (Kind::Sandbox, Some(path)) = (record.kind, path) {
            record.empty = Some(used(&path)?);
        }
        Ok(())
    }

    /// Whether the layer to be unpacked is in the store. If so, containerd finds it in the list as a committed snapshot.
    fn present(&self, new: &New, below: Option<&LayerId>) -> Result<bool, Error> {
        let Some(wanted) = new.labels.get(SNAPSHOT_REF) else { return Ok(false) };
        let Ok(chain_id) = wanted.parse::<Digest>() else { return Ok(false) };
        let id = LayerId::new(chain_id.hex())?;
        let namespace = namespace(new);
        let twin = self.records.all().into_iter().find(|record| {
            record.kind == Kind::Committed
                && record.parent == new.parent
                && record.labels.get(SNAPSHOT_REF) == Some(wanted)
        });
        if let Some(twin) = twin {
            // containerd takes the first that matches; another namespace's must not become shared.
            return Ok(twin.namespace == namespace);
        }
        let number = self.records.allocate();
        if !self.images()?.own_shared(&id, below, &self.owner(number))? {
            return Ok(false);
        }
        let time = now();
        let record = Record {
            // Nothing else is called so: keys have no such ending, and numbers are not used twice.
            key: format!("{}#{number}", new.key),
            number,
            kind: Kind::Committed,
            parent: new.parent.clone(),
            namespace,
            labels: new.labels.clone(),
            created: time,
            updated: time,
            layer: Some(id),
            empty: None,
        };
        let made = self.records.change(None, Some(record.clone()), |state| check(state, new).map(drop));
        if made.is_err() {
            self.release(record);
        }
        made.map(|()| true)
    }
}

fn namespace(new: &New) -> String {
    new.namespace.clone().or_else(|| key::namespace(&new.key).map(str::to_owned)).unwrap_or_default()
}

/// Whether the snapshot can be made now; its parent, if it has one.
fn check(state: &State, new: &New) -> Result<Option<Arc<Record>>, Error> {
    let key = || new.key.as_str().into();
    if state.contains(&new.key) {
        return Err(Error::SnapshotExists { key: key() });
    }
    if new.parent.is_empty() {
        return Ok(None);
    }
    let missing = |_| Error::NoParent { key: key(), parent: new.parent.as_str().into() };
    let parent = state.get(&new.parent).map_err(missing)?;
    if parent.kind != Kind::Committed {
        let kind = parent.kind;
        return Err(Error::ParentNotCommitted { key: key(), parent: parent.short_key(), kind });
    }
    Ok(Some(parent))
}
