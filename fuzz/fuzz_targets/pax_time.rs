//! PAX times: a parsed time formats as the same time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wclayer::pax_time::{format, parse};

fuzz_target!(|input: &[u8]| {
    let Ok(time) = parse(input) else { return };
    assert_eq!(parse(format(time).as_bytes()).expect("our own time"), time);
});
