//! The invariants of one layer or sandbox: its own files, and how they agree with those of its parents.
//!
//! Each check reports only its own invariant: damage to a parent is the parent's finding, so a store with one
//! fault has one finding.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::engine::{Examined, Reading};
use crate::error::{Error, IoContext};
use crate::findings::{Breaks, Violation};
use crate::id::LayerId;
use crate::invariants::Invariant;
use crate::layer_store::LayerStore;
use crate::lock::Lock;
use crate::record::{LayerKind, LayerRecord};
use crate::store::file;

/// Names of the driver's own files in a layer's directory.
const FILES: [&str; 4] = [file::CHAIN, file::RECORD, file::OWNERS, file::ALTERNATE_ID];

/// Parents already found to exist and have content. Each layer names all layers below it, so they come up
/// often.
#[derive(Debug, Default)]
pub(super) struct SoundParents(Mutex<HashSet<LayerId>>);

impl SoundParents {
    fn knows(&self, id: &LayerId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    fn add(&self, id: &LayerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }
}

impl LayerStore {
    /// Checks everything of a layer except what is derived from its parents: [`Self::check_view`] does that,
    /// and needs intact parents.
    pub(super) fn check_layer(
        &self,
        id: &LayerId,
        reading: Reading<'_>,
        sound: &SoundParents,
    ) -> Vec<Violation> {
        let mut found = Vec::new();
        match self.resolve(id).breaks(Invariant::AlternateId) {
            // The other ID's layer is checked under its own ID.
            Ok(other) if other != *id => {
                found.extend(self.check_alternate(id, &other).err());
                return found;
            }
            Ok(_) => {}
            Err(violation) => {
                found.push(violation);
                return found;
            }
        }
        found.extend(self.check_files(id).err());
        found.extend(self.owners(id).breaks(Invariant::LayerOwners).err());
        let record = match self.read_record(id) {
            Ok(record) => record,
            Err(error) => {
                found.push(Violation { invariant: Invariant::LayerRecord, error });
                return found;
            }
        };
        match self.read_chain(id).breaks(Invariant::LayerChain) {
            Ok(chain) => found.extend(self.check_parents(id, &chain, sound)),
            Err(violation) => found.push(violation),
        }
        found.extend(self.check_host(id).breaks(Invariant::HostKnowsLayer).err());
        found.extend(self.check_content(id, &record, reading));
        found
    }

    /// The violations that the engine finds in its own files.
    fn check_content(&self, id: &LayerId, record: &LayerRecord, reading: Reading<'_>) -> Vec<Violation> {
        let place = match self.place(id).breaks(Invariant::AlternateId) {
            Ok(place) => place,
            Err(violation) => return vec![violation],
        };
        let lock = if record.kind == LayerKind::Sandbox { self.unmounted(id) } else { None };
        self.engine.check(&Examined { place: &place, record, reading, idle: lock.is_some() })
    }

    /// The lock that keeps a sandbox unmounted, if it is not mounted.
    fn unmounted(&self, id: &LayerId) -> Option<Lock> {
        let lock = self.try_mount_lock(id).ok()??;
        let is_free = self.mounts(id).is_ok_and(|state| state.users() == 0)
            && self.place(id).and_then(|place| self.engine.in_use(&place)).is_ok_and(|by| by.is_none());
        is_free.then_some(lock)
    }

    fn check_alternate(&self, id: &LayerId, other: &LayerId) -> Result<(), Violation> {
        if self.paths.layer(other).is_dir() {
            return Ok(());
        }
        let reason = format!("it names {other}, and there is no such layer");
        Err(Error::Damaged { id: id.clone(), file: file::ALTERNATE_ID, reason })
            .breaks(Invariant::AlternateId)
    }

    /// Finds unknown files, if the engine knows all of its own.
    fn check_files(&self, id: &LayerId) -> Result<(), Violation> {
        let Some(known) = self.engine.layer_files() else { return Ok(()) };
        let dir = self.paths.layer(id);
        let names = || -> Result<BTreeSet<String>, Error> {
            let entries = fs::read_dir(&dir).at("list", &dir)?;
            entries
                .map(|entry| Ok(entry.at("list", &dir)?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        let unknown: Vec<String> = names()
            .breaks(Invariant::LayerFiles)?
            .into_iter()
            .filter(|name| !FILES.contains(&name.as_str()) && !known.contains(&name.as_str()))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let source = io::Error::other(format!("no layer has a file {}", unknown.join(", ")));
        Err(Error::Io { action: "account for", path: dir, source }).breaks(Invariant::LayerFiles)
    }

    fn check_parents(&self, id: &LayerId, chain: &[LayerId], sound: &SoundParents) -> Vec<Violation> {
        for parent in chain {
            if sound.knows(parent) {
                continue;
            }
            match self.chain_layer(id, parent) {
                Err(error @ Error::Damaged { .. }) if is_about(&error, id) => {
                    return vec![Violation { invariant: Invariant::ParentsExist, error }];
                }
                _ => sound.add(parent),
            }
        }
        let Some((parent, rest)) = chain.split_first() else { return Vec::new() };
        match self.read_chain(parent) {
            Ok(theirs) if theirs != rest => {
                let reason = format!("it does not continue as the chain of its parent {parent} does");
                let error = Error::Damaged { id: id.clone(), file: file::CHAIN, reason };
                vec![Violation { invariant: Invariant::ChainContinues, error }]
            }
            _ => Vec::new(),
        }
    }

    fn check_host(&self, id: &LayerId) -> Result<(), Error> {
        if self.engine.exists(&self.place(id)?)? {
            return Ok(());
        }
        let reason = "the host does not know the layer".to_owned();
        Err(Error::Damaged { id: id.clone(), file: file::RECORD, reason })
    }

    /// Checks what the engine derived from the layer's chain, which must be intact.
    pub(super) fn check_view(&self, id: &LayerId) -> Result<(), Error> {
        self.engine.check_view(&self.place(id)?, &|| self.chain_of(id))
    }
}

fn is_about(error: &Error, layer: &LayerId) -> bool {
    matches!(error, Error::Damaged { id, .. } if id == layer)
}
