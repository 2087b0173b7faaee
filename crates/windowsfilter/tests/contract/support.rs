//! Stores and layers made for one test.

#![allow(dead_code, reason = "shared by several test binaries")]

use std::ops::Deref;
use std::path::PathBuf;

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};

pub(crate) fn id(text: &str) -> LayerId {
    LayerId::new(text).unwrap()
}

/// A layer tar, entry by entry.
pub(crate) struct TestLayer(Writer<Vec<u8>>);

impl TestLayer {
    pub(crate) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn entry(name: &str, attributes: u32, size: u64) -> LayerEntry {
        let time = FileTime(132_444_736_001_234_567);
        let info = FileInfo {
            attributes,
            creation_time: time,
            last_access_time: time,
            last_write_time: time,
            change_time: time,
        };
        LayerEntry { size, ..LayerEntry::new(name.as_bytes().to_vec(), info) }
    }

    pub(crate) fn dir(mut self, name: &str) -> Self {
        self.0.write_file(&Self::entry(name, FILE_ATTRIBUTE_DIRECTORY, 0), &mut std::io::empty()).unwrap();
        self
    }

    pub(crate) fn file(mut self, name: &str, content: &[u8]) -> Self {
        let entry = Self::entry(name, FILE_ATTRIBUTE_ARCHIVE, content.len() as u64);
        self.0.write_file(&entry, &mut &content[..]).unwrap();
        self
    }

    /// A hard link to the entry `target`, of this layer or of a parent.
    pub(crate) fn link(mut self, name: &str, target: &str) -> Self {
        self.0.write_link(&Self::entry(name, FILE_ATTRIBUTE_ARCHIVE, 0), target.as_bytes()).unwrap();
        self
    }

    pub(crate) fn whiteout(mut self, name: &str) -> Self {
        self.0.write_whiteout(name.as_bytes()).unwrap();
        self
    }

    /// A directory that was last written at `time`.
    pub(crate) fn dir_of(mut self, name: &str, time: FileTime) -> Self {
        let mut entry = Self::entry(name, FILE_ATTRIBUTE_DIRECTORY, 0);
        entry.last_write_time = time;
        self.0.write_file(&entry, &mut std::io::empty()).unwrap();
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }

    /// A base layer: a file and a directory with a file.
    pub(crate) fn base() -> Vec<u8> {
        Self::new()
            .dir("Files")
            .dir("Files/Windows")
            .file("Files/Windows/notepad.exe", b"MZ notepad")
            .file("Files/readme.txt", b"read me")
            .tar()
    }
}

/// A store in a temporary directory; whatever a failed test left mounted is unmounted.
pub(crate) struct TestStore {
    store: LayerStore,
    _dir: tempfile::TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LayerStore::open(&dir.path().join("store"), StorageOptions::default()).unwrap();
        Self { store, _dir: dir }
    }

    /// With a base layer `base`: a file and a directory with a file.
    pub(crate) fn with_base() -> Self {
        let test = Self::new();
        test.apply_diff(&id("base"), None, &mut &TestLayer::base()[..]).unwrap();
        test
    }

    /// The directory of a layer.
    pub(crate) fn layer_dir(&self, layer: &str) -> PathBuf {
        self.root().join("layers").join(layer)
    }

    /// The rows of the store's status.
    pub(crate) fn fact(&self, name: &str) -> String {
        let facts = self.status().unwrap();
        facts.into_iter().find(|(row, _)| row == name).unwrap_or_else(|| panic!("no row {name}")).1
    }
}

impl Deref for TestStore {
    type Target = LayerStore;

    fn deref(&self) -> &LayerStore {
        &self.store
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        for layer in self.store.layers().unwrap_or_default() {
            while self.store.put(&layer).is_ok() {}
        }
    }
}
