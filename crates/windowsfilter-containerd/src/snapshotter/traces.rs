//! Everything in the layer store under snapshots' names, found without the records: each name has the set
//! and the number.
//!
//! This detects lost or outdated records before anything is removed as unneeded.

use std::collections::BTreeMap;
use std::fmt;

use windowsfilter::{LayerId, LayerStore};

use super::naming::parts;
use crate::error::Error;
use crate::records::{Kind, Record, State};

/// Most traces to name in a message; the rest are counted.
const SHOWN: usize = 5;

/// Something in the store under a snapshot's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The number.
    pub(crate) number: u64,
    /// Its kind.
    pub(crate) what: What,
}

/// Kinds of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A sandbox.
    Sandbox(LayerId),
    /// An applied layer that is not committed yet.
    Staged(LayerId),
    /// A layer or sandbox that is held mounted.
    Mount(LayerId),
    /// A layer that the snapshot owns.
    Owned(LayerId),
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Sandbox(id) => write!(f, "sandbox {id}"),
            What::Staged(id) => write!(f, "staged layer {id}-importing"),
            What::Mount(id) if parts(id.as_str()).is_some() => write!(f, "mount of {id}"),
            What::Mount(id) => write!(f, "mount of layer {id} for snapshot {}", self.number),
            What::Owned(id) => write!(f, "layer {id} of snapshot {}", self.number),
        }
    }
}

impl Trace {
    /// Whether the snapshot of this number needs it.
    pub(crate) fn is_needed(&self, record: Option<&Record>) -> bool {
        let Some(record) = record else { return false };
        let has = |id: &LayerId| record.layer.as_ref() == Some(id);
        match (&self.what, record.kind) {
            (What::Sandbox(_), kind) => kind == Kind::Sandbox,
            (What::Staged(_), kind) => kind == Kind::Unpack,
            (What::Mount(id), Kind::View) => has(id),
            (What::Mount(id), Kind::Sandbox) => parts(id.as_str()).is_some_and(|(_, n)| n == self.number),
            (What::Owned(id), Kind::Committed | Kind::Unpack) => has(id),
            _ => false,
        }
    }

    /// Whether the records explain it.
    pub(crate) fn is_explained(&self, records: &State) -> bool {
        let record = records.numbered(self.number).map(|record| &**record);
        self.is_needed(record) || records.may_have_left(self.number)
    }
}

/// All traces in the store, by set.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn by_set(store: &LayerStore) -> Result<BTreeMap<String, Vec<Trace>>, Error> {
    let mut sets = BTreeMap::<String, Vec<Trace>>::new();
    let mut add = |name: &str, what: What| {
        if let Some((set, number)) = parts(name) {
            sets.entry(set).or_default().push(Trace { number, what });
        }
    };
    for id in store.layers()? {
        // An unreadable layer is that layer's own damage.
        for owner in store.owners(&id).unwrap_or_default() {
            add(&owner, What::Owned(id.clone()));
        }
        add(id.as_str(), What::Sandbox(id.clone()));
    }
    for staged in store.staged()?.into_iter().filter(|staged| staged.kept) {
        add(staged.id.as_str(), What::Staged(staged.id.clone()));
    }
    for (layer, holders) in store.held()? {
        for holder in holders {
            add(&holder, What::Mount(layer.clone()));
        }
    }
    Ok(sets)
}

/// The traces of one set.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn of_set(store: &LayerStore, set: &str) -> Result<Vec<Trace>, Error> {
    Ok(by_set(store)?.remove(set).unwrap_or_default())
}

/// Lists traces for a message: the first few, and the number of others.
pub(crate) fn named(traces: &[impl ToString]) -> String {
    let mut shown: Vec<String> = traces.iter().take(SHOWN).map(ToString::to_string).collect();
    if traces.len() > SHOWN {
        shown.push(format!("{} more", traces.len() - SHOWN));
    }
    match shown.as_slice() {
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_a_few_and_counts_the_rest() {
        assert_eq!(named(&["a"]), "a");
        assert_eq!(named(&["a", "b", "c"]), "a, b and c");
        assert_eq!(named(&["a"; 8]), "a, a, a, a, a and 3 more");
    }
}
