//! What to remove from a store, in which order, and the script that does it.
//!
//! A plan requires that every record was read: an unread one may need an apparent orphan. A layer's
//! children are removed before it, and Docker's records of a layer before its files, so that Docker, or the
//! same script, can continue from wherever a script stops.

mod script;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::judge::short;
use super::{DockerStore, Kind, Layer, State, key};
use crate::error::Error;

/// Most reasons to list; the rest are counted.
const TOLD: usize = 20;

/// What to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The layers, in the order of removal.
    pub steps: Vec<&'a Layer>,
    store: &'a DockerStore,
}

impl<'a> Plan<'a> {
    /// Plans the removal of orphans and half-removed layers.
    ///
    /// # Errors
    /// [`Error::NoPlan`] if a record could not be read or the records contradict each other.
    pub fn new(store: &'a DockerStore) -> Result<Self, Error> {
        let mut reasons = doubts(store);
        let steps: Vec<&Layer> = store.layers.iter().filter(|layer| goes(layer)).collect();
        reasons.extend(steps.iter().filter_map(|layer| bad_name(&layer.id)));
        let ordered = in_order(steps);
        if let Err(layer) = &ordered {
            reasons.push(format!("{} stands on what stands on it", short(&layer.id)));
        }
        match ordered {
            Ok(steps) if reasons.is_empty() => Ok(Self { steps, store }),
            _ => Err(refused(store.home.clone(), reasons)),
        }
    }

    /// Disk usage of the layers to remove, bytes.
    pub fn bytes(&self) -> u64 {
        self.steps.iter().fold(0, |sum, layer| layer.size.saturating_add(sum))
    }

    /// The plan as a PowerShell script, in ASCII with CRLF line ends.
    pub fn script(&self) -> String {
        script::write(self.store, &self.steps, self.bytes())
    }
}

fn refused(path: PathBuf, mut reasons: Vec<String>) -> Error {
    let more = reasons.len().saturating_sub(TOLD);
    reasons.truncate(TOLD);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    Error::NoPlan { path, reasons }
}

fn goes(layer: &Layer) -> bool {
    matches!(layer.state, State::Orphan | State::HalfRemoved)
}

/// All reasons why a layer's state may be in doubt.
fn doubts(store: &DockerStore) -> Vec<String> {
    let mut doubts = Vec::new();
    if !store.has_records {
        doubts
            .push("there are no records of images and containers here that could say what is needed".into());
    }
    let unread = store.problems.iter().filter(|problem| problem.unread);
    doubts.extend(unread.map(|problem| format!("{}: {}", problem.path.display(), problem.problem)));
    let mut goes_by_key: HashSet<String> = HashSet::new();
    goes_by_key.extend(store.layers.iter().filter(|layer| goes(layer)).map(|layer| key(&layer.id)));
    for layer in &store.layers {
        let name = short(&layer.id);
        if layer.state == State::Unknown {
            doubts.push(format!("{name}: {}", layer.why));
        }
        if layer.unread_chain && layer.kind != Kind::Removing {
            doubts.push(format!("{name}: what it stands on cannot be read"));
        }
        if layer.state == State::InUse && layer.no_chain {
            doubts.push(format!(
                "{name} is in use and has no layerchain.json, so what it stands on is unknown"
            ));
        }
        if !goes(layer) && layer.parents.iter().any(|parent| goes_by_key.contains(&key(parent))) {
            doubts.push(format!("{name} stays and stands on what would go"));
        }
    }
    doubts
}

/// Refuses a name that is not a single component on Windows, where the script runs: it could lead
/// elsewhere.
fn bad_name(name: &str) -> Option<String> {
    let problem = wclayer::name::windows_problem(name.as_bytes())?;
    Some(format!("{}: its name is none on Windows: {problem}", super::layers::shown(name)))
}

/// Orders layers: children before parents, and otherwise those Docker has begun to remove first.
fn in_order(mut layers: Vec<&Layer>) -> Result<Vec<&Layer>, &Layer> {
    layers.sort_by_key(|layer| (layer.state != State::HalfRemoved, &layer.id));
    let places: HashMap<String, usize> =
        layers.iter().enumerate().map(|(place, layer)| (key(&layer.id), place)).collect();
    let parents = |layer: &Layer| -> Vec<usize> {
        layer.parents.iter().filter_map(|parent| places.get(&key(parent)).copied()).collect()
    };
    let mut standing_on = vec![0_usize; layers.len()];
    for parent in layers.iter().flat_map(|layer| parents(layer)) {
        standing_on[parent] += 1;
    }
    let mut free: Vec<usize> = (0..layers.len()).rev().filter(|place| standing_on[*place] == 0).collect();
    let mut ordered = Vec::with_capacity(layers.len());
    while let Some(place) = free.pop() {
        ordered.push(layers[place]);
        for parent in parents(layers[place]) {
            standing_on[parent] -= 1;
            if standing_on[parent] == 0 {
                free.push(parent);
            }
        }
    }
    match standing_on.iter().position(|count| *count > 0) {
        Some(place) => Err(layers[place]),
        None => Ok(ordered),
    }
}
