//! The store's own files with changed bytes, or truncated: `fsck` finds every change in a sealed record and
//! in a sandbox's superblock, and everything can still be listed and inspected, whatever the damage.
//!
//! An input is the number of a file, the length to truncate to, if smaller (three bytes), and changes: a
//! position (three bytes) and a value to combine with the byte there.
#![no_main]

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use windowsfilter::{Driver, LayerId, LayerStore, StorageOptions};
use windowsfilter_fuzz::sandbox::layer;

/// Layers of the store, each on top of the one before, and the sandbox.
const IDS: [&str; 3] = ["base", "top", "box"];
/// Their files, and the ranges of bytes in which any change is damage.
const FILES: [(&str, &str, Range<usize>); 7] = [
    ("base", "layer.json", 0..usize::MAX),
    ("top", "layer.json", 0..usize::MAX),
    ("top", "layerchain.json", 0..usize::MAX),
    ("box", "layer.json", 0..usize::MAX),
    ("box", "layerchain.json", 0..usize::MAX),
    ("box", "sandbox.img", 1024..2048),
    ("top", "owners.json", 0..0),
];

/// A store and its files' contents.
struct Good {
    root: tempfile::TempDir,
    store: LayerStore,
    files: Vec<Vec<u8>>,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let root = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
        let options = StorageOptions { size: Some(16 << 20), ..StorageOptions::default() };
        let store = LayerStore::open(root.path(), options).expect("an empty store");
        let [base, top, sandbox] = IDS.map(|id| LayerId::new(id).expect("a valid ID"));
        store.apply_diff(&base, None, &mut &layer()[..]).expect("a layer");
        store.apply_diff(&top, Some(&base), &mut &layer()[..]).expect("a layer");
        store.create_read_write(&sandbox, Some(&top), StorageOptions::default(), "").expect("a sandbox");
        let mut good = Good { root, store, files: Vec::new() };
        good.files = (0..FILES.len()).map(|file| fs::read(good.path(file)).unwrap_or_default()).collect();
        assert!(good.findings().is_empty(), "a new store is in order");
        good
    })
}

impl Good {
    fn path(&self, file: usize) -> PathBuf {
        let (id, name, _) = &FILES[file];
        self.root.path().join("layers").join(id).join(name)
    }

    fn findings(&self) -> Vec<windowsfilter::fsck::Finding> {
        self.store.fsck(false).expect("a store that can be listed")
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&file, input)) = input.split_first() else { return };
    let (good, file) = (good(), usize::from(file) % FILES.len());
    let (before, path) = (&good.files[file], good.path(file));
    let bytes = windowsfilter_fuzz::changed(before, input);
    fs::write(&path, &bytes).expect("room in memory");
    let findings = good.findings();
    for id in IDS.map(|id| LayerId::new(id).expect("a valid ID")) {
        _ = good.store.record(&id);
        _ = good.store.chain_ids(&id);
    }
    let guarded = |bytes: &[u8]| {
        let range = &FILES[file].2;
        bytes.get(range.start..range.end.min(bytes.len())).map(<[u8]>::to_vec)
    };
    if guarded(&bytes) != guarded(before) {
        assert!(!findings.is_empty(), "{} is damaged", path.display());
    }
    if before.is_empty() {
        fs::remove_file(&path).expect("a file");
    } else {
        fs::write(&path, before).expect("room in memory");
    }
});
