//! Server calls in any order, with restarts in between, compared with a naive model: for tests and fuzzing.
//!
//! Input bytes choose the calls; keys, names, layers and labels are few, so that calls collide. After each
//! restart both checks of the store must find nothing, and records and layers must match the model. Without
//! mounts it needs no root and is fast; sandboxes are left out then, and views are empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::path::Path;

use tonic::Code;
use windowsfilter::{DiffId, Digest, LayerId, LayerStore, StorageOptions};

use crate::error::{Error, chain};
use crate::fsck::fsck;
use crate::records::{Kind, Record};
use crate::snapshotter::{Cancel, LayerBlob, New, Snapshotter, SnapshotterOptions};
use crate::stop::Stop;

/// A snapshot in the model.
#[derive(Clone, Debug)]
struct Known {
    kind: Kind,
    parent: String,
    labels: BTreeMap<String, String>,
    /// The diffIDs of its layers, base first.
    chain: Vec<DiffId>,
    /// The applied layer, for a snapshot to unpack into.
    applied: Option<DiffId>,
}

/// The choices that one input makes.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self, count: u8) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first % count)
    }

    /// A key or a name; half of the keys are for unpacking.
    fn key(&mut self) -> Option<String> {
        Some(match self.next(8)? {
            number @ 0..4 => format!("default/{number}/extract-{number} x"),
            number => format!("default/{number}/{number}"),
        })
    }

    /// A parent: none half of the time.
    fn parent(&mut self) -> Option<String> {
        if self.next(2)? == 0 { Some(String::new()) } else { self.key() }
    }

    fn labels(&mut self) -> Option<BTreeMap<String, String>> {
        let value = self.next(4)?;
        Some(if value == 0 { BTreeMap::new() } else { [("label".to_owned(), value.to_string())].into() })
    }
}

/// The tars of the layers to apply.
fn layers() -> Vec<Vec<u8>> {
    let tar = |content: &[u8]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in [("Files/a.txt", content), ("Files/b.txt", b"same")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content).expect("it is in memory");
        }
        tar.into_inner().expect("it is in memory")
    };
    [&b"one"[..], b"two", b"three"].map(tar).into()
}

/// A server and its model.
struct Machine<'a> {
    root: &'a Path,
    snapshotter: Option<Snapshotter>,
    known: BTreeMap<String, Known>,
    layers: Vec<Vec<u8>>,
    runtime: tokio::runtime::Runtime,
    mounts: bool,
}

/// Runs the calls that `input` encodes in a new store at `root`, with sandboxes and views of layers if
/// `mounts`.
///
/// # Panics
/// If the server differs from the model.
pub(crate) fn run(input: &[u8], root: &Path, mounts: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let known = BTreeMap::new();
    let mut machine = Machine { root, snapshotter: None, known, layers: layers(), runtime, mounts };
    machine.start();
    let mut choices = Choices(input);
    while machine.step(&mut choices).is_some() {}
    machine.restart();
    machine.remove_all();
    machine.restart();
    assert_eq!(machine.server().store().layers().expect("a store"), []);
}

