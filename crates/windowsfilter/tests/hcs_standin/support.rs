//! A store with a stand-in of its own.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use hcs::Host;
use hcs::windows::System;
use serde_json::Value;
use tempfile::TempDir;
use windowsfilter::hcs_engine::ImportProcess;
use windowsfilter::{LayerId, LayerStore, StorageOptions};

pub(crate) fn id(text: &str) -> LayerId {
    LayerId::new(text).unwrap()
}

pub(crate) fn read_all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A separate Windows for each test, with a store on it.
pub(crate) struct Windows {
    pub(crate) store: LayerStore,
    system: System,
    dir: TempDir,
}

impl Windows {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap().with_file_name("hcs_standin.dll");
        let library = dir.path().join("hcs_standin.dll");
        fs::copy(&built, &library).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
        let system = System::with_stand_in(&library).unwrap();
        let home = dir.path().join("home");
        let store =
            LayerStore::open_hcs(&home, StorageOptions::default(), system.clone(), ImportProcess::Here)
                .unwrap();
        Self { store, system, dir }
    }

    pub(crate) fn system(&self) -> &System {
        &self.system
    }

    /// The same store once more, as another process would open it.
    pub(crate) fn another(&self) -> LayerStore {
        let (home, options) = (self.dir.path().join("home"), StorageOptions::default());
        LayerStore::open_hcs(&home, options, self.system.clone(), ImportProcess::Here).unwrap()
    }

    /// The home as Windows gets it.
    pub(crate) fn home(&self) -> PathBuf {
        let text = self.store.root().to_str().unwrap();
        PathBuf::from(hcs::long_path::strip_prefix(text))
    }

    pub(crate) fn path(&self, layer: &str) -> String {
        self.home().join(layer).to_str().unwrap().to_owned()
    }

    pub(crate) fn guid(&self, name: &str) -> String {
        let calls = self.calls();
        let guid = self.system.name_to_guid(name).unwrap().to_string();
        // Drop the test's own call from the record.
        self.write_calls(&calls);
        guid
    }

    pub(crate) fn control(&self, control: &Value) {
        fs::write(self.dir.path().join("control.json"), control.to_string()).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("calls.jsonl")
    }

    fn write_calls(&self, calls: &[Value]) {
        let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
        fs::write(self.log(), lines).unwrap();
    }

    pub(crate) fn calls(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Names of the functions that were called, without those that read and write files.
    pub(crate) fn functions(&self) -> Vec<String> {
        let names = self.calls().into_iter().map(|call| call["call"].as_str().unwrap().to_owned());
        names.filter(|name| !name.starts_with("Backup") && name != "FlushFileBuffers").collect()
    }

    pub(crate) fn forget(&self) {
        _ = fs::remove_file(self.log());
    }

    /// Files that must not be left.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let own = self.home().join(".windowsfilter");
        ["tmp", "staging", "incomplete"].iter().flat_map(|dir| names(&own.join(dir))).collect()
    }
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}
