//! Layer tars made in code.

use sample_images::SmallLayer;

/// An entry of a layer; names are below `Files`.
pub(super) enum Item<'a> {
    File(&'a str, &'a [u8]),
    /// A hard link, and its target as the tar has it.
    Link(&'a str, &'a str),
}

/// A layer with these files below `Files`.
pub(super) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let items: Vec<Item<'_>> = files.iter().map(|(name, data)| Item::File(name, data)).collect();
    layer_of(&items)
}

/// A layer with these entries.
pub(super) fn layer_of(items: &[Item<'_>]) -> Vec<u8> {
    let files = SmallLayer::new().dir("Files");
    let layer = items.iter().fold(files, |layer, item| match item {
        Item::File(name, data) => layer.file(format!("Files/{name}"), data),
        Item::Link(name, target) => layer.link(&format!("Files/{name}"), target),
    });
    layer.tar()
}

/// Like [`layer`], compressed with gzip.
pub(super) fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    windowsfilter_image::Compression::Gzip.copy(&mut &*tar, &mut blob).unwrap();
    blob
}
