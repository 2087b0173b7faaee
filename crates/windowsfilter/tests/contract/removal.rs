//! Layers can be removed despite the remains of earlier processes. Those that cannot be freed at once stay
//! visible until they are.

use std::fs::{self, File};
use std::io::Read;

use rustix::fs::IFlags;
use rustix::mount::{UnmountFlags, unmount};
use windowsfilter::driver::Presence;
use windowsfilter::{Driver, Error, StorageOptions};

use crate::SMALL;
use crate::support::{TestLayer, TestStore, id};

/// The mounts below the store.
fn mounts(store: &TestStore) -> Vec<String> {
    let table = String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned();
    let root = store.root().to_str().unwrap().to_owned();
    table.lines().filter(|line| line.contains(&root)).map(str::to_owned).collect()
}

/// In the original, a fixed name makes the second removal fail.
#[test]
fn a_layer_is_removed_although_earlier_removals_left_their_names() {
    let store = TestStore::with_base();
    for left in ["base-removing", "base.1-removing"] {
        fs::create_dir(store.layer_dir(left)).unwrap();
        fs::write(store.layer_dir(left).join("layer.tar"), "old").unwrap();
    }
    store.remove(&id("base")).unwrap();
    assert_eq!(store.exists(&id("base")).unwrap(), Presence::Absent);
    assert_eq!(store.fact("Pending removals"), "2");
    store.cleanup().unwrap();
    assert_eq!(fs::read_dir(store.root().join("layers")).unwrap().count(), 0);
}

/// The original forgets such a layer: its bytes stay, invisible, until some later shutdown.
#[test]
fn bytes_that_cannot_be_freed_are_pending_until_they_can_and_the_id_is_free_at_once() {
    let store = TestStore::with_base();
    let tar = File::open(store.layer_dir("base").join("layer.tar")).unwrap();
    let flags = rustix::fs::ioctl_getflags(&tar).unwrap();
    rustix::fs::ioctl_setflags(&tar, flags | IFlags::IMMUTABLE).unwrap();
    let removed = store.remove(&id("base"));
    store.cleanup().unwrap();
    let pending = (store.fact("Pending removals"), store.fact("Pending bytes") != "0");
    let found = store.fsck(true).unwrap();
    let again = store.apply_diff(&id("base"), None, &mut &TestLayer::base().tar()[..]);
    rustix::fs::ioctl_setflags(&tar, flags).unwrap();
    assert!(matches!(removed, Err(Error::Leftover { .. })), "{removed:?}");
    again.unwrap();
    assert_eq!(pending, ("1".to_owned(), true));
    assert!(
        found.len() == 1 && !found[0].repaired && found[0].problem.contains("base-removing"),
        "{found:?}"
    );
    store.cleanup().unwrap();
    assert_eq!((store.fact("Pending removals"), store.fsck(false).unwrap()), ("0".into(), vec![]));
    store.verify(&id("base")).unwrap();
}

#[test]
fn a_layer_whose_mounts_a_killed_process_left_is_removed() {
    let store = TestStore::with_base();
    store.create_read_write(&id("box"), Some(&id("base")), SMALL, "").unwrap();
    store.get(&id("box"), "").unwrap();
    // Killed after mounting and before the mount was counted.
    fs::remove_file(store.root().join("mounts/box/state.json")).unwrap();
    assert_eq!(store.fsck(false).unwrap().len(), 1);
    store.remove(&id("box")).unwrap();
    assert_eq!(mounts(&store), [""; 0]);
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn cleanup_takes_off_what_a_killed_process_left_mounted() {
    let store = TestStore::with_base();
    store.get(&id("base"), "").unwrap();
    fs::write(store.root().join("mounts/base/state.json"), "{\"count\":1,").unwrap();
    store.cleanup().unwrap();
    assert_eq!(mounts(&store), [""; 0]);
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn a_mount_that_somebody_took_off_counts_as_none_and_is_made_anew() {
    let store = TestStore::with_base();
    store.get(&id("base"), "").unwrap();
    store.get(&id("base"), "").unwrap();
    unmount(store.root().join("mounts/base/image"), UnmountFlags::empty()).unwrap();
    assert_eq!(store.mounts(&id("base")).unwrap().count, 0);
    let view = store.get(&id("base"), "").unwrap();
    assert_eq!(store.mounts(&id("base")).unwrap().path.as_deref(), Some(&*view));
    assert!(view.join("readme.txt").exists());
    store.put(&id("base")).unwrap();
    assert!(store.put(&id("base")).is_err());
}

#[test]
fn a_layer_whose_parent_is_gone_is_named_and_kept() {
    let store = TestStore::with_base();
    let tar = TestLayer::new().dir("Files").tar();
    store.apply_diff(&id("child"), Some(&id("base")), &mut &tar[..]).unwrap();
    fs::rename(store.layer_dir("base"), store.root().join("elsewhere")).unwrap();
    store.cleanup().unwrap();
    let found = store.fsck(true).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].id.as_ref(), found[0].repaired), (Some(&id("child")), false));
    assert!(found[0].problem.contains("its parent base is missing"), "{found:?}");
    fs::rename(store.root().join("elsewhere"), store.layer_dir("base")).unwrap();
    store.verify(&id("child")).unwrap();
}

/// A waiter for the sandbox's lock gets it as soon as the walk notices that its reader is gone.
#[test]
fn a_diff_given_up_half_way_leaves_no_file_no_mount_and_no_lock() {
    let store = TestStore::with_base();
    store
        .create_read_write(&id("box"), Some(&id("base")), StorageOptions { size: Some(128 << 20) }, "")
        .unwrap();
    let view = store.get(&id("box"), "").unwrap();
    fs::write(view.join("big"), vec![7; 16 << 20]).unwrap();
    let before = mounts(&store);
    let mut diff = store.diff(&id("box"), None).unwrap();
    diff.read_exact(&mut [0; 4096]).unwrap();
    drop(diff);
    store.get(&id("box"), "").unwrap();
    assert_eq!(mounts(&store), before);
    store.put(&id("box")).unwrap();
    store.put(&id("box")).unwrap();
    assert_eq!(mounts(&store), [""; 0]);
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    assert_eq!(store.fsck(false).unwrap(), []);
    store.remove(&id("box")).unwrap();
}

#[test]
fn a_view_that_cannot_be_mounted_leaves_nothing_mounted_and_nothing_counted() {
    let store = TestStore::with_base();
    store.create_read_write(&id("box"), Some(&id("base")), SMALL, "").unwrap();
    let image = store.layer_dir("box").join("sandbox.img");
    let tar = store.layer_dir("base").join("layer.tar");
    for file in [&image, &tar] {
        let aside = file.with_extension("aside");
        fs::rename(file, &aside).unwrap();
        store.get(&id("box"), "").unwrap_err();
        assert_eq!(mounts(&store), [""; 0], "{}", file.display());
        assert_eq!(store.mounts(&id("box")).unwrap().count, 0);
        fs::rename(&aside, file).unwrap();
    }
    store.get(&id("box"), "").unwrap();
    store.put(&id("box")).unwrap();
}
