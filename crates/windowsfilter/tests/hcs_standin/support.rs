//! A store with a stand-in of its own, and layers made for one test.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use hcs::Host;
use hcs::windows::System;
use serde_json::Value;
use tempfile::TempDir;
use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{BackupSource, FileInfo, LayerEntry, Writer};
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

/// A Windows of a test's own, with a store on it.
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

    /// The home as Windows is told of it.
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
        // That was the test's own question.
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
        names.filter(|name| !name.starts_with("Backup")).collect()
    }

    pub(crate) fn forget(&self) {
        _ = fs::remove_file(self.log());
    }

    /// What nobody must leave.
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

/// A layer tar, entry by entry.
pub(crate) struct TestTar(Writer<Vec<u8>>);

impl TestTar {
    pub(crate) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn info(attributes: u32) -> FileInfo {
        let time = FileTime(132_444_736_001_234_567);
        FileInfo {
            attributes,
            creation_time: time,
            last_access_time: time,
            last_write_time: time,
            change_time: time,
        }
    }

    pub(crate) fn dir(mut self, name: &str) -> Self {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), Self::info(FILE_ATTRIBUTE_DIRECTORY));
        self.0.write_file(&entry, &mut std::io::empty()).unwrap();
        self
    }

    pub(crate) fn file(mut self, name: &str, content: &[u8]) -> Self {
        let info = Self::info(FILE_ATTRIBUTE_ARCHIVE);
        let entry =
            LayerEntry { size: content.len() as u64, ..LayerEntry::new(name.as_bytes().to_vec(), info) };
        self.0.write_file(&entry, &mut &content[..]).unwrap();
        self
    }

    /// A directory that is a mount point.
    pub(crate) fn junction(mut self, name: &str, target: &str) -> Self {
        let info = Self::info(FILE_ATTRIBUTE_DIRECTORY | hcs::attribute::REPARSE_POINT);
        let reparse = wclayer::reparse::encode_go(target, true).unwrap();
        let mut stream = wclayer::backup_stream::Writer::new(Vec::new());
        stream.record(wclayer::backup_stream::REPARSE_DATA, &reparse).unwrap();
        let stream = stream.finish().unwrap();
        let path = name.replace('/', "\\");
        self.0
            .write_backup_stream(path.as_bytes(), 0, info, BackupSource::Forward(&mut &stream[..]))
            .unwrap();
        self
    }

    pub(crate) fn link(mut self, name: &str, target: &str) -> Self {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), Self::info(FILE_ATTRIBUTE_ARCHIVE));
        self.0.write_link(&entry, target.as_bytes()).unwrap();
        self
    }

    pub(crate) fn delete(mut self, name: &str) -> Self {
        self.0.write_whiteout(name.replace('/', "\\").as_bytes()).unwrap();
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}
