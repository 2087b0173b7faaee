//! Images with consistent digests, so that their documents are accepted: such an image is imported and
//! exports as the same one, or leaves nothing.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use windowsfilter::{LayerStore, StorageOptions};
use windowsfilter_fuzz::files;
use windowsfilter_image::{
    Compression, ExportOptions, Format, ImageRecord, ImageStore, ImportOptions, Reference, Source,
};

const FORMATS: [Format; 2] = [Format::Oci, Format::DockerArchive];

fuzz_target!(|input: &[u8]| {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
    let files = files::read(input);
    let source = match files.iter().any(|file| file.path == "manifest.json") {
        true => Source::Stream(Box::new(Cursor::new(files::archive(&files)))),
        false => {
            let layout = dir.path().join("layout");
            files.iter().for_each(|file| file.make(&layout));
            Source::Path(layout)
        }
    };
    let layers = LayerStore::open(&dir.path().join("store"), StorageOptions::default()).expect("a store");
    let images = ImageStore::open(layers.clone()).expect("a store");
    if import(&images, source) {
        let records = names(&images);
        comes_out_again(&images, &records[0], dir.path());
        for record in &records {
            images.remove(&record.reference).expect("an image that nobody uses");
        }
    }
    assert_eq!(layers.layers().expect("a store"), []);
    assert_eq!(images.fsck(false).expect("a store"), []);
});

fn import(images: &ImageStore, path: Source<'_>) -> bool {
    let options = ImportOptions { force: true, ..ImportOptions::new(path) };
    images.import(options).is_ok()
}

fn comes_out_again(images: &ImageStore, record: &ImageRecord, dir: &Path) {
    let summaries = images.list().expect("a store");
    assert!(summaries.iter().all(|summary| summary.problem.is_none()), "{summaries:?}");
    images.inspect(&record.reference).expect("an image that was taken");
    assert_eq!(images.fsck(false).expect("a store"), []);
    // A name with a digest needs the same manifest, and `docker save` keeps none.
    let formats = if record.reference.contains('@') { &FORMATS[..1] } else { &FORMATS[..] };
    for (number, &format) in formats.iter().enumerate() {
        let out = dir.join(format!("out-{number}"));
        let options = ExportOptions {
            format,
            compression: Some(Compression::None),
            include_nondistributable: true,
            ..ExportOptions::default()
        };
        images.export(&record.reference, &out, &options).expect("an image that was taken");
        let layers = LayerStore::open(&dir.join(format!("again-{number}")), StorageOptions::default());
        let layers = layers.expect("an empty store");
        let again = ImageStore::open(layers.clone()).expect("an empty store");
        assert!(import(&again, Source::Path(out)), "an image that we wrote");
        let again = names(&again).remove(0);
        assert_eq!((again.image_id, &again.layers), (record.image_id, &record.layers));
        // Archives have the default tag if the name has none.
        let reference =
            |record: &ImageRecord| Reference::parse(&record.reference).expect("a name that was taken");
        assert_eq!(reference(&again), reference(record));
    }
}

/// The records of the only image, one for each of its names.
fn names(images: &ImageStore) -> Vec<ImageRecord> {
    let records = images.records().expect("a store");
    assert!(records.windows(2).all(|pair| pair[0].image_id == pair[1].image_id), "{records:?}");
    assert!(!records.is_empty());
    records
}
