//! Self-relative security descriptors: parse, build, parse is parse; every parsed descriptor can be
//! inherited from and shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wclayer::security::{SecurityDescriptor, Sid};

fuzz_target!(|input: &[u8]| {
    let Ok(descriptor) = SecurityDescriptor::parse(input) else { return };
    if let Ok(bytes) = descriptor.to_bytes() {
        assert_eq!(SecurityDescriptor::parse(&bytes).expect("our own descriptor"), descriptor);
    }
    for is_directory in [false, true] {
        let child =
            SecurityDescriptor::inherit(&descriptor, is_directory, &Sid::SYSTEM, &Sid::ADMINISTRATORS);
        // Too many entries do not fit.
        if let Ok(bytes) = child.to_bytes() {
            assert_eq!(SecurityDescriptor::parse(&bytes).expect("our own descriptor"), child);
        }
    }
    if let Ok(text) = descriptor.to_sddl() {
        // Text cannot hold everything; what it holds must be stable.
        let read = SecurityDescriptor::from_sddl(&text).expect("our own text");
        assert_eq!(read.to_sddl().expect("text that was read"), text);
    }
});
