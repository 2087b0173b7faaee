//! Images as archives (OCI, `docker save`) and their documents: any bytes are an image or one error, and
//! never leave anything half done.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use windowsfilter::{LayerStore, StorageOptions};
use windowsfilter_image::{ImageStore, ImportOptions, Reference, Source};

fuzz_target!(|input: &[u8]| {
    let root = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let layers = LayerStore::open(root.path(), StorageOptions::default()).expect("an empty store");
    let images = ImageStore::open(layers.clone()).expect("an empty store");
    let options = ImportOptions {
        reference: Some(Reference::parse("fuzzed:latest").expect("a valid reference")),
        force: true,
        ..ImportOptions::new(Source::Stream(Box::new(Cursor::new(input))))
    };
    if images.import(options).is_err() {
        assert_eq!(layers.layers().expect("a store"), []);
    }
    assert_eq!(images.fsck(false).expect("a store"), []);
});
