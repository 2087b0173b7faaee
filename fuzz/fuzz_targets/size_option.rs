//! Storage options: any text is a size or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use windowsfilter::StorageOptions;
use windowsfilter::options::parse_size;

fuzz_target!(|input: &str| {
    let size = parse_size(input).ok();
    let options = StorageOptions::parse([format!("size={input}").as_str()]);
    assert_eq!(options.is_ok(), size.is_some());
    if let Ok(options) = options {
        assert_eq!(options.size, size);
    }
});
