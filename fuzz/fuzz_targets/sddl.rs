//! SDDL text: parsed text is written as text with the same meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wclayer::security::SecurityDescriptor;

fuzz_target!(|input: &str| {
    let Ok(descriptor) = SecurityDescriptor::from_sddl(input) else { return };
    let text = descriptor.to_sddl().expect("a descriptor that came from text");
    assert_eq!(SecurityDescriptor::from_sddl(&text).expect("our own text"), descriptor);
});
