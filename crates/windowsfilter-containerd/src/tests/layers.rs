//! Layer tars made in code.

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};

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
    let time = FileTime(132_444_736_001_234_567);
    let info = |attributes| FileInfo {
        attributes,
        creation_time: time,
        last_access_time: time,
        last_write_time: time,
        change_time: time,
    };
    let entry = |name: &str| LayerEntry::new(format!("Files/{name}"), info(FILE_ATTRIBUTE_ARCHIVE));
    let mut tar = Writer::new(Vec::new());
    let root = LayerEntry::new("Files", info(FILE_ATTRIBUTE_DIRECTORY));
    tar.write_file(&root, &mut std::io::empty()).unwrap();
    for item in items {
        match item {
            Item::File(name, data) => {
                let entry = LayerEntry { size: data.len() as u64, ..entry(name) };
                tar.write_file(&entry, &mut &**data).unwrap();
            }
            Item::Link(name, target) => tar.write_link(&entry(name), target.as_bytes()).unwrap(),
        }
    }
    tar.finish().unwrap()
}

/// As [`layer`], compressed with gzip.
pub(super) fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    windowsfilter_image::Compression::Gzip.copy(&mut &*tar, &mut blob).unwrap();
    blob
}
