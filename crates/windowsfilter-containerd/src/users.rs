//! The containerd snapshots that use a layer or sandbox: for the message when it cannot be removed.

use std::fmt;

use windowsfilter::{LayerId, LayerStore};

use crate::error::{Error, ShortKey};
use crate::key;
use crate::records::Records;
use crate::snapshotter::health::Set;
use crate::snapshotter::naming;

/// A snapshot of containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    set: String,
    number: u64,
    /// `None` if the records cannot be read: a server may be writing them.
    key: Option<String>,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "snapshot {} of set {}", ShortKey::from(key.as_str()), self.set),
            None => write!(f, "snapshot {} of set {}", self.number, self.set),
        }
    }
}

impl Snapshot {
    /// The command that removes it.
    pub fn removal(&self) -> String {
        let key = self.key.as_deref().unwrap_or("KEY");
        match key::parts(key) {
            Some((namespace, key)) => {
                format!("ctr -n {namespace} snapshots --snapshotter windowsfilter rm '{key}'")
            }
            None => format!("ctr snapshots --snapshotter windowsfilter rm '{key}'"),
        }
    }
}

/// The snapshots that need `id`: the owners of a layer, or a sandbox's snapshot.
///
/// # Errors
/// If the layer's owners cannot be read.
pub fn users(store: &LayerStore, id: &LayerId) -> Result<Vec<Snapshot>, Error> {
    let owners = store.owners(id)?;
    let owners = owners.iter().filter_map(|owner| naming::parts(owner));
    let mut users: Vec<Snapshot> = owners.map(|(set, number)| snapshot(store, set, number)).collect();
    if let Some((set, number)) = naming::parts(id.as_str()) {
        // A sandbox without a record belongs to no snapshot: its set was given up, or a user made it.
        users.extend(Some(snapshot(store, set, number)).filter(|snapshot| snapshot.key.is_some()));
    }
    Ok(users)
}

fn snapshot(store: &LayerStore, set: String, number: u64) -> Snapshot {
    let records = Records::peek(&Set::new(store, &set).records());
    let key = records.and_then(|records| Some(records.numbered(number)?.key.clone()));
    Snapshot { set, number, key }
}
