//! The driver's contract, from moby's `graphtest` suite and the rows of the original's behaviour. `suite.rs`
//! has the tests for every engine, this folder the rest; `docs/driver-contract.md` maps rows to tests. Mounts
//! need root.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod content;
mod expand;
mod full_disk;
mod left_behind;
mod ownership;
mod records;
mod removal;
mod suite;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use suite::support::{TestLayer, TestStore, id};
use suite::{Plain, Rig, View};
use windowsfilter::driver::{Change, ChangeKind, Presence};
use windowsfilter::{Driver, Error, LayerStore, StorageOptions};

/// The tests beside this one use this name.
pub(crate) use suite::support;

/// 64 MiB: large enough for ext4, small enough to fill.
pub(crate) const SMALL: StorageOptions = StorageOptions { size: Some(64 << 20) };

pub(crate) fn change(kind: ChangeKind, path: &str) -> Change {
    Change { path: path.as_bytes().to_vec(), kind }
}

impl Rig for TestStore {
    const TELLS_ADDED: bool = true;
    const SANDBOXES_WITHOUT_PARENT: bool = true;
    const VIEWS_END: bool = true;

    fn new() -> Self {
        Self::new()
    }

    fn store(&self) -> &LayerStore {
        self
    }

    fn another(&self) -> LayerStore {
        LayerStore::open(self.root(), StorageOptions::default()).unwrap()
    }

    fn view<'a>(&'a self, _: &str, path: &Path) -> Box<dyn View + 'a> {
        Box::new(Plain(path.to_owned()))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join("layers")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn problems(&self) -> Vec<String> {
        let layers = self.layers().unwrap();
        let unverified = layers.iter().filter_map(|layer| self.verify(layer).err()).map(|e| e.to_string());
        unverified.chain(self.fsck(false).unwrap().into_iter().map(|finding| finding.problem)).collect()
    }
}

/// The suite on this engine.
mod portable {
    use super::suite;
    use super::support::TestStore;

    suite::suite! {
        TestStore,
        run: [
            graphtest: create_empty_gives_an_empty_view,
            graphtest: create_base_and_snap_show_what_the_base_has,
            graphtest: a_file_is_read_through_125_layers,
            graphtest: a_diff_of_10_000_files_applies_and_reads_back,
            graphtest: changes_tell_added_modified_and_deleted_apart,
            graphtest: a_full_sandbox_says_no_space_and_the_store_is_unharmed,
            graphtest: gets_are_counted_and_the_last_put_unmounts,
            graphtest: a_missing_parent_is_an_error_and_leaves_nothing_behind,
            every_engine: remove_of_a_parent_is_refused_naming_all_children_and_changes_nothing,
            every_engine: a_mounted_layer_is_not_removed,
            every_engine: two_diffs_of_one_sandbox_are_the_same_bytes,
            every_engine: a_diff_dropped_half_way_leaves_the_mount_alive,
            every_engine: an_init_layer_adds_nothing_to_the_chain,
            every_engine: a_layer_without_its_chain_is_damaged_and_not_missing,
            every_engine: a_hundred_threads_share_one_mount,
            every_engine: metadata_of_an_unknown_layer_is_an_error,
            every_engine: the_parent_of_a_diff_is_checked,
            every_engine: a_deletion_and_a_replacement_are_what_a_view_shows,
        ],
        leave_out: []
    }
}

#[test]
fn a_busy_mount_stays_mounted_and_counted() {
    let store = TestStore::with_base();
    let view = store.get(&id("base"), "").unwrap();
    let open = fs::File::open(view.join("readme.txt")).unwrap();
    let error = store.put(&id("base")).unwrap_err();
    assert_eq!(error.kind(), windowsfilter::ErrorKind::InUse, "{error}");
    assert_eq!(store.mounts(&id("base")).unwrap().count, 1);
    drop(open);
    store.put(&id("base")).unwrap();
}

#[test]
fn a_damaged_layer_is_told_from_a_missing_one() {
    let store = TestStore::with_base();
    let dir = store.root().join("layers/base");
    let chain = fs::read(dir.join("layerchain.json")).unwrap();
    fs::remove_file(dir.join("layerchain.json")).unwrap();
    assert!(matches!(store.exists(&id("base")).unwrap(), Presence::Damaged { .. }));
    assert!(matches!(store.get(&id("base"), ""), Err(Error::Damaged { .. })));
    fs::write(dir.join("layerchain.json"), chain).unwrap();
    let record = fs::read_to_string(dir.join("layer.json")).unwrap();
    fs::write(dir.join("layer.json"), record.replace("\"entries\": ", "\"entries\": 1")).unwrap();
    assert!(matches!(store.exists(&id("base")).unwrap(), Presence::Damaged { .. }));
    assert_eq!(store.fsck(false).unwrap().len(), 1);
}

