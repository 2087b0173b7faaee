//! fsck finds one flipped bit anywhere in the store, and names the file.
//!
//! It tries every file, so a new kind of file without a checksum fails this. Two kinds are left out: files
//! without content, and the image of a sandbox, which changes as long as it lives (`sandboxes.rs` covers the
//! parts of it that can be checked).

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use windowsfilter::Driver;
use windowsfilter::fsck::Finding;

use crate::support::{TestStore, id};
use crate::{files, flip, with_child};

/// A store with every kind of file and, on Linux, `base` mounted.
fn store() -> TestStore {
    let store = with_child();
    store.own(&id("child"), "somebody").unwrap();
    store.view(&id("child")).unwrap();
    store.create(&id("empty"), Some(&id("child"))).unwrap();
    #[cfg(target_os = "linux")]
    {
        // Its template stays.
        store
            .create_read_write(&id("box"), None, windowsfilter::StorageOptions { size: Some(16 << 20) }, "")
            .unwrap();
        store.remove(&id("box")).unwrap();
        store.get(&id("base"), "").unwrap();
    }
    store
}

fn everything_found(store: &TestStore) -> Vec<Finding> {
    let mut found = store.fsck(false).unwrap();
    found.extend(store.verify_all(NonZeroUsize::MIN, &()).unwrap().findings);
    found
}

fn offsets(length: u64) -> Vec<u64> {
    let mut offsets: Vec<u64> = (0..30).map(|part| length * part / 30).collect();
    offsets.extend([1, length - 1]);
    offsets.retain(|offset| *offset < length);
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

#[test]
fn one_flipped_bit_of_any_file_is_found_and_the_file_is_named() {
    let store = store();
    assert_eq!(everything_found(&store), []);
    let mut kinds = Vec::new();
    // Skip mounted views: they show the layers' own files again.
    let is_a_view = |path: &Path| path.starts_with(store.root().join("mounts/base/image"));
    for path in files(store.root()).into_keys().filter(|path| !is_a_view(path)) {
        let length = fs::metadata(&path).unwrap().len();
        if length == 0 {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        for offset in offsets(length) {
            flip(&path, offset);
            let found = everything_found(&store);
            let is_named = found.iter().any(|finding| finding.problem.contains(&name));
            assert!(is_named, "{} at {offset}: {found:?}", path.display());
            flip(&path, offset);
        }
        kinds.push(name);
    }
    assert_eq!(everything_found(&store), []);
    kinds.sort();
    kinds.dedup();
    let mut expected =
        vec!["chain.erofs", "layer.erofs", "layer.json", "layer.tar", "layerchain.json", "owners.json"];
    if cfg!(target_os = "linux") {
        expected.extend(["sandbox-v1-16777216.img", "sandbox-v1-16777216.json", "state.json"]);
    }
    assert_eq!(kinds, expected);
    #[cfg(target_os = "linux")]
    store.put(&id("base")).unwrap();
}
