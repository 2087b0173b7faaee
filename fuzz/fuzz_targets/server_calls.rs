//! containerd's calls in any order, with restarts of the server between them: it does what a naive model
//! says, and its store is in order after each.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Bytes of calls that are made: a longer input only takes longer.
const CALLS: usize = 200;

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    windowsfilter_containerd::fuzzing::calls(&input[..input.len().min(CALLS)], dir.path());
});
