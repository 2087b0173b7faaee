//! containerd's calls in any order, with restarts of the server in between: it matches a naive model, and
//! its store is consistent after each restart.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Most calls to make: a longer input only takes longer.
const CALLS: usize = 200;

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    windowsfilter_containerd::fuzzing::calls(&input[..input.len().min(CALLS)], dir.path());
});
