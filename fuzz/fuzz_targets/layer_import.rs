//! The whole import of layer blobs, compressed or not, each on top of the one before: a refused blob leaves
//! nothing; an accepted one verifies, exports unchanged, and is readable.
#![no_main]

use std::io::{Cursor, Read};

use libfuzzer_sys::fuzz_target;
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};
use windowsfilter_fuzz::view;

/// Separates two layers of an input.
const NEXT: &[u8] = b"=next layer=";
const MOST_LAYERS: usize = 4;

fuzz_target!(|input: &[u8]| {
    let root = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let store = LayerStore::open(root.path(), StorageOptions::default()).expect("an empty store");
    let mut chain: Vec<LayerId> = Vec::new();
    for (number, blob) in layers(input).into_iter().take(MOST_LAYERS).enumerate() {
        let id = LayerId::new(format!("fuzzed-{number}")).expect("a valid ID");
        if !take(&store, &id, chain.last(), blob) {
            break;
        }
        chain.push(id);
    }
    while let Some(id) = chain.pop() {
        store.remove(&id).expect("a layer that nobody uses");
    }
    assert_eq!(store.fsck(false).expect("a store"), []);
});

fn layers(input: &[u8]) -> Vec<&[u8]> {
    let mut layers = Vec::new();
    let mut rest = input;
    while let Some(end) = rest.windows(NEXT.len()).position(|window| window == NEXT) {
        layers.push(&rest[..end]);
        rest = &rest[end + NEXT.len()..];
    }
    layers.push(rest);
    layers
}

fn take(store: &LayerStore, id: &LayerId, parent: Option<&LayerId>, blob: &[u8]) -> bool {
    let taken = store.apply_diff(id, parent, &mut Cursor::new(blob)).is_ok();
    assert_eq!(store.contains(id), taken);
    if taken {
        store.verify(id).expect("what was just taken in");
        let mut tar = Vec::new();
        store.diff(id, None).expect("its tar").read_to_end(&mut tar).expect("its tar");
        let compressed = blob.starts_with(&[0x1f, 0x8b]) || blob.get(1..4) == Some(&[0xb5, 0x2f, 0xfd]);
        assert!(compressed || tar == blob || blob.get(1..4) == Some(&[0x2a, 0x4d, 0x18]));
        store.changes(id).expect("what its tar says");
        // Not every chain can be mounted: links without a target are refused then.
        if let Ok(view) = store.view(id) {
            view::read_everything(&view);
        }
    }
    taken
}
