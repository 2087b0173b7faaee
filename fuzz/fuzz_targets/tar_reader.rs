//! The tar reader on any bytes: no panic, no more data than the source has, headers that stay where they say
//! they are.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use wclayer::tar::Reader;

fuzz_target!(|input: &[u8]| {
    let mut reader = Reader::new(input);
    let mut end = 0;
    while let Ok(Some(header)) = reader.next() {
        assert!(header.offset >= end, "entry at {} begins inside of the one before", header.offset);
        assert!(header.data_offset <= input.len() as u64);
        end = header.data_offset;
        // Sparse files may claim any length; reading their holes costs only time.
        let mut data = reader.data().take(1 << 20);
        if std::io::copy(&mut data, &mut std::io::sink()).is_err() {
            break;
        }
    }
    assert!(reader.position() <= input.len() as u64);
});
