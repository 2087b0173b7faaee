//! The invariants of one layer and its parents.

use std::fs;

use windowsfilter::fsck::Invariant;
use windowsfilter::support::sealed;
use windowsfilter::{Digest, Driver, Error, LayerKind, LayerRecord};

use crate::support::{TestLayer, TestStore, id};
use crate::{flip, left_alone, repaired, with_child};

/// Replaces a layer's record by one with a valid seal: damage cannot do that, but a bug of ours could.
fn forge(store: &TestStore, layer: &str, change: impl FnOnce(&mut LayerRecord)) {
    let path = store.layer_dir(layer).join("layer.json");
    let mut record: LayerRecord = sealed::unseal(1, &fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, sealed::seal(1, &record).unwrap()).unwrap();
}

/// Replaces a layer's chain, with a record that matches it.
fn forge_chain(store: &TestStore, layer: &str, chain: &[&str]) {
    let text = serde_json::to_vec(chain).unwrap();
    fs::write(store.layer_dir(layer).join("layerchain.json"), &text).unwrap();
    forge(store, layer, |record| record.chain = Some(Digest::of(&text)));
}

#[test]
fn an_alternate_id_of_no_layer_is_found() {
    for (text, reason) in [("gone", "names gone"), ("../base", "../base")] {
        let store = TestStore::with_base();
        fs::create_dir(store.layer_dir("alias")).unwrap();
        fs::write(store.layer_dir("alias/layerID"), text).unwrap();
        let found = left_alone(&store, Invariant::AlternateId);
        assert_eq!(found.id, Some(id("alias")));
        assert!(found.problem.contains("layerID") && found.problem.contains(reason), "{found:?}");
        fs::write(store.layer_dir("alias/layerID"), "base\n").unwrap();
        assert_eq!(store.fsck(false).unwrap(), []);
    }
}

#[test]
fn a_record_that_is_damaged_or_gone_is_found_and_nothing_is_guessed() {
    let store = TestStore::with_base();
    let path = store.layer_dir("base/layer.json");
    let good = fs::read_to_string(&path).unwrap();
    for bad in
        [good.replace("\"entries\": ", "\"entries\": 1"), good.replace("tar_size", "tar-size"), String::new()]
    {
        fs::write(&path, bad).unwrap();
        assert!(left_alone(&store, Invariant::LayerRecord).problem.contains("layer.json"));
    }
    fs::remove_file(&path).unwrap();
    assert!(left_alone(&store, Invariant::LayerRecord).problem.contains("missing"));
    fs::write(&path, good).unwrap();
    store.verify(&id("base")).unwrap();
}

#[test]
fn a_record_without_what_its_kind_needs_is_found() {
    let changes: [fn(&mut LayerRecord); 3] = [
        |record| record.diff_id = None,
        |record| record.index = None,
        |record| record.kind = LayerKind::Sandbox,
    ];
    for (change, missing) in changes.into_iter().zip(["diffID", "index digest", "size"]) {
        let store = TestStore::with_base();
        forge(&store, "base", change);
        let found = left_alone(&store, Invariant::LayerRecord);
        assert!(found.problem.ends_with(&format!("it has no {missing}")), "{found:?}");
    }
}

#[test]
fn a_file_that_no_layer_has_is_named_and_left() {
    let store = TestStore::with_base();
    fs::write(store.layer_dir("base/notes.txt"), "mine").unwrap();
    let found = left_alone(&store, Invariant::LayerFiles);
    assert!(found.problem.contains("notes.txt"), "{found:?}");
}

