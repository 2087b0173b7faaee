//! References to images, and paths inside them. A completed reference is complete; a node found by a path
//! is found again by its canonical path.
//!
//! An input is a reference, a NUL, and a path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use windowsfilter::Follow;
use windowsfilter_fuzz::sandbox::base;
use windowsfilter_image::Reference;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == 0).unwrap_or(input.len());
    let (reference, path) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    if let Ok(reference) = Reference::parse(&String::from_utf8_lossy(reference)) {
        let full = Reference::parse(reference.full()).expect("a full reference is one");
        assert_eq!(full.full(), reference.full());
        assert_eq!(full, reference);
    }
    let view = &base().view;
    for follow in [Follow::OnTheWay, Follow::Always] {
        if let Some(node) = view.lookup(path, follow).expect("an index that is whole") {
            let again = view.lookup(&node.view_path, Follow::OnTheWay).expect("an index that is whole");
            assert_eq!(again, Some(node));
        }
    }
    _ = view.lookup_tar_name(path).expect("an index that is whole");
});
