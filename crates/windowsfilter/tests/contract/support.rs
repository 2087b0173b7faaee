//! Stores and layers made for one test.

#![allow(dead_code, reason = "shared by several test binaries")]

use std::ops::Deref;
use std::path::PathBuf;

pub(crate) use sample_images::SmallLayer as TestLayer;
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};

pub(crate) fn id(text: &str) -> LayerId {
    LayerId::new(text).unwrap()
}

/// A store in a temporary directory. Dropping it unmounts everything that a failed test left mounted.
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
        test.apply_diff(&id("base"), None, &mut &TestLayer::base().tar()[..]).unwrap();
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
