//! The invariants of containerd's snapshots: their records can be read, and what each needs of the store is
//! there.
//!
//! A server checks and puts right its own set when it starts, and has the records to itself as long as it
//! runs. So this looks at the sets of no running server, and changes nothing: it reads a copy of the records.

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

/// Something wrong with a set of snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What does not hold.
    pub invariant: Invariant,
    /// Name of the set.
    pub set: String,
    /// What is wrong.
    pub problem: String,
}

/// Checks the records of every set of snapshots that no server has open, and what they need.
///
/// # Errors
/// When the store cannot be listed.
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

/// The sets that there are, or that have left something.
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

/// Records that are not those of the store: a server would not start with them.
fn unexplained(store: &LayerStore, set: &str) -> Result<Option<Finding>, Error> {
    let on_disk = Set::new(store, set);
    let look = || match Records::read_copy(&on_disk.records())? {
        Some(records) => on_disk.check_presence().and_then(|()| on_disk.check_explained(&records)),
        // A server has come.
        None => Ok(()),
    };
    // What a server does that comes and goes meanwhile looks wrong only once.
    match look().or_else(|_| look()) {
        Err(error) if error.is_damaged_records() => Ok(Some(damaged(set.to_owned(), &error))),
        other => other.map(|()| None),
    }
}

fn damaged(set: String, error: &Error) -> Finding {
    let problem = format!("{}; put the right file back, or {}", chain(error), give_up(&set));
    Finding { invariant: Invariant::SnapshotRecords, set, problem }
}

/// How all of a set is given up.
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
    (!is_there).then(|| format!("its parent {} is no snapshot", record.parent))
}

/// What of the store it needs and has not. What is damaged is the layer's own finding.
fn missing_layer(store: &LayerStore, set: &str, records: &State, record: &Record) -> Option<String> {
    let id = naming::id(set, record.number).ok()?;
    match (record.kind, &record.layer) {
        (Kind::View, None) => None,
        (Kind::View, Some(layer)) => is_not(store, layer, LayerKind::Layer),
        (Kind::Sandbox, _) => is_not(store, &id, LayerKind::Sandbox),
        (Kind::Committed, None) => Some("it has no layer".to_owned()),
        (Kind::Unpack, None) => {
            let staged = store.staged().ok()?.into_iter().any(|staged| staged.kept && staged.id == id);
            // A commit that was interrupted has published it; the start finds it.
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
