//! Snapshot records with changed bytes, or truncated: they are read unchanged, or refused.
//!
//! An input is the length to truncate to, if smaller (three bytes), and changes: a position (three bytes)
//! and a value to combine with the byte there.
#![no_main]

use std::fs;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use windowsfilter_containerd::fuzzing::{read_records, records};

fuzz_target!(|input: &[u8]| {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    let dir = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let path = dir.path().join("snapshots.redb");
    let good = GOOD.get_or_init(|| records(&path));
    let bytes = windowsfilter_fuzz::changed(good, input);
    fs::write(&path, &bytes).expect("room in memory");
    if let Some(keys) = read_records(&path) {
        let known = (0..5).map(|number| format!("default/{number}/key")).collect::<Vec<_>>();
        assert!(keys.iter().all(|key| known.contains(key)), "{keys:?}");
    }
});
