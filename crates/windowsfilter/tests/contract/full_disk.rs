//! A store whose disk is full.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use windowsfilter::{Driver, LayerStore};

use crate::SMALL;
use crate::support::{TestLayer, id};

/// A file system of 32 MiB. Unmounted with everything below it when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let mount = ["-t", "tmpfs", "-o", "size=32m", "tmpfs"];
        assert!(Command::new("mount").args(mount).arg(disk.0.path()).status().unwrap().success());
        disk
    }

    /// Fills the disk; returns the file that does so.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("full");
        fs::write(&path, vec![1; 64 << 20]).unwrap_err();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").args(["--recursive", "--lazy"]).arg(self.0.path()).status();
        assert!(std::thread::panicking() || unmounted.unwrap().success());
    }
}

#[test]
fn what_cannot_be_saved_is_said_before_a_sandbox_is_let_go() {
    let disk = Disk::new();
    let store = LayerStore::open(&disk.0.path().join("store"), SMALL).unwrap();
    store.apply_diff(&id("base"), None, &mut &TestLayer::base().tar()[..]).unwrap();
    store.create_read_write(&id("box"), Some(&id("base")), SMALL, "").unwrap();
    let view = store.get(&id("box"), "").unwrap();
    fs::write(view.join("saved"), "saved").unwrap();
    store.put(&id("box")).unwrap();

    store.get(&id("box"), "").unwrap();
    let full = disk.fill();
    fs::write(view.join("lost"), vec![1; 4 << 20]).unwrap();
    let error = store.put(&id("box")).unwrap_err();
    assert!(error.to_string().contains("cannot be saved"), "{error}");
    assert_eq!(store.mounts(&id("box")).unwrap().count, 1);
    assert_eq!(fs::read(view.join("lost")).unwrap().len(), 4 << 20, "until then it can be copied");

    // The disk may stay full: removing the sandbox makes room.
    store.put(&id("box")).unwrap();
    assert_eq!(store.mounts(&id("box")).unwrap().count, 0);
    fs::remove_file(full).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
    store.get(&id("box"), "").unwrap();
    assert_eq!(fs::read(view.join("saved")).unwrap(), b"saved");
    store.put(&id("box")).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
}
