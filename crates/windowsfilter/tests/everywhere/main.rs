//! The part of the driver's contract that needs no mounts, and so runs on every system.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod limits;
mod rebuild;
#[path = "../contract/support.rs"]
mod support;
mod tar_split;

use std::fs;
use std::io::Read;

use support::{TestLayer, TestStore, id};
use windowsfilter::{Driver, Error};

#[test]
fn the_diff_of_a_layer_is_the_very_tar_that_came_in() {
    let store = TestStore::new();
    let mut tar = TestLayer::new().dir("Files").file("Files/a", b"a").tar();
    tar.extend_from_slice(b"bytes behind the end of the archive");
    let applied = store.apply_diff(&id("l"), None, &mut &tar[..]).unwrap();
    let mut out = Vec::new();
    store.diff(&id("l"), None).unwrap().read_to_end(&mut out).unwrap();
    assert!(out == tar);
    assert_eq!(applied.diff_id.0, windowsfilter::Digest::of(&tar));
}

#[test]
fn the_parent_of_a_diff_is_checked() {
    let store = TestStore::with_base();
    let tar = TestLayer::new().dir("Files").tar();
    store.apply_diff(&id("a"), Some(&id("base")), &mut &tar[..]).unwrap();
    store.apply_diff(&id("b"), Some(&id("a")), &mut &tar[..]).unwrap();
    assert!(store.diff(&id("b"), Some(&id("a"))).is_ok());
    assert!(matches!(store.diff(&id("b"), Some(&id("base"))).err(), Some(Error::NotTheParent { .. })));
}

#[test]
fn apply_after_create_fills_the_empty_layer() {
    let store = TestStore::with_base();
    store.create(&id("l"), Some(&id("base"))).unwrap();
    let tar = TestLayer::new().dir("Files").file("Files/x", b"x").tar();
    store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap();
    assert_eq!(store.chain_ids(&id("l")).unwrap(), [id("base")]);
    let again = store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]);
    assert!(matches!(again, Err(Error::LayerExists { .. })));
}

#[test]
fn a_broken_import_leaves_nothing_and_says_where_it_broke() {
    let store = TestStore::new();
    let tar = TestLayer::new().dir("Files").file("Files/a", &[1; 4096]).tar();
    for cut in [100, 700, 1536, 3000] {
        let error = store.apply_diff(&id("l"), None, &mut &tar[..cut]).map(drop);
        assert_eq!(
            fs::read_dir(store.root().join("layers")).unwrap().count(),
            usize::from(error.is_ok()),
            "{cut}"
        );
        if error.is_ok() {
            store.remove(&id("l")).unwrap();
        }
    }
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn a_damaged_index_is_found_and_rebuilt() {
    let store = TestStore::with_base();
    store.view(&id("base")).unwrap();
    for name in ["layer.erofs", "chain.erofs"] {
        let path = store.root().join("layers/base").join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, bad).unwrap();
        assert_eq!(store.fsck(false).unwrap().len(), 1, "{name}");
        let findings = store.fsck(true).unwrap();
        assert!(findings.iter().all(|f| f.repaired), "{findings:?}");
        assert!(fs::read(&path).unwrap() == good, "{name}");
    }
}

#[test]
fn one_flipped_bit_of_a_tar_does_not_verify() {
    let store = TestStore::with_base();
    store.verify(&id("base")).unwrap();
    let path = store.root().join("layers/base/layer.tar");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3000] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(store.verify(&id("base")), Err(Error::DigestMismatch { .. })));
}

#[test]
fn files_are_opened_by_their_tar_names() {
    let store = TestStore::with_base();
    let getter = store.diff_getter(&id("base")).unwrap();
    let mut content = String::new();
    getter.get(b"Files/readme.txt").unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "read me");
    assert!(matches!(getter.get(b"Files/none").err(), Some(Error::NoSuchFile { .. })));
}

#[test]
fn two_imports_of_one_layer_exclude_each_other() {
    let store = TestStore::new();
    let tar = TestLayer::new().dir("Files").file("Files/x", &[7; 100_000]).tar();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| store.apply_diff(&id("l"), None, &mut &tar[..]))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(results.iter().all(|r| matches!(r, Ok(_) | Err(Error::LayerExists { .. }))), "{results:?}");
    store.verify(&id("l")).unwrap();
}

#[test]
fn layers_can_be_removed_while_others_go() {
    let store = TestStore::new();
    let results: Vec<_> = std::thread::scope(|scope| {
        let come_and_go = |thread: u32| {
            let (store, id) = (&store, id(&format!("l{thread}")));
            (0..40).try_for_each(|_| {
                store.create(&id, None)?;
                store.remove(&id)
            })
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || come_and_go(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn the_drivers_name_is_windowsfilter() {
    assert_eq!(TestStore::new().name(), "windowsfilter");
}

#[test]
fn a_layer_that_is_being_read_goes_or_is_in_use_but_is_never_half_gone() {
    let store = TestStore::with_base();
    let mut diff = store.diff(&id("base"), None).unwrap();
    let mut first = [0; 512];
    diff.read_exact(&mut first).unwrap();
    match store.remove(&id("base")) {
        // An open file outlives its layer, if the system supports that.
        Ok(()) => assert!(diff.read_to_end(&mut Vec::new()).unwrap() > 0),
        Err(error) => {
            assert_eq!(error.kind(), windowsfilter::ErrorKind::InUse, "{error}");
            drop(diff);
            store.verify(&id("base")).unwrap();
            store.remove(&id("base")).unwrap();
        }
    }
    assert_eq!(store.layers().unwrap(), []);
    assert_eq!(fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn nothing_but_layers_is_left_among_the_layers() {
    let store = TestStore::with_base();
    store.create(&id("l"), Some(&id("base"))).unwrap();
    let tar = TestLayer::new().dir("Files").file("Files/x", b"x").tar();
    store.apply_diff(&id("l"), Some(&id("base")), &mut &tar[..]).unwrap();
    store.create(&id("gone"), None).unwrap();
    store.remove(&id("gone")).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(store.root().join("layers")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["base", "l"]);
    assert_eq!(store.fsck(false).unwrap(), []);
}
