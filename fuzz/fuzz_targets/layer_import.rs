//! The whole import of a layer blob, compressed or not: what is refused leaves nothing; what is taken verifies, comes out as it came
//! in, and can be read as a view.
#![no_main]

use std::io::{Cursor, Read};

use libfuzzer_sys::fuzz_target;
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};

fuzz_target!(|input: &[u8]| {
    let root = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let store = LayerStore::open(root.path(), StorageOptions::default()).expect("an empty store");
    let id = LayerId::new("fuzzed").expect("a valid ID");
    let taken = store.apply_diff(&id, None, &mut Cursor::new(input)).is_ok();
    assert_eq!(store.contains(&id), taken);
    if taken {
        store.verify(&id).expect("what was just taken in");
        let mut tar = Vec::new();
        store.diff(&id, None).expect("its tar").read_to_end(&mut tar).expect("its tar");
        let compressed = input.starts_with(&[0x1f, 0x8b]) || input.get(1..4) == Some(&[0xb5, 0x2f, 0xfd]);
        assert!(compressed || tar == input || input.get(1..4) == Some(&[0x2a, 0x4d, 0x18]));
        let _ = store.changes(&id, None);
        let _ = store.view(&id);
        store.remove(&id).expect("a layer that nobody uses");
    }
    assert_eq!(store.fsck(false).expect("a store"), []);
});
