//! Remains of killed processes, and the calls that clean them up. `cargo xtask torture` has found each case.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use windowsfilter::{Driver, Error, StorageOptions};

use crate::support::{TestStore, id};

/// A store with the sandbox `box`.
fn store() -> TestStore {
    let store = TestStore::with_base();
    let small = StorageOptions { size: Some(16 << 20) };
    store.create_read_write(&id("box"), Some(&id("base")), small, "").unwrap();
    store
}

fn mounts(store: &TestStore) -> PathBuf {
    store.root().join("mounts")
}

fn succeeds(program: &str, argument: &str, path: &PathBuf) -> bool {
    Command::new(program).arg(argument).arg(path).output().unwrap().status.success()
}

#[test]
fn a_sandbox_that_a_dead_commit_left_frozen_goes_on_after_cleanup_mount_and_umount() {
    let store = store();
    let view = store.get(&id("box"), "").unwrap();
    let storage = mounts(&store).join("box/storage");
    let freeze = || assert!(succeeds("fsfreeze", "--freeze", &storage));
    let is_frozen = || succeeds("fsfreeze", "--unfreeze", &storage);
    freeze();
    store.cleanup().unwrap();
    assert!(!is_frozen());
    freeze();
    store.get(&id("box"), "").unwrap();
    assert!(!is_frozen());
    fs::write(view.join("after"), b"1").unwrap();
    store.put(&id("box")).unwrap();
    freeze();
    store.put(&id("box")).unwrap();
    // If it stayed frozen, it would stay attached and could not be mounted again.
    let view = store.get(&id("box"), "").unwrap();
    assert!(view.join("after").exists());
    store.put(&id("box")).unwrap();
}

#[test]
fn a_mount_at_a_directory_of_the_users_goes_with_the_mount_it_shows() {
    let store = store();
    let target = tempfile::tempdir().unwrap();
    store.mount(&id("box"), Some(target.path())).unwrap();
    assert!(target.path().join("readme.txt").exists());
    // Half unmounted, as by a killed process.
    assert!(succeeds("umount", "--no-canonicalize", &mounts(&store).join("box/view")));
    store.cleanup().unwrap();
    assert!(!target.path().join("readme.txt").exists());
    assert_eq!(store.fsck(false).unwrap(), []);
    store.remove(&id("box")).unwrap();
}

#[test]
fn another_file_system_at_a_recorded_directory_is_left_alone() {
    let store = store();
    let target = tempfile::tempdir().unwrap();
    store.mount(&id("box"), Some(target.path())).unwrap();
    assert!(succeeds("umount", "--no-canonicalize", &target.path().to_path_buf()));
    let other = ["-t", "tmpfs", "tmpfs"].map(str::to_owned);
    assert!(Command::new("mount").args(other).arg(target.path()).status().unwrap().success());
    fs::write(target.path().join("theirs"), b"1").unwrap();
    store.put(&id("box")).unwrap();
    assert!(target.path().join("theirs").exists());
    assert!(succeeds("umount", "--no-canonicalize", &target.path().to_path_buf()));
}

#[test]
fn the_lock_of_a_layer_that_is_gone_is_found_and_removed() {
    let store = store();
    let lock = mounts(&store).join("gone.lock");
    fs::write(&lock, b"").unwrap();
    let findings = store.fsck(false).unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].problem.contains("gone.lock"), "{findings:?}");
    store.cleanup().unwrap();
    assert!(!lock.exists());
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn unmounting_what_there_is_not_makes_no_lock() {
    let store = store();
    assert!(matches!(store.put(&id("none")), Err(Error::NoSuchLayer { .. })));
    assert!(matches!(store.expand(&id("none"), 1 << 30), Err(Error::NoSuchLayer { .. })));
    assert!(!mounts(&store).join("none.lock").exists());
}
