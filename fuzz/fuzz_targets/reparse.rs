//! Reparse data: decode, encode, decode is decode, in ours and in the reference's way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wclayer::reparse::{ReparsePoint, decode_go, encode_go};

fuzz_target!(|input: &[u8]| {
    if let Ok(point) = ReparsePoint::decode(input)
        && let Ok(bytes) = point.encode()
    {
        assert_eq!(ReparsePoint::decode(&bytes).expect("our own data"), point);
    }
    let _ = decode_go(input);
    for is_mount_point in [false, true] {
        if let Ok(bytes) = encode_go(input, is_mount_point)
            && let Ok(target) = decode_go(&bytes)
        {
            assert_eq!(target.is_mount_point, is_mount_point);
        }
    }
});
