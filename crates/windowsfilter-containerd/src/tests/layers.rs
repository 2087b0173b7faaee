//! Layer tars made in code.

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};

/// A layer with these files below `Files`.
pub(super) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let time = FileTime(132_444_736_001_234_567);
    let info = |attributes| FileInfo {
        attributes,
        creation_time: time,
        last_access_time: time,
        last_write_time: time,
        change_time: time,
    };
    let mut tar = Writer::new(Vec::new());
    let root = LayerEntry::new("Files", info(FILE_ATTRIBUTE_DIRECTORY));
    tar.write_file(&root, &mut std::io::empty()).unwrap();
    for (name, data) in files {
        let mut entry = LayerEntry::new(format!("Files/{name}"), info(FILE_ATTRIBUTE_ARCHIVE));
        entry.size = data.len() as u64;
        tar.write_file(&entry, &mut &**data).unwrap();
    }
    tar.finish().unwrap()
}

/// As [`layer`], compressed with gzip.
pub(super) fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    windowsfilter_image::Compression::Gzip.copy(&mut &*tar, &mut blob).unwrap();
    blob
}