#[test]
fn owners_that_are_damaged_are_found_and_the_layer_stays() {
    let store = TestStore::with_base();
    store.own(&id("base"), "somebody").unwrap();
    let path = store.layer_dir("base/owners.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("somebody", "somebodx")).unwrap();
    assert!(left_alone(&store, Invariant::LayerOwners).problem.contains("owners.json"));
    assert!(matches!(store.remove(&id("base")), Err(Error::Damaged { .. })));
    fs::write(&path, good).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn a_chain_that_is_not_the_one_it_was_written_with_is_found() {
    let store = with_child();
    let path = store.layer_dir("child/layerchain.json");
    let good = fs::read(&path).unwrap();
    for bad in [&b"[]"[..], b"[\"bass\"]", b"", b"[\"base\" ]"] {
        fs::write(&path, bad).unwrap();
        assert!(left_alone(&store, Invariant::LayerChain).problem.contains("layerchain.json"));
    }
    fs::remove_file(&path).unwrap();
    assert!(left_alone(&store, Invariant::LayerChain).problem.contains("missing"));
    fs::write(&path, good).unwrap();
    forge_chain(&store, "child", &["base", "base"]);
    assert!(left_alone(&store, Invariant::LayerChain).problem.contains("twice"));
}

#[test]
fn a_parent_that_is_gone_or_empty_is_found() {
    let store = with_child();
    let aside = store.root().join("elsewhere");
    fs::rename(store.layer_dir("base"), &aside).unwrap();
    let found = left_alone(&store, Invariant::ParentsExist);
    assert_eq!(found.id, Some(id("child")));
    assert!(found.problem.contains("its parent base is missing"), "{found:?}");
    fs::rename(&aside, store.layer_dir("base")).unwrap();
    store.create(&id("empty"), None).unwrap();
    forge_chain(&store, "child", &["empty"]);
    assert!(left_alone(&store, Invariant::ParentsExist).problem.contains("its parent empty has no content"));
}

#[test]
fn a_chain_that_leaves_its_parents_is_found() {
    let store = with_child();
    let tar = TestLayer::new().dir("Files").tar();
    store.apply_diff(&id("top"), Some(&id("child")), &mut &tar[..]).unwrap();
    forge_chain(&store, "top", &["child"]);
    let found = left_alone(&store, Invariant::ChainContinues);
    assert_eq!(found.id, Some(id("top")));
}

#[test]
fn a_tar_that_is_shorter_longer_or_gone_is_found() {
    let store = TestStore::with_base();
    let path = store.layer_dir("base/layer.tar");
    let good = fs::read(&path).unwrap();
    for bad in [&good[..good.len() - 1], &[&good[..], b"x"].concat(), b""] {
        fs::write(&path, bad).unwrap();
        let found = left_alone(&store, Invariant::TarSize);
        assert!(found.problem.contains(&format!(
            "layer.tar is {} bytes, expected {}",
            bad.len(),
            good.len()
        )));
    }
    fs::remove_file(&path).unwrap();
    assert!(left_alone(&store, Invariant::TarSize).problem.contains("layer.tar: it is missing"));
}

#[test]
fn an_index_that_is_damaged_or_gone_is_made_anew_with_the_same_bytes() {
    let store = with_child();
    let path = store.layer_dir("base/layer.erofs");
    let good = fs::read(&path).unwrap();
    flip(&path, good.len() as u64 / 2);
    assert_eq!(repaired(&store, Invariant::IndexDigest).id, Some(id("base")));
    assert!(fs::read(&path).unwrap() == good);
    fs::remove_file(&path).unwrap();
    assert!(repaired(&store, Invariant::IndexDigest).problem.contains("layer.erofs: it is missing"));
    assert!(fs::read(&path).unwrap() == good);
    store.verify(&id("child")).unwrap();
}

#[test]
fn an_index_is_not_made_of_a_damaged_tar() {
    let store = TestStore::with_base();
    flip(&store.layer_dir("base/layer.tar"), 3000);
    let path = store.layer_dir("base/layer.erofs");
    flip(&path, 3);
    let damaged = fs::read(&path).unwrap();
    let found = store.fsck(true).unwrap();
    assert!(found.len() == 1 && !found[0].repaired, "{found:?}");
    assert!(found[0].problem.contains("could not be repaired"), "{found:?}");
    assert!(fs::read(path).unwrap() == damaged);
}

/// The old index is from a version that wrote indexes differently; the record gets the digest of the new one.
#[test]
fn a_new_index_has_its_own_digest_in_the_record() {
    let store = TestStore::with_base();
    forge(&store, "base", |record| record.index = Some(Digest::of(b"an older index")));
    repaired(&store, Invariant::IndexDigest);
    let index = fs::read(store.layer_dir("base/layer.erofs")).unwrap();
    assert_eq!(store.record(&id("base")).unwrap().index, Some(Digest::of(&index)));
    store.verify(&id("base")).unwrap();
}

#[test]
fn a_merged_index_that_is_damaged_is_made_anew() {
    let store = with_child();
    store.view(&id("child")).unwrap();
    let path = store.layer_dir("child/chain.erofs");
    let good = fs::read(&path).unwrap();
    flip(&path, good.len() as u64 - 1);
    assert_eq!(repaired(&store, Invariant::ChainIndex).id, Some(id("child")));
    assert!(fs::read(&path).unwrap() == good);
}

/// Layers on top of a damaged one are not damaged.
#[test]
fn damage_to_a_parent_is_the_parents_finding_only() {
    let store = with_child();
    store.view(&id("child")).unwrap();
    for (file, invariant) in [
        ("layer.erofs", Invariant::IndexDigest),
        ("layer.json", Invariant::LayerRecord),
        ("layer.tar", Invariant::TarSize),
    ] {
        let path = store.layer_dir("base").join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, b"rotten").unwrap();
        assert_eq!(crate::finding(&store, invariant).id, Some(id("base")), "{file}");
        fs::write(&path, good).unwrap();
    }
    assert_eq!(store.fsck(false).unwrap(), []);
}