#[test]
fn cleanup_removes_what_interrupted_work_has_left() {
    let store = TestStore::with_base();
    for name in ["x-importing", "y-removing", "y.1-removing"] {
        let dir = store.root().join("layers").join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("layer.tar"), "half").unwrap();
    }
    fs::write(store.root().join("tmp/half-written"), "half").unwrap();
    fs::create_dir_all(store.root().join("templates/making/root")).unwrap();
    let found = store.fsck(false).unwrap();
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(store.fsck(false).unwrap(), found, "looking changes nothing");
    store.cleanup().unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
    assert_eq!(store.layers().unwrap(), [id("base")]);
    fs::write(store.root().join("tmp/half-written"), "half").unwrap();
    let repaired = store.fsck(true).unwrap();
    assert!(repaired.len() == 1 && repaired[0].repaired, "{repaired:?}");
}

#[test]
fn fsck_does_not_take_a_mount_in_the_making_for_a_leftover() {
    let store = TestStore::with_base();
    fs::create_dir(store.root().join("mounts/base")).unwrap();
    let mounting = fs::File::create(store.root().join("mounts/base.lock")).unwrap();
    mounting.lock().unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
    drop(mounting);
    assert_eq!(store.fsck(false).unwrap().len(), 1);
}

#[test]
fn a_mount_point_that_is_none_is_refused_before_anything_is_mounted() {
    let store = TestStore::with_base();
    let file = store.root().join("file");
    fs::write(&file, "x").unwrap();
    let inside = store.root().join("tmp");
    for target in [file.as_path(), &store.root().join("nothing"), &inside, store.root()] {
        let error = store.mount(&id("base"), Some(target)).unwrap_err();
        assert!(error.to_string().contains(&target.display().to_string()), "{error}");
        assert!(!store.root().join("mounts/base").exists());
    }
    assert!(matches!(store.unmount(&id("base")), Err(Error::NotMounted { .. })));
}

#[test]
fn a_store_that_moved_still_opens() {
    let store = TestStore::with_base();
    let tar = TestLayer::new().dir("Files").file("Files/x", b"x").tar();
    store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let root = elsewhere.path().join("moved");
    fs::rename(store.root(), &root).unwrap();
    let moved = LayerStore::open(&root, StorageOptions::default()).unwrap();
    let view = moved.get(&id("l"), "").unwrap();
    assert!(view.join("x").exists() && view.join("readme.txt").exists());
    moved.put(&id("l")).unwrap();
}

#[test]
fn a_base_layer_shows_files_only() {
    let store = TestStore::new();
    let tar =
        TestLayer::new().dir("Files").dir("Hives").file("Hives/System_Base", b"regf").dir("UtilityVM").tar();
    store.apply_diff(&id("l"), None, &mut &tar[..]).unwrap();
    let view = store.get(&id("l"), "").unwrap();
    assert_eq!(fs::read_dir(&view).unwrap().count(), 0);
    assert_eq!(fs::metadata(&view).unwrap().uid(), 0);
    store.put(&id("l")).unwrap();
}

#[test]
fn the_same_changes_at_different_times_are_the_same_layer_if_times_are_capped() {
    let store = TestStore::with_base();
    let newest = wclayer::filetime::FileTime::from_unix(1_500_000_000, 0);
    let mut tars = Vec::new();
    for name in ["one", "two"] {
        store.create_read_write(&id(name), Some(&id("base")), SMALL, "").unwrap();
        let view = store.get(&id(name), "").unwrap();
        fs::write(view.join("new.txt"), "new").unwrap();
        fs::write(view.join("Windows/notepad.exe"), "changed").unwrap();
        for tar in [store.diff(&id(name), None), store.diff_until(&id(name), newest)] {
            let mut bytes = Vec::new();
            tar.unwrap().read_to_end(&mut bytes).unwrap();
            tars.push(bytes);
        }
    }
    assert!(tars[0] != tars[2]);
    assert!(tars[1] == tars[3]);
    let mut plain = Vec::new();
    store.diff_until(&id("base"), newest).unwrap().read_to_end(&mut plain).unwrap();
    let mut exact = Vec::new();
    store.diff(&id("base"), None).unwrap().read_to_end(&mut exact).unwrap();
    assert!(plain == exact);
}
