//! Layers for tests of the command.
#![allow(unreachable_pub, reason = "shared by test binaries")]

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};

fn entry(name: &str, attributes: u32, size: usize) -> LayerEntry {
    let time = FileTime(132_434_736_000_000_001);
    let info = FileInfo {
        attributes,
        creation_time: time,
        last_access_time: time,
        last_write_time: time,
        change_time: time,
    };
    LayerEntry { size: size as u64, ..LayerEntry::new(name, info) }
}

/// A layer of files in `C:\`, each with this content.
pub fn layer(names: &[&str], content: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.write_file(&entry("Files", FILE_ATTRIBUTE_DIRECTORY, 0), &mut std::io::empty()).unwrap();
    for name in names {
        let entry = entry(&format!("Files/{name}"), FILE_ATTRIBUTE_ARCHIVE, content.len());
        writer.write_file(&entry, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}
