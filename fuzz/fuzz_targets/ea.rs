//! Extended attribute lists: decode, encode, decode is decode.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wclayer::ea::{decode, encode};

fuzz_target!(|input: &[u8]| {
    let Ok(attributes) = decode(input) else { return };
    let bytes = encode(&attributes).expect("attributes that were decoded");
    assert_eq!(decode(&bytes).expect("our own list"), attributes);
});
