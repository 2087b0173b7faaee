//! Drives the engine through the store, on a fake Windows that records every call with its arguments, in
//! order. Also checks what is left behind when a call fails.

mod access;
#[path = "../../../tests/hcs_standin/answers.rs"]
mod answers;
mod contract;
mod creation;
mod diffs;
mod docker_home;
mod failures;
mod fake_host;
mod fake_tree;
mod imports;
#[path = "../../../tests/hcs_standin/layers.rs"]
mod layers;
mod merge_rules;
#[path = "../../../tests/random_chains/model.rs"]
mod model;
mod mounting;
#[path = "../../../tests/everywhere/rebuild.rs"]
mod rebuild;
mod removal;
mod vectors;

use std::io::Read;
use std::path::{Path, PathBuf};

use fake_host::FakeHost;
use layers::{TestTar, base_tar, delta_tar};

use super::ImportProcess;
use crate::{Driver, LayerId, LayerStore, StorageOptions};

/// The time of all entries in the layers.
const TIME: u64 = sample_images::small::TIME.0;

fn id(text: &str) -> LayerId {
    LayerId::new(text).unwrap()
}

/// A store in a temporary directory.
struct Fixture {
    host: FakeHost,
    store: LayerStore,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::on(FakeHost::default())
    }

    fn on(host: FakeHost) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap().join("home");
        host.set_root(home.parent().unwrap());
        let store = open(&home, host.clone());
        Self { host, store, dir }
    }

    /// With the base layer `base` and the layer `app` on it; the calls for them are forgotten.
    fn with_layers() -> Self {
        let fixture = Self::new();
        fixture.store.apply_diff(&id("base"), None, &mut &base_tar()[..]).unwrap();
        let tar = TestTar::new().dir("Files").file("Files/app.txt", b"app").tar();
        fixture.store.apply_diff(&id("app"), Some(&id("base")), &mut &tar[..]).unwrap();
        fixture.host.forget();
        fixture
    }

    /// Like [`Self::with_layers`], with the sandbox `box` on `app`.
    fn with_sandbox() -> Self {
        let fixture = Self::with_layers();
        fixture.store.create_read_write(&id("box"), Some(&id("app")), StorageOptions::default(), "").unwrap();
        fixture.host.forget();
        fixture
    }

    fn home(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("home")
    }

    /// Names in the home, without the store's own directory.
    fn names(&self) -> Vec<String> {
        names(&self.home()).into_iter().filter(|name| name != ".windowsfilter").collect()
    }

    /// Leftovers that must not exist: temporary directories, staged layers, marks.
    fn leftovers(&self) -> Vec<String> {
        let own = self.home().join(".windowsfilter");
        ["tmp", "staging", "incomplete"].iter().flat_map(|dir| names(&own.join(dir))).collect()
    }
}

fn open(home: &Path, host: FakeHost) -> LayerStore {
    open_with(home, StorageOptions::default(), host)
}

fn open_with(home: &Path, options: StorageOptions, host: FakeHost) -> LayerStore {
    LayerStore::open_hcs(home, options, host, ImportProcess::Here).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn read_all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The GUID that the fake Windows computes for a name, as printed in calls.
fn guid(name: &str) -> String {
    fake_host::guid(name).to_string()
}

/// The chain of a layer on top of `app`, as printed in calls.
fn chain() -> String {
    format!("[{}:0:ROOT/home/app, {}:0:ROOT/home/base]", guid("app"), guid("base"))
}

#[test]
fn the_recorded_host_answers_as_the_stand_in_does() {
    let dir = tempfile::tempdir().unwrap();
    let host = FakeHost::default();
    host.set_root(dir.path());
    answers::check(&host, dir.path());
}
