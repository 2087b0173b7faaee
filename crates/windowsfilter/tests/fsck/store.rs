//! The invariants of the store as a whole.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use windowsfilter::fsck::Invariant;
use windowsfilter::{Driver, ErrorKind};

use crate::support::{TestLayer, TestStore, id};
use crate::{left_alone, repaired};

#[test]
fn interrupted_imports_and_removals_are_finished() {
    for name in ["x-importing", "y-removing", "y.1-removing"] {
        let store = TestStore::with_base();
        let dir = store.layer_dir(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("layer.tar"), "half").unwrap();
        let found = repaired(&store, Invariant::InterruptedWork);
        assert!(found.problem.contains(name), "{found:?}");
        assert!(!dir.exists());
        store.verify(&id("base")).unwrap();
    }
}

#[test]
fn temporary_files_of_the_dead_are_removed() {
    let store = TestStore::with_base();
    fs::write(store.root().join("tmp/half-written"), "half").unwrap();
    let found = repaired(&store, Invariant::TemporaryFiles);
    assert!(found.problem.contains("half-written"), "{found:?}");
}

#[test]
fn a_directory_of_mounts_that_nobody_has_is_removed() {
    let store = TestStore::with_base();
    fs::create_dir(store.root().join("mounts/base")).unwrap();
    let found = repaired(&store, Invariant::MountsInUse);
    assert_eq!(found.id, Some(id("base")));
    assert!(!store.root().join("mounts/base").exists());
}

#[test]
fn the_record_of_a_mount_that_is_damaged_counts_as_none() {
    let store = TestStore::with_base();
    let dir = store.root().join("mounts/base");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("state.json"), "{\"count\":1,").unwrap();
    let found = repaired(&store, Invariant::MountRecord);
    assert!(found.problem.contains("state.json"), "{found:?}");
    assert_eq!(store.mounts(&id("base")).unwrap().users(), 0);
}

#[test]
fn the_lock_of_a_layer_that_is_gone_is_removed() {
    let store = TestStore::with_base();
    fs::write(store.root().join("mounts/gone.lock"), b"").unwrap();
    let found = repaired(&store, Invariant::LocksOfLayers);
    assert!(found.problem.contains("gone.lock"), "{found:?}");
}

#[test]
fn what_is_no_layer_among_layers_is_named_and_left() {
    for name in ["notes", "a b", "con"] {
        let store = TestStore::with_base();
        if name == "notes" {
            fs::write(store.layer_dir(name), "mine").unwrap();
        } else if cfg!(unix) {
            fs::create_dir(store.layer_dir(name)).unwrap();
        } else {
            continue;
        }
        let found = left_alone(&store, Invariant::OnlyLayers);
        assert!(found.problem.contains(name), "{found:?}");
        assert!(store.layer_dir(name).exists());
        store.cleanup().unwrap();
        assert!(store.layer_dir(name).exists());
    }
}

/// Layers and sandboxes come, go and come again during the check.
#[test]
fn what_others_do_to_the_store_meanwhile_is_no_finding() {
    let store = TestStore::with_base();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                let store = &store;
                scope.spawn(move || {
                    for _ in 0..40 {
                        store
                            .apply_diff(&id(name), Some(&id("base")), &mut &TestLayer::base().tar()[..])
                            .unwrap();
                        // The check is reading its index at this moment.
                        while let Err(error) = store.remove(&id(name)) {
                            assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
                        }
                    }
                })
            })
            .into_iter()
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(store.fsck(false).unwrap(), []);
                assert_eq!(store.verify_all(NonZeroUsize::MIN, &()).unwrap().findings, []);
            }
        });
        for worker in workers {
            let done = worker.join();
            is_over.store(done.is_err(), Ordering::Relaxed);
            done.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.fsck(false).unwrap(), []);
}