impl Machine<'_> {
    fn server(&self) -> &Snapshotter {
        self.snapshotter.as_ref().expect("it was started")
    }

    fn start(&mut self) {
        let store = LayerStore::open(self.root, StorageOptions { size: Some(64 << 20) }).expect("a store");
        let options = SnapshotterOptions {
            set: "default".into(),
            skip_existing: false,
            buildkit: None,
            start_anew: false,
        };
        self.snapshotter =
            Some(Snapshotter::open(store, options).unwrap_or_else(|error| panic!("{}", chain(&error))));
    }

    /// Stops the server, checks the store, and starts another server.
    fn restart(&mut self) {
        self.check();
        self.snapshotter = None;
        let store = LayerStore::open(self.root, StorageOptions::default()).expect("a store");
        assert_eq!(store.fsck(false).expect("a store"), []);
        assert_eq!(fsck(&store).expect("a store"), []);
        self.start();
        self.check();
    }

    /// Checks records and layers against the model.
    fn check(&self) {
        let records = self.server().list();
        let seen =
            records.iter().map(|record| (record.key.as_str(), record.kind, &record.parent, &record.labels));
        let known =
            self.known.iter().map(|(key, known)| (key.as_str(), known.kind, &known.parent, &known.labels));
        assert!(
            seen.clone().eq(known.clone()),
            "{:?}\n{:?}",
            seen.collect::<Vec<_>>(),
            known.collect::<Vec<_>>()
        );
        let mut layers = BTreeSet::new();
        for known in self.known.values().filter(|known| known.kind == Kind::Committed) {
            layers.insert(id_of(&known.chain));
        }
        let mut there: BTreeSet<LayerId> =
            self.server().store().layers().expect("a store").into_iter().collect();
        there.retain(|id| id.servers_part().is_none());
        assert_eq!(there, layers);
    }

    /// Runs one call; `None` at the end of the input.
    fn step(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        match choices.next(10)? {
            0 | 1 => {
                let (key, parent, labels) = (choices.key()?, choices.parent()?, choices.labels()?);
                self.prepare(key, parent, labels);
            }
            2 | 3 => {
                let (key, layer, bad) = (choices.key()?, choices.next(3)?, choices.next(5)? == 0);
                self.apply(&key, usize::from(layer), bad);
            }
            4 | 5 => {
                let (name, key, given) = (choices.key()?, choices.key()?, choices.parent()?);
                let labels = choices.labels()?;
                self.commit(&name, &key, labels, &given);
            }
            6 => self.remove(&choices.key()?),
            7 => {
                let (key, labels) = (choices.key()?, choices.labels()?);
                let result = self.server().update(&key, &labels, &[], &Stop::default()).map(drop);
                let expected = if self.known.contains_key(&key) { Code::Ok } else { Code::NotFound };
                expect(&result, expected);
                self.known.entry(key).and_modify(|known| known.labels = labels);
            }
            8 => {
                let (key, parent) = (choices.key()?, choices.parent()?);
                self.view(key, parent);
            }
            _ => self.restart(),
        }
        self.check();
        Some(())
    }

    /// The parent's chain for a call that creates `key` on `parent`, or the code it must fail with.
    fn parent_of(&self, key: &str, parent: &str) -> Result<Vec<DiffId>, Code> {
        if self.known.contains_key(key) {
            return Err(Code::AlreadyExists);
        }
        self.chain_of(parent)
    }

    fn chain_of(&self, parent: &str) -> Result<Vec<DiffId>, Code> {
        match self.known.get(parent) {
            _ if parent.is_empty() => Ok(Vec::new()),
            None => Err(Code::NotFound),
            Some(known) if known.kind == Kind::Committed => Ok(known.chain.clone()),
            Some(_) => Err(Code::InvalidArgument),
        }
    }

    fn prepare(&mut self, key: String, parent: String, labels: BTreeMap<String, String>) {
        let kind = if key.contains("extract-") { Kind::Unpack } else { Kind::Sandbox };
        if kind == Kind::Sandbox && !self.mounts {
            return;
        }
        let new = New { key: key.clone(), parent: parent.clone(), namespace: None, labels: labels.clone() };
        let result = self.server().prepare(new, &Stop::default()).map(drop);
        let chain = self.parent_of(&key, &parent);
        expect(&result, chain.as_ref().err().copied().unwrap_or(Code::Ok));
        if let Ok(chain) = chain {
            self.known.insert(key, Known { kind, parent, labels, chain, applied: None });
        }
    }

    fn view(&mut self, key: String, parent: String) {
        if !parent.is_empty() && !self.mounts {
            return;
        }
        let new = New { key: key.clone(), parent: parent.clone(), ..New::default() };
        let result = self.server().view(new, &Stop::default()).map(drop);
        let chain = self.parent_of(&key, &parent);
        expect(&result, chain.as_ref().err().copied().unwrap_or(Code::Ok));
        if let Ok(chain) = chain {
            let labels = BTreeMap::new();
            self.known.insert(key, Known { kind: Kind::View, parent, labels, chain, applied: None });
        }
    }

    fn apply(&mut self, key: &str, layer: usize, bad: bool) {
        let tar = self.layers[layer].clone();
        let (digest, size) = (Digest::of(if bad { b"other" } else { &tar }), tar.len() as u64);
        let diff_id = DiffId(Digest::of(&tar));
        let blob: Box<dyn Read + Send> = Box::new(Cursor::new(tar));
        let source = self.runtime.spawn(async {}).abort_handle();
        let unpack = |record: std::sync::Arc<Record>| {
            self.server()
                .unpack(&record, LayerBlob { digest, size, diff_id: None }, blob, &Cancel::new(source))
                .map(drop)
        };
        let result = self.server().stat(key).and_then(unpack);
        let expected = match self.known.get(key) {
            None => Code::NotFound,
            Some(known) if known.kind != Kind::Unpack || known.applied.is_some() || bad => {
                Code::FailedPrecondition
            }
            Some(_) => Code::Ok,
        };
        expect(&result, expected);
        if expected == Code::Ok {
            self.known.entry(key.to_owned()).and_modify(|known| known.applied = Some(diff_id));
        }
    }

    fn commit(&mut self, name: &str, key: &str, labels: BTreeMap<String, String>, given: &str) {
        if self.known.get(key).is_some_and(|known| known.kind == Kind::Sandbox) {
            // The model does not know the name of its layer.
            return;
        }
        let result = self.server().commit(name, key, labels.clone(), given, &Stop::default());
        let expected = self.committed(name, key, given);
        expect(&result, expected.as_ref().err().copied().unwrap_or(Code::Ok));
        if let Ok(known) = expected {
            self.known.remove(key);
            self.known.insert(name.to_owned(), Known { labels, ..known });
        }
    }

    /// The expected result of a commit.
    fn committed(&self, name: &str, key: &str, given: &str) -> Result<Known, Code> {
        if self.known.contains_key(name) {
            return Err(Code::AlreadyExists);
        }
        let old = self.known.get(key).ok_or(Code::NotFound)?;
        if old.kind != Kind::Unpack {
            return Err(Code::FailedPrecondition);
        }
        let parent = match (given, old.parent.as_str()) {
            ("", parent) => parent,
            (given, "") => given,
            (given, parent) if given == parent => parent,
            _ => return Err(Code::InvalidArgument),
        };
        let mut chain = self.chain_of(parent)?;
        chain.push(old.applied.ok_or(Code::FailedPrecondition)?);
        let (parent, labels) = (parent.to_owned(), BTreeMap::new());
        Ok(Known { kind: Kind::Committed, parent, labels, chain, applied: None })
    }

    fn remove(&mut self, key: &str) {
        let result = self.server().remove(key, &Stop::default());
        let expected = match self.known.get(key) {
            None => Code::NotFound,
            Some(_) if self.known.values().any(|known| known.parent == key) => Code::FailedPrecondition,
            Some(_) => Code::Ok,
        };
        expect(&result, expected);
        if expected == Code::Ok {
            self.known.remove(key);
        }
    }

    /// Removes all snapshots, children first.
    fn remove_all(&mut self) {
        while let Some(key) =
            self.known.keys().find(|key| !self.known.values().any(|known| known.parent == **key))
        {
            self.remove(&key.clone());
        }
        assert!(self.known.is_empty());
    }
}

#[track_caller]
fn expect(result: &Result<(), Error>, expected: Code) {
    let code = result.as_ref().err().map_or(Code::Ok, Error::code);
    assert_eq!(code, expected, "{}", result.as_ref().err().map_or(String::new(), |error| chain(error)));
}

/// The layer with these diffIDs, base first.
fn id_of(chain: &[DiffId]) -> LayerId {
    let step = |below: Option<LayerId>, diff_id: &DiffId| {
        Some(windowsfilter_image::chain_id(below.as_ref(), *diff_id).expect("a digest"))
    };
    chain.iter().fold(None, step).expect("a layer")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
        #[test]
        fn any_order_of_calls_and_restarts_leaves_what_a_naive_model_says(input in prop::collection::vec(any::<u8>(), 0..250)) {
            let dir = tempfile::tempdir().unwrap();
            super::run(&input, dir.path(), true);
        }
    }
}
