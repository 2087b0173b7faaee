//! Prepare and View: new snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use windowsfilter::{Digest, LayerId, StorageOptions};

use super::{Snapshotter, now, used};
use crate::api::types::Mount;
use crate::error::Error;
use crate::key;
use crate::labels::{self, PARENT_REF, SNAPSHOT_REF};
use crate::records::{Kind, Record, State};
use crate::stop::Stop;

/// A request to create a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct New {
    /// Its key.
    pub key: String,
    /// Name of a committed snapshot, or empty.
    pub parent: String,
    /// containerd's namespace, if the call has one.
    pub namespace: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Snapshotter {
    /// Creates an active snapshot: to unpack a layer into if the key says so, otherwise a sandbox.
    ///
    /// # Errors
    /// Those of containerd's own snapshotters; [`Error::LayerPresent`] if the store has the layer, so that
    /// unpacking is not needed.
    pub(crate) fn prepare(&self, new: New, stop: &Stop) -> Result<Vec<Mount>, Error> {
        let kind = if key::is_for_unpacking(&new.key) { Kind::Unpack } else { Kind::Sandbox };
        self.create(new, kind, stop)
    }

    /// Creates a view of a committed snapshot, or of nothing.
    ///
    /// # Errors
    /// Those of containerd's own snapshotters.
    pub(crate) fn view(&self, new: New, stop: &Stop) -> Result<Vec<Mount>, Error> {
        self.create(new, Kind::View, stop)
    }

    fn create(&self, new: New, kind: Kind, stop: &Stop) -> Result<Vec<Mount>, Error> {
        key::check(&new.key)?;
        let _claim = self.claims.claim(&[&new.key], stop)?;
        let parent = self.records.look(|state| check(state, &new))?;
        let below = parent.as_ref().and_then(|parent| parent.layer.clone());
        if kind == Kind::Unpack && self.skip_existing {
            if let Some(mounts) = self.create_staged(&new)? {
                return Ok(mounts);
            }
            // A layer that is unpacked apart from its parent is not the parentless layer of this name.
            let apart = new.parent.is_empty() && new.labels.contains_key(PARENT_REF);
            if !apart && self.present(&new, below.as_ref())? {
                return Err(Error::LayerPresent { key: new.key.as_str().into() });
            }
        }
        let layer = below.clone().filter(|_| kind == Kind::View);
        let mut record = Record { layer, ..Self::new_record(&new, kind, self.records.allocate()) };
        record.thrown = kind == Kind::Unpack && self.is_thrown(&new, &record.namespace);
        self.begin(&record)?;
        let made = self.make(&mut record, below.as_ref()).and_then(|()| {
            // Check again: the parent may be gone by now.
            self.records.add(&record, |state| check(state, &new).map(drop))
        });
        match made {
            Ok(()) => Ok(self.mounts_of(&record)),
            Err(error) => {
                self.release(record);
                Err(error)
            }
        }
    }

    /// Marks the number of a new snapshot as pending, if something under it will be created in the store.
    fn begin(&self, record: &Record) -> Result<(), Error> {
        match record.kind {
            Kind::Unpack => Ok(()),
            Kind::View if record.layer.is_none() => Ok(()),
            _ => self.records.begin(&[record.number]),
        }
    }

    /// Creates what the snapshot needs in the store.
    fn make(&self, record: &mut Record, below: Option<&LayerId>) -> Result<(), Error> {
        if record.kind == Kind::Sandbox {
            let options = StorageOptions { size: labels::sandbox_size(&record.labels)? };
            self.store.create_sandbox(&self.layer_id(record.number)?, below, options, None)?;
        }
        let path = self.show(record)?;
        if let (Kind::Sandbox, Some(path)) = (record.kind, path) {
            record.empty = Some(used(&path)?);
        }
        Ok(())
    }

    /// Creates a snapshot whose layer is already in the store, for the parallel unpacking of containerd
    /// 2.4: it prepares the snapshot without its parent, which a label names, and takes a read-only mount
    /// as the sign that it need not fetch and apply the layer (`isStaged` of its `core/unpack`). Older
    /// versions apply it anyway. `None` if the layer is missing or containerd does not ask for this.
    fn create_staged(&self, new: &New) -> Result<Option<Vec<Mount>>, Error> {
        let layer = |label| new.labels.get(label).and_then(|value| value.parse::<Digest>().ok());
        let (Some(chain_id), Some(below), true) =
            (layer(SNAPSHOT_REF), layer(PARENT_REF), new.parent.is_empty())
        else {
            return Ok(None);
        };
        let (id, below) = (LayerId::new(chain_id.hex())?, LayerId::new(below.hex())?);
        let Some(number) = self.own_present(&id, Some(&below))? else { return Ok(None) };
        let record = Record { layer: Some(id), ..Self::new_record(new, Kind::Unpack, number) };
        self.add_owned(record.clone(), new)?;
        Ok(Some(self.mounts_of(&record)))
    }

    /// Makes a new snapshot an owner of the layer `id`, if the store has it on top of `below`. Returns the
    /// snapshot's number.
    fn own_present(&self, id: &LayerId, below: Option<&LayerId>) -> Result<Option<u64>, Error> {
        if !self.store.contains(id) {
            return Ok(None);
        }
        let number = self.records.allocate();
        self.records.begin(&[number])?;
        if self.images.own_shared(id, below, &self.owner(number)?)? {
            return Ok(Some(number));
        }
        self.records.ended(number);
        Ok(None)
    }

    /// Writes the record of a new snapshot that owns its layer already.
    fn add_owned(&self, record: Record, new: &New) -> Result<(), Error> {
        let made = self.records.add(&record, |state| check(state, new).map(drop));
        if made.is_err() {
            self.release(record);
        }
        made
    }

    /// The record of a new snapshot that needs nothing of the store yet.
    fn new_record(new: &New, kind: Kind, number: u64) -> Record {
        let time = now();
        Record {
            key: new.key.clone(),
            number,
            kind,
            parent: new.parent.clone(),
            namespace: namespace(new),
            labels: new.labels.clone(),
            created: time,
            updated: time,
            layer: None,
            empty: None,
            applied: false,
            thrown: false,
        }
    }

    /// Whether the store has the layer. If so, records it as a committed snapshot, which containerd then
    /// finds in the list.
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
            // containerd takes the first match; another namespace's snapshot must not become shared.
            return Ok(twin.namespace == namespace);
        }
        let Some(number) = self.own_present(&id, below)? else { return Ok(false) };
        // Unique: no client's key ends like this, and numbers are not reused.
        let key = format!("{}#{number}", new.key);
        let record = Record { key, layer: Some(id), ..Self::new_record(new, Kind::Committed, number) };
        self.add_owned(record, new).map(|()| true)
    }
}

fn namespace(new: &New) -> String {
    new.namespace.clone().or_else(|| key::namespace(&new.key).map(str::to_owned)).unwrap_or_default()
}

/// Checks that the snapshot can be created. Returns its parent, if it has one.
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
