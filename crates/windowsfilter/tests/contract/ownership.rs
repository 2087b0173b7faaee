//! Guarantees for programs that keep records of their own: owned layers, held mounts, kept staged layers.

use std::fs;
use std::io::Cursor;

use windowsfilter::fsck::Invariant;
use windowsfilter::import::{Expect, ImportRequest, StagedDirectory};
use windowsfilter::{Driver, Error, ErrorKind, LayerStore, StorageOptions};

use crate::support::{TestLayer, TestStore, id};

fn request(tar: Vec<u8>) -> ImportRequest<'static> {
    let label = "layer staged".to_owned();
    ImportRequest { blob: Box::new(Cursor::new(tar)), expect: Expect::default(), progress: &(), label }
}

fn tar() -> Vec<u8> {
    TestLayer::new().dir("Files").file("Files/new.txt", b"new").tar()
}

#[test]
fn a_layer_that_belongs_to_somebody_stays() {
    let store = TestStore::with_base();
    store.own(&id("base"), "one").unwrap();
    store.own(&id("base"), "two").unwrap();
    store.own(&id("base"), "two").unwrap();
    store.disown(&id("base"), "one").unwrap();
    let error = store.remove(&id("base")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.to_string().contains("belongs to two"), "{error}");
    store.disown(&id("base"), "two").unwrap();
    store.disown(&id("base"), "nobody").unwrap();
    store.remove(&id("base")).unwrap();
    assert!(store.own(&id("base"), "one").is_err());
}

#[test]
fn a_staged_layer_that_is_kept_is_found_again_and_published_under_another_name() {
    let store = TestStore::with_base();
    let mut staged = store.stage(&id("staged"), request(tar())).unwrap();
    staged.keep().unwrap();
    let imported = staged.imported.clone();
    // While one process has it, no other gets it, and cleanup leaves it alone.
    assert!(store.take_up_staged(&id("staged")).unwrap().is_none());
    store.cleanup().unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
    drop(staged);
    let other = LayerStore::open(store.root(), StorageOptions::default()).unwrap();
    let staged = other.take_up_staged(&id("staged")).unwrap().unwrap();
    assert_eq!(staged.imported, imported);
    staged.publish_as(&id("final"), Some(&id("base")), Some("me")).unwrap();
    assert_eq!(store.owners(&id("final")).unwrap().into_iter().collect::<Vec<_>>(), ["me"]);
    assert_eq!(store.chain_ids(&id("final")).unwrap(), [id("base")]);
    store.verify(&id("final")).unwrap();
    assert!(store.take_up_staged(&id("staged")).unwrap().is_none());
    assert!(!store.contains(&id("staged")));
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn an_owner_can_remove_what_is_only_its_own() {
    let store = TestStore::with_base();
    store.own(&id("base"), "one").unwrap();
    store.own(&id("base"), "two").unwrap();
    assert!(
        matches!(store.remove_owned(&id("base"), "one"), Err(Error::Owned { owners, .. }) if owners == ["two"])
    );
    assert_eq!(store.owners(&id("base")).unwrap().len(), 2);
    store.disown(&id("base"), "two").unwrap();
    store.remove_owned(&id("base"), "one").unwrap();
    assert!(!store.contains(&id("base")));
}

#[test]
fn a_staged_layer_whose_keeping_was_cut_short_is_given_up() {
    let store = TestStore::new();
    for content in [None, Some(""), Some("{\"diff")] {
        let mut staged = store.stage(&id("staged"), request(tar())).unwrap();
        staged.keep().unwrap();
        drop(staged);
        let kept = store.root().join("layers/staged-importing/staged.json");
        match content {
            Some(content) => fs::write(&kept, content).unwrap(),
            None => fs::remove_file(&kept).unwrap(),
        }
        assert!(store.take_up_staged(&id("staged")).unwrap().is_none());
        assert_eq!(fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
    }
}

#[test]
fn a_kept_layer_stays_until_it_is_given_up() {
    let store = TestStore::new();
    let mut staged = store.stage(&id("staged"), request(tar())).unwrap();
    staged.keep().unwrap();
    drop(staged);
    // Nobody has it now; cleanup leaves it for the owner that kept it.
    store.cleanup().unwrap();
    for repair in [false, true] {
        assert_eq!(store.fsck(repair).unwrap(), []);
    }
    assert_eq!(store.staged().unwrap(), [StagedDirectory { id: id("staged"), kept: true }]);
    store.take_up_staged(&id("staged")).unwrap().unwrap().discard();
    assert!(store.take_up_staged(&id("staged")).unwrap().is_none());
    assert_eq!(store.staged().unwrap(), []);
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn a_kept_layer_whose_record_is_damaged_is_found_and_stays() {
    let store = TestStore::new();
    let mut staged = store.stage(&id("staged"), request(tar())).unwrap();
    staged.keep().unwrap();
    drop(staged);
    let record = store.root().join("layers/staged-importing/staged.json");
    let mut text = fs::read(&record).unwrap();
    text[20] ^= 1;
    fs::write(&record, &text).unwrap();
    for repair in [false, true] {
        let found = store.fsck(repair).unwrap();
        assert_eq!(found.iter().map(|found| found.invariant).collect::<Vec<_>>(), [Invariant::StagedLayer]);
        assert!(found[0].problem.contains("staged.json"), "{found:?}");
        assert!(!found[0].repaired);
    }
    // A layer whose staging was cut short before it was kept belongs to nobody.
    fs::remove_file(&record).unwrap();
    store.cleanup().unwrap();
    assert_eq!(store.staged().unwrap(), []);
}

#[test]
fn a_held_mount_needs_no_counting() {
    let store = TestStore::with_base();
    let view = store.hold(&id("base"), "one").unwrap();
    assert_eq!(store.hold(&id("base"), "one").unwrap(), view);
    assert_eq!(store.get(&id("base"), "").unwrap(), view);
    store.put(&id("base")).unwrap();
    assert!(view.join("readme.txt").exists());
    assert!(matches!(store.put(&id("base")), Err(Error::NotMounted { .. })));
    assert!(view.join("readme.txt").exists());
    assert!(matches!(store.remove(&id("base")), Err(Error::Mounted { .. })));
    store.hold(&id("base"), "two").unwrap();
    assert_eq!(store.held().unwrap()[0].1.len(), 2);
    store.unhold(&id("base"), "one").unwrap();
    store.unhold(&id("base"), "one").unwrap();
    assert!(view.join("readme.txt").exists());
    store.unhold(&id("base"), "two").unwrap();
    assert!(!view.exists());
    store.remove(&id("base")).unwrap();
}

#[test]
fn a_held_mount_that_is_in_use_goes_with_its_last_user() {
    let store = TestStore::with_base();
    let view = store.hold(&id("base"), "one").unwrap();
    let open = fs::File::open(view.join("readme.txt")).unwrap();
    store.unhold(&id("base"), "one").unwrap();
    assert!(!view.exists());
    assert!(open.metadata().unwrap().len() > 0);
    assert_eq!(store.mounts(&id("base")).unwrap().users(), 0);
    assert!(matches!(store.remove(&id("base")), Err(Error::InUse { .. })), "its user would lose it");
    drop(open);
    store.remove(&id("base")).unwrap();
}
