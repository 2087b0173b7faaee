//! The invariants of containerd's snapshots: their records can be read, and what each needs of the store is there.
//!
//! A server checks and puts right its own set when it starts, and has the records to itself as long as it runs. So this looks at the sets of no
//! running server, and changes nothing: it reads a copy of the records.

use std::fs;

use serde::Serialize;
use windowsfilter::{Invariant, LayerId, LayerKind, LayerStore};

use crate::error::{Error, IoContext, chain};
use crate::records::{Kind, Record, Records, State};
use crate::snapshotter::{RECORDS, owner, sets_dir};

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
    let dir = sets_dir(store);
    let sets = match fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(findings),
        other => other.at("list", &dir)?,
    };
    for set in sets {
        let set = set.at("list", &dir)?.file_name().to_string_lossy().into_owned();
        let path = dir.join(&set).join(RECORDS);
        match Records::read_copy(&path) {
            Ok(Some(records)) => findings.extend(check(store, &set, &records)),
            Ok(None) => tracing::info!("{} is in use or empty and was not checked", path.display()),
            Err(error) => {
                findings.push(Finding { invariant: Invariant::SnapshotRecords, set, problem: chain(&error) });
            }
        }
    }
    findings.sort_by(|a, b| (&a.set, &a.problem).cmp(&(&b.set, &b.problem)));
    Ok(findings)
}

fn check(store: &LayerStore, set: &str, records: &State) -> Vec<Finding> {
    let problems = records.all().filter_map(|record| {
        let reason = missing_parent(records, record).or_else(|| missing_layer(store, set, record))?;
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
fn missing_layer(store: &LayerStore, set: &str, record: &Record) -> Option<String> {
    let owner = owner(set, record.number);
    match (record.kind, &record.layer) {
        (Kind::Unpack, _) | (Kind::View, None) => None,
        (Kind::View, Some(layer)) => is_not(store, layer, LayerKind::Layer),
        (Kind::Sandbox, _) => is_not(store, &LayerId::new(owner).ok()?, LayerKind::Sandbox),
        (Kind::Committed, None) => Some("it has no layer".to_owned()),
        (Kind::Committed, Some(layer)) => is_not(store, layer, LayerKind::Layer).or_else(|| {
            let owners = store.owners(layer).ok()?;
            (!owners.contains(&owner)).then(|| format!("it does not own its layer {layer}"))
        }),
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
