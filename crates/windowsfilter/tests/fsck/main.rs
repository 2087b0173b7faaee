//! Breaks every invariant of the store, one at a time, and checks that fsck finds it by name. `--repair`
//! repairs those that it can, and loses nothing else. `docs/fsck.md` maps invariants to tests. Mounts and
//! sandboxes need Linux and root.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod bit_rot;
mod documented;
mod layers;
#[cfg(target_os = "linux")]
mod sandboxes;
mod store;
#[path = "../contract/support.rs"]
mod support;
mod verifying;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use support::{TestLayer, TestStore, id};
use windowsfilter::fsck::{Finding, Invariant};
use windowsfilter::{Digest, Driver};

/// With `child` on `base`.
pub(crate) fn with_child() -> TestStore {
    let store = TestStore::with_base();
    let tar = TestLayer::new().dir("Files").file("Files/x", b"x").tar();
    store.apply_diff(&id("child"), Some(&id("base")), &mut &tar[..]).unwrap();
    store
}

/// Every file below a directory, with its content's digest.
pub(crate) fn files(root: &Path) -> BTreeMap<PathBuf, Digest> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(dir) = directories.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let (digest, _) = Digest::of_reader(File::open(&path).unwrap()).unwrap();
                files.insert(path, digest);
            }
        }
    }
    files
}

/// Flips one bit of the byte at `offset`.
pub(crate) fn flip(path: &Path, offset: u64) {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    byte[0] ^= 1 << (offset % 8);
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&byte).unwrap();
}

/// The only finding of `fsck`; checks that it changes nothing.
pub(crate) fn finding(store: &TestStore, invariant: Invariant) -> Finding {
    let before = files(&store.root().join("layers"));
    let found = store.fsck(false).unwrap();
    assert_eq!(store.fsck(false).unwrap(), found);
    assert!(files(&store.root().join("layers")) == before, "looking has changed something");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].invariant, found[0].repaired), (invariant, false), "{found:?}");
    found.into_iter().next().unwrap()
}

/// `fsck` finds only this, and repairs it.
pub(crate) fn repaired(store: &TestStore, invariant: Invariant) -> Finding {
    let found = finding(store, invariant);
    assert_eq!(store.fsck(true).unwrap(), [Finding { repaired: true, ..found.clone() }]);
    assert_eq!(store.fsck(false).unwrap(), []);
    found
}

/// `fsck` finds only this, and leaves everything as it is.
pub(crate) fn left_alone(store: &TestStore, invariant: Invariant) -> Finding {
    let found = finding(store, invariant);
    let before = files(&store.root().join("layers"));
    assert_eq!(store.fsck(true).unwrap(), std::slice::from_ref(&found));
    assert!(files(&store.root().join("layers")) == before, "repair has changed what it cannot repair");
    found
}
