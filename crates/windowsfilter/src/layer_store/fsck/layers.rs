//! The invariants of one layer or sandbox: its own files, and how they agree with those of its parents.
//!
//! Each check answers for its own invariant and leaves what another one says to that: damage to a parent is
//! the parent's finding, so a store with one thing wrong has one finding.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::findings::{Breaks, Violation};
use super::{Invariant, Tar};
use crate::digest::{DiffId, Digest};
use crate::engine::portable::chain;
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::metadata::StreamForm;
use crate::record::{LayerKind, LayerRecord};
use crate::store::file;

/// Names that a layer's directory may have in it.
const FILES: [&str; 9] = [
    file::TAR,
    file::INDEX,
    file::CHAIN_INDEX,
    file::PLAIN_CHAIN_INDEX,
    file::CHAIN,
    file::RECORD,
    file::OWNERS,
    file::SANDBOX,
    file::ALTERNATE_ID,
];

/// Parents that are there and have content, as far as was seen: each layer names all that are below it.
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
    /// Everything of a layer but its chain's index ([`Self::check_chain_index`]), which needs the parents to
    /// be in order.
    pub(super) fn check_layer(&self, id: &LayerId, tar: Tar<'_>, sound: &SoundParents) -> Vec<Violation> {
        let mut found = Vec::new();
        match self.resolve(id).breaks(Invariant::AlternateId) {
            // What another ID stands for is checked under its own.
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
        let record = match self.read_record(id).and_then(|record| self.complete_record(id, record)) {
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
        if self.is_in_place() {
            found.extend(self.check_host(id).breaks(Invariant::HostKnowsLayer).err());
            return found;
        }
        match record.kind {
            LayerKind::Empty => {}
            LayerKind::Sandbox => found.extend(self.check_sandbox(id, &record)),
            LayerKind::Layer => {
                found.extend(self.check_tar(id, &record, tar).err());
                found.extend(self.check_index(id, &record).breaks(Invariant::IndexDigest).err());
            }
        }
        found
    }

    fn check_alternate(&self, id: &LayerId, other: &LayerId) -> Result<(), Violation> {
        if self.paths.layer(other).is_dir() {
            return Ok(());
        }
        let reason = format!("it names {other}, and there is no such layer");
        Err(Error::Damaged { id: id.clone(), file: file::ALTERNATE_ID, reason })
            .breaks(Invariant::AlternateId)
    }

    /// The compute service's own files are its own business.
    fn check_files(&self, id: &LayerId) -> Result<(), Violation> {
        if self.is_in_place() {
            return Ok(());
        }
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
            .filter(|name| !FILES.contains(&name.as_str()))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let source = io::Error::other(format!("no layer has a file {}", unknown.join(", ")));
        Err(Error::Io { action: "account for", path: dir, source }).breaks(Invariant::LayerFiles)
    }

    /// The record, if it says what its kind needs.
    fn complete_record(&self, id: &LayerId, record: LayerRecord) -> Result<LayerRecord, Error> {
        let missing = match record.kind {
            _ if self.is_in_place() => None,
            LayerKind::Layer if record.diff_id.is_none() => Some("diffID"),
            LayerKind::Layer if record.index.is_none() => Some("index digest"),
            LayerKind::Sandbox if record.sandbox_size.is_none() => Some("size"),
            _ => None,
        };
        match missing {
            Some(what) => Err(Error::Damaged {
                id: id.clone(),
                file: file::RECORD,
                reason: format!("it has no {what}"),
            }),
            None => Ok(record),
        }
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

    fn check_tar(&self, id: &LayerId, record: &LayerRecord, reading: Tar<'_>) -> Result<(), Violation> {
        let path = self.paths.layer(id).join(file::TAR);
        let open = || File::open(&path).map_err(|error| unopened(id, file::TAR, &path, error));
        let size = |tar: &File| Ok(tar.metadata().at("look at", &path)?.len());
        let tar = open().breaks(Invariant::TarSize)?;
        let actual = size(&tar).breaks(Invariant::TarSize)?;
        if actual != record.tar_size {
            let what = format!("layer {id}: {}", file::TAR);
            return Err(Error::SizeMismatch { what, expected: record.tar_size, actual })
                .breaks(Invariant::TarSize);
        }
        match reading {
            Tar::Measured => Ok(()),
            Tar::Read(progress) => {
                super::verify::check_digest(id, record, (&tar, &path), (progress, self.cancel()))
                    .breaks(Invariant::TarDigest)
            }
        }
    }

    pub(super) fn check_index(&self, id: &LayerId, record: &LayerRecord) -> Result<(), Error> {
        let path = self.paths.layer(id).join(file::INDEX);
        let index = File::open(&path).map_err(|error| unopened(id, file::INDEX, &path, error))?;
        let (actual, _) = Digest::of_reader(index).at("read", &path)?;
        match record.index {
            Some(expected) if expected != actual => {
                Err(Error::DigestMismatch { what: format!("layer {id}: {}", file::INDEX), expected, actual })
            }
            _ => Ok(()),
        }
    }

    /// Compares the chain's indexes, where there are any, with what the layers' own indexes give. These must
    /// be in order.
    pub(super) fn check_chain_index(&self, id: &LayerId) -> Result<(), Error> {
        for (_, form) in StreamForm::NAMES {
            let name = chain::index_file(form);
            let path = self.paths.layer(id).join(name);
            let Ok(stored) = File::open(&path) else { continue };
            let layers = self.chain_of(id)?;
            // Earlier builds had plain streams in it; whoever needs it next writes it anew.
            let form = chain::form_of_file(&path, &layers).unwrap_or(form);
            let (actual, _) = Digest::of_reader(stored).at("read", &path)?;
            let expected = chain::chain_index_digest(&layers, form)?;
            if expected != actual {
                return Err(Error::DigestMismatch { what: format!("layer {id}: {name}"), expected, actual });
            }
        }
        Ok(())
    }
}

fn is_about(error: &Error, layer: &LayerId) -> bool {
    matches!(error, Error::Damaged { id, .. } if id == layer)
}

/// The diffID that a record must have by now.
pub(super) fn diff_id(id: &LayerId, record: &LayerRecord) -> Result<Digest, Error> {
    let missing = || Error::Damaged { id: id.clone(), file: file::RECORD, reason: "it has no diffID".into() };
    record.diff_id.map(|DiffId(digest)| digest).ok_or_else(missing)
}

/// A file that a layer must have and that is not there is damage, like any other.
pub(super) fn unopened(id: &LayerId, file: &'static str, path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::Damaged { id: id.clone(), file, reason: "it is missing".into() };
    }
    Error::Io { action: "open", path: path.to_owned(), source: error }
}
