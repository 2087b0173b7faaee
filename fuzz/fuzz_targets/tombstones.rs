//! `tombstones.txt` and `layerchain.json`: parse, write, parse is parse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wclayer::{layer_chain, tombstones};

fuzz_target!(|input: &[u8]| {
    if let Ok(paths) = tombstones::parse(input)
        && let Ok(file) = tombstones::write(&paths)
    {
        assert_eq!(tombstones::parse(&file).expect("our own file"), paths);
    }
    if let Ok(chain) = layer_chain::parse(input) {
        assert_eq!(layer_chain::parse(&layer_chain::write(&chain)).expect("our own chain"), chain);
    }
});
