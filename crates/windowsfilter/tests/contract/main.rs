//! The driver's contract, as moby's `graphtest` suite (`graphtest.rs`, which any engine can run) and the rows
//! of the original's behaviour demand it; `docs/driver-contract.md` says which test belongs to which row.
//! Mounts need root.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod content;
mod expand;
mod full_disk;
mod graphtest;
mod left_behind;
mod ownership;
mod records;
mod removal;
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use support::{TestLayer, TestStore, id};
use windowsfilter::{Change, ChangeKind, Driver, Error, LayerStore, Presence, StorageOptions};

/// 64 MiB: large enough for ext4, small enough to fill.
pub(crate) const SMALL: StorageOptions = StorageOptions { size: Some(64 << 20) };

pub(crate) fn change(kind: ChangeKind, path: &str) -> Change {
    Change { path: path.as_bytes().to_vec(), kind }
}

#[test]
fn gets_are_counted_across_processes() {
    let store = TestStore::with_base();
    let first = store.get(&id("base"), "").unwrap();
    // Another process, as far as the store can tell.
    let other = LayerStore::open(store.root(), StorageOptions::default()).unwrap();
    assert_eq!(other.get(&id("base"), "").unwrap(), first);
    assert_eq!(store.mounts(&id("base")).unwrap().count, 2);
    store.put(&id("base")).unwrap();
    assert!(first.join("readme.txt").exists());
    other.put(&id("base")).unwrap();
    assert!(!first.exists());
    assert!(matches!(store.put(&id("base")), Err(Error::NotMounted { .. })));
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
fn remove_of_a_parent_is_refused_naming_all_children_and_changes_nothing() {
    let store = TestStore::with_base();
    store.create_read_write(&id("c1"), Some(&id("base")), SMALL, "").unwrap();
    store.create_read_write(&id("c2"), Some(&id("base")), SMALL, "").unwrap();
    match store.remove(&id("base")) {
        Err(Error::HasChildren { children, .. }) => assert_eq!(children, [id("c1"), id("c2")]),
        other => panic!("{other:?}"),
    }
    store.verify(&id("base")).unwrap();
    for layer in ["c1", "c2", "base"] {
        store.remove(&id(layer)).unwrap();
    }
    assert_eq!(fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_mounted_layer_is_not_removed() {
    let store = TestStore::with_base();
    store.get(&id("base"), "").unwrap();
    assert!(matches!(store.remove(&id("base")), Err(Error::Mounted { .. })));
    store.put(&id("base")).unwrap();
    store.remove(&id("base")).unwrap();
    assert_eq!(store.exists(&id("base")).unwrap(), Presence::Absent);
}

#[test]
fn two_diffs_of_one_sandbox_are_the_same_bytes() {
    let store = TestStore::with_base();
    store.create_read_write(&id("c"), Some(&id("base")), SMALL, "").unwrap();
    let view = store.get(&id("c"), "").unwrap();
    fs::write(view.join("new.txt"), "new").unwrap();
    store.put(&id("c")).unwrap();
    let read = || {
        let mut out = Vec::new();
        store.diff(&id("c"), None).unwrap().read_to_end(&mut out).unwrap();
        out
    };
    assert!(read() == read());
}

#[test]
fn a_diff_dropped_half_way_leaves_the_mount_alive() {
    let store = TestStore::with_base();
    store
        .create_read_write(&id("c"), Some(&id("base")), StorageOptions { size: Some(128 << 20) }, "")
        .unwrap();
    let view = store.get(&id("c"), "").unwrap();
    fs::write(view.join("big"), vec![7; 16 << 20]).unwrap();
    let mut diff = store.diff(&id("c"), None).unwrap();
    diff.read_exact(&mut [0; 4096]).unwrap();
    fs::write(view.join("later"), "x").unwrap();
    drop(diff);
    fs::write(view.join("still"), "alive").unwrap();
    store.put(&id("c")).unwrap();
    let changes = store.changes(&id("c"), None).unwrap();
    assert!(changes.contains(&change(ChangeKind::Add, "Files/still")));
}

#[test]
fn an_init_layer_adds_nothing_to_the_chain() {
    let store = TestStore::with_base();
    store.create_read_write(&id("c-init"), Some(&id("base")), SMALL, "").unwrap();
    store.create_read_write(&id("c"), Some(&id("c-init")), SMALL, "").unwrap();
    assert_eq!(store.chain_ids(&id("c")).unwrap(), [id("base")]);
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
fn a_hundred_threads_share_one_mount() {
    let store = TestStore::with_base();
    let paths: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(|| store.get(&id("base"), "").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(paths.iter().all(|path| path == &paths[0] && path.join("readme.txt").exists()));
    for _ in 0..100 {
        store.put(&id("base")).unwrap();
    }
    assert_eq!(store.mounts(&id("base")).unwrap().count, 0);
}

#[test]
fn metadata_of_an_unknown_layer_is_an_error() {
    let store = TestStore::with_base();
    assert!(store.get_metadata(&id("base")).unwrap()["dir"].ends_with("layers/base"));
    assert!(matches!(store.get_metadata(&id("none")), Err(Error::NoSuchLayer { .. })));
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
