//! The cost that a container can cause a commit. Needs root to mount.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::{self, File};
use std::path::PathBuf;

use common::{Fixture, chain};
use windowsfilter::{LayerId, Limits};
use windowsfilter_image::{CommitOptions, Imported};

/// A sandbox of 64 MiB on an image, mounted until the test ends.
struct Mounted {
    fixture: Fixture,
    view: PathBuf,
}

fn sandbox() -> LayerId {
    LayerId::new("box").unwrap()
}

impl Mounted {
    fn new(limits: Limits) -> Self {
        let fixture = Fixture::new();
        let fixture = Fixture { store: fixture.store.with_limits(limits), dir: fixture.dir };
        let (.., view) = fixture.sandbox(64 << 20);
        Self { fixture, view }
    }

    /// An error with its causes, or what was committed.
    fn commit(&self) -> Result<Imported, String> {
        let options = CommitOptions::new("win:2".parse().unwrap());
        self.fixture.images().commit(&sandbox(), options).map_err(|error| chain(&error))
    }

    /// Checks that a refused commit left nothing, and the sandbox unchanged.
    fn assert_nothing_left(&self) {
        assert_eq!(self.fixture.images().list().unwrap().len(), 1);
        assert_eq!(self.fixture.store.layers().unwrap().len(), 3);
        assert_eq!(fs::read_dir(self.fixture.store.root().join("tmp")).unwrap().count(), 0);
        fs::write(self.view.join("still-writable"), "x").unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.fixture.store.unmount(&sandbox());
    }
}

#[test]
fn a_sparse_file_does_not_fill_the_stores_disk() {
    let mounted = Mounted::new(Limits::default());
    File::create(mounted.view.join("sparse")).unwrap().set_len(400 << 30).unwrap();
    let error = mounted.commit().unwrap_err();
    assert!(error.contains("\"sparse\"") && error.contains("size of the sandbox"), "{error}");
    mounted.assert_nothing_left();
    // A file no larger than the sandbox may be sparse.
    File::create(mounted.view.join("sparse")).unwrap().set_len(32 << 20).unwrap();
    mounted.commit().unwrap();
}

#[test]
fn the_largest_size_of_a_layer_holds_for_what_is_committed() {
    let mounted = Mounted::new(Limits { size: Some(1 << 20), entries: Some(100), ..Limits::default() });
    for n in 0..5 {
        fs::write(mounted.view.join(format!("{n}")), vec![7; 300_000]).unwrap();
    }
    let error = mounted.commit().unwrap_err();
    assert!(error.contains("\"3\"") && error.contains("more than 1048576 bytes (limit max-size)"), "{error}");
    mounted.assert_nothing_left();
    for n in 0..101 {
        fs::write(mounted.view.join(format!("{n}")), "").unwrap();
    }
    let error = mounted.commit().unwrap_err();
    assert!(error.contains("more than 100 entries (limit max-entries)"), "{error}");
    mounted.assert_nothing_left();
}

#[test]
fn attributes_that_say_nothing_of_windows_cost_nothing_and_do_not_come_along() {
    let mounted = Mounted::new(Limits::default());
    let value = vec![b'x'; 60_000];
    for n in 0..20 {
        let path = mounted.view.join(format!("{n:02}"));
        fs::write(&path, "").unwrap();
        for attribute in 0..100 {
            let name = format!("user.x{attribute}");
            rustix::fs::setxattr(&path, &name, &value, rustix::fs::XattrFlags::empty()).unwrap();
        }
    }
    // 120 MB of attributes, which ext4 keeps once.
    let committed = mounted.commit().unwrap();
    assert!(mounted.fixture.store.record(&committed.top).unwrap().tar_size < 100_000);
}
