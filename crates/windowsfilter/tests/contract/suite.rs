//! The tests of the contract for every engine: moby's suite (`graphtest.rs`), and others that do not depend
//! on the host (`every_engine.rs`). Each is written once, over a [`Rig`], and runs on
//!
//! * the portable engine (`main.rs`);
//! * the Windows engine over a recorded Windows, on any Unix (`src/engine/hcs/tests/contract.rs`);
//! * the Windows engine over the stand-in, under Wine (`../hcs_standin/contract.rs`);
//! * an engine in memory (`src/engine/memory.rs`): those that need no mount.
//!
//! A rig names the tests that it runs, and those that it does not with the reason; together they are [`ALL`].
//! `docs/driver-contract.md`, "Which engine runs what", has the tests of single engines.

#[path = "every_engine.rs"]
pub(crate) mod every_engine;
#[path = "graphtest.rs"]
pub(crate) mod graphtest;
#[path = "support.rs"]
pub(crate) mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use windowsfilter::driver::{Change, ChangeKind};
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};

use support::{TestLayer, id};

/// A store of its own over the engine under test.
pub(crate) trait Rig: Sized {
    /// Whether changes tell added from modified entries. The compute service does not.
    const TELLS_ADDED: bool;
    /// Whether a sandbox can have no parent. The compute service makes none without a base layer.
    const SANDBOXES_WITHOUT_PARENT: bool;
    /// Whether a view ends with its mount. On Windows a layer's view is its directory.
    const VIEWS_END: bool;

    fn new() -> Self;
    fn store(&self) -> &LayerStore;
    /// The same store once more, as another process would open it.
    fn another(&self) -> LayerStore;
    /// The container's view of `layer`, which is mounted at `path`.
    fn view<'a>(&'a self, layer: &str, path: &Path) -> Box<dyn View + 'a>;
    /// The names in the store: IDs, and remains of unfinished work.
    fn names(&self) -> Vec<String>;
    /// All problems of the store.
    fn problems(&self) -> Vec<String>;
    /// A sandbox size that can be filled in a test.
    fn quota() -> u64 {
        64 << 20
    }

    fn driver(&self) -> &dyn Driver {
        self.store()
    }

    /// With the layer `base`: a file and a directory with a file.
    fn with_base() -> Self {
        let rig = Self::new();
        rig.driver().apply_diff(&id("base"), None, &mut &TestLayer::base().tar()[..]).unwrap();
        rig
    }

    /// Makes the sandbox `name` on `parent`.
    fn sandbox(&self, name: &str, parent: Option<&str>) {
        let options = StorageOptions { size: Some(Self::quota()) };
        self.driver().create_read_write(&id(name), parent.map(id).as_ref(), options, "").unwrap();
    }

    /// Mounts `layer`, passes the view to `see`, and unmounts it.
    fn mounted<T>(&self, layer: &str, see: impl FnOnce(&dyn View) -> T) -> T {
        let path = self.driver().get(&id(layer), "").unwrap();
        let seen = see(&*self.view(layer, &path));
        self.driver().put(&id(layer)).unwrap();
        seen
    }

    /// A change as this engine reports it.
    fn told(kind: ChangeKind, path: &str) -> Change {
        let kind = if kind == ChangeKind::Add && !Self::TELLS_ADDED { ChangeKind::Modify } else { kind };
        Change { path: path.as_bytes().to_vec(), kind }
    }
}

/// A container's view. Paths have slashes.
pub(crate) trait View {
    /// The bytes of a file, if it exists.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// Writes a file anew.
    fn write(&self, path: &str, bytes: &[u8]);
    fn make_directory(&self, path: &str);
    fn remove(&self, path: &str);
    /// Names at its root.
    fn names(&self) -> BTreeSet<String>;

    fn text(&self, path: &str) -> Option<String> {
        self.read(path).map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

/// A plain directory.
pub(crate) struct Plain(pub(crate) PathBuf);

impl View for Plain {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        match fs::read(self.0.join(path)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other.unwrap()),
        }
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.0.join(path), bytes).unwrap();
    }

    fn make_directory(&self, path: &str) {
        fs::create_dir(self.0.join(path)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.join(path)).unwrap();
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = match fs::read_dir(&self.0) {
            // An empty layer of Windows has no files, and no directory for them.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return BTreeSet::new(),
            other => other.unwrap(),
        };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Layers of a driver, sorted.
pub(crate) fn layers(store: &LayerStore) -> Vec<LayerId> {
    let mut layers = store.layers().unwrap();
    layers.sort();
    layers
}

/// Defines the tests of one engine, and the reasons for those that it does not run.
macro_rules! suite {
    ($rig:ty, run: [$($module:ident: $name:ident,)+], leave_out: [$($left_out:ident: $why:literal,)*]) => {
        $(#[test]
        fn $name() {
            suite::$module::$name::<$rig>();
        })+

        #[test]
        fn every_test_of_the_suite_runs_or_has_a_reason_not_to() {
            let mut named = vec![$(stringify!($name),)+ $(stringify!($left_out),)*];
            named.sort_unstable();
            let mut all = suite::ALL.to_vec();
            all.sort_unstable();
            assert_eq!(named, all);
            let reasons: &[&str] = &[$($why,)*];
            assert!(reasons.iter().all(|reason| reason.len() > 20));
        }
    };
}
pub(crate) use suite;

/// Every test.
pub(crate) const ALL: [&str; 18] = [
    "a_diff_dropped_half_way_leaves_the_mount_alive",
    "a_diff_of_10_000_files_applies_and_reads_back",
    "a_deletion_and_a_replacement_are_what_a_view_shows",
    "a_file_is_read_through_125_layers",
    "a_full_sandbox_says_no_space_and_the_store_is_unharmed",
    "a_hundred_threads_share_one_mount",
    "a_layer_without_its_chain_is_damaged_and_not_missing",
    "a_missing_parent_is_an_error_and_leaves_nothing_behind",
    "a_mounted_layer_is_not_removed",
    "an_init_layer_adds_nothing_to_the_chain",
    "changes_tell_added_modified_and_deleted_apart",
    "create_base_and_snap_show_what_the_base_has",
    "create_empty_gives_an_empty_view",
    "gets_are_counted_and_the_last_put_unmounts",
    "metadata_of_an_unknown_layer_is_an_error",
    "remove_of_a_parent_is_refused_naming_all_children_and_changes_nothing",
    "the_parent_of_a_diff_is_checked",
    "two_diffs_of_one_sandbox_are_the_same_bytes",
];
