//! Invariants of containerd's snapshots: the records are readable, and the store has what each of them
//! needs.
//!
//! A running server has its set's records locked, and it checks and repairs them at its start. So this
//! skips the sets of running servers and changes nothing: it reads a copy of the records.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;
use windowsfilter::fsck::Invariant;
use windowsfilter::{LayerId, LayerKind, LayerStore};

use crate::error::{Error, IoContext, chain};
use crate::records::{Kind, Record, Records, State};
use crate::snapshotter::health::Set;
use crate::snapshotter::naming::{self, sets_dir};
use crate::snapshotter::traces;

/// A problem with a set of snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The violated invariant.
    pub invariant: Invariant,
    /// The set's name.
    pub set: String,
    /// A description.
    pub problem: String,
}

/// Checks the records of every set that no server has open, and the layers and sandboxes they need.
///
/// # Errors
/// If the store cannot be listed.
pub fn fsck(store: &LayerStore) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for set in sets(store)? {
        match Records::read_copy(&Set::new(store, &set).records()) {
            Ok(Some(records)) => {
                findings.extend(check(store, &set, &records));
                findings.extend(unexplained(store, &set)?);
            }
            Ok(None) => {
                tracing::info!("the snapshots of set {set} are a running server's, and were not checked");
            }
            Err(error) => findings.push(damaged(set, &error)),
        }
    }
    findings.sort_by(|a, b| (&a.set, &a.problem).cmp(&(&b.set, &b.problem)));
    Ok(findings)
}

/// All sets with a directory, or with something left in the store.
fn sets(store: &LayerStore) -> Result<BTreeSet<String>, Error> {
    let mut sets: BTreeSet<String> = traces::by_set(store)?.into_keys().collect();
    let dir = sets_dir(store);
    match fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => {
            for set in other.at("list", &dir)? {
                sets.insert(set.at("list", &dir)?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Ok(sets)
}

/// Records that do not match the store: a server would refuse to start with them.
fn unexplained(store: &LayerStore, set: &str) -> Result<Option<Finding>, Error> {
    let on_disk = Set::new(store, set);
    let look = || match Records::read_copy(&on_disk.records())? {
        Some(records) => on_disk.check_presence().and_then(|()| on_disk.check_explained(&records)),
        // A server has opened the set.
        None => Ok(()),
    };
    // Look twice: a server that starts and stops in between can look wrong once.
    match look().or_else(|_| look()) {
        Err(error) if error.is_damaged_records() => Ok(Some(damaged(set.to_owned(), &error))),
        other => other.map(|()| None),
    }
}

fn damaged(set: String, error: &Error) -> Finding {
    let problem = format!("{}; put the right file back, or {}", chain(error), give_up(&set));
    Finding { invariant: Invariant::SnapshotRecords, set, problem }
}

/// The command that gives up a whole set.
fn give_up(set: &str) -> String {
    format!("`windowsfilter serve --set {set} --start-anew` removes these snapshots and all that they left")
}

fn check(store: &LayerStore, set: &str, records: &State) -> Vec<Finding> {
    let problems = records.all().filter_map(|record| {
        let reason =
            missing_parent(records, record).or_else(|| missing_layer(store, set, records, record))?;
        Some(format!("snapshot {}: {reason}", record.short_key()))
    });
    problems
        .map(|problem| Finding { invariant: Invariant::SnapshotNeeds, set: set.to_owned(), problem })
        .collect()
}

fn missing_parent(records: &State, record: &Record) -> Option<String> {
    let is_there = record.parent.is_empty() || records.contains(&record.parent);
    (!is_there).then(|| format!("its parent {} is not a snapshot", record.parent))
}

/// A layer or sandbox that `record` needs and the store lacks. Damage is the layer's own finding.
fn missing_layer(store: &LayerStore, set: &str, records: &State, record: &Record) -> Option<String> {
    let id = naming::id(set, record.number).ok()?;
    match (record.kind, &record.layer) {
        (Kind::View, None) => None,
        (Kind::View, Some(layer)) => is_not(store, layer, LayerKind::Layer),
        (Kind::Sandbox, _) => is_not(store, &id, LayerKind::Sandbox),
        (Kind::Committed, None) => Some("it has no layer".to_owned()),
        (Kind::Unpack, None) => {
            let staged = store.staged().ok()?.into_iter().any(|staged| staged.kept && staged.id == id);
            // An interrupted commit has published it; the next start finds it.
            let is_gone = record.applied && !staged && !records.may_have_left(record.number);
            is_gone.then(|| format!("the layer that was applied to it is gone: there is no {id}-importing"))
        }
        (Kind::Committed | Kind::Unpack, Some(layer)) => {
            is_not(store, layer, LayerKind::Layer).or_else(|| {
                let owners = store.owners(layer).ok()?;
                (!owners.contains(id.as_str())).then(|| format!("it does not own its layer {layer}"))
            })
        }
    }
}

fn is_not(store: &LayerStore, layer: &LayerId, kind: LayerKind) -> Option<String> {
    match store.record(layer) {
        Ok(record) if record.kind == kind => None,
        Ok(record) => Some(format!("{layer} is a {}, not a {}", record.kind.as_str(), kind.as_str())),
        Err(error @ windowsfilter::Error::NoSuchLayer { .. }) => Some(error.to_string()),
        Err(_) => None,
    }
}
