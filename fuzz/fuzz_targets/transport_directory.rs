//! The transport directory: a layer tar goes in and comes out again, and an untrusted directory is read or
//! refused.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use wclayer::layer_tar::{self, FileInfo};
use wclayer::transport::{Directory, Reader, Writer};

#[path = "../../crates/wclayer/tests/directories/mod.rs"]
#[allow(dead_code)]
mod directories;

use directories::InMemory;

fuzz_target!(|input: &[u8]| {
    through_a_directory(input);
    foreign_directory(input);
});

fn through_a_directory(tar: &[u8]) {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    if layer_tar::import(tar, &mut writer).is_err() {
        return;
    }
    let Ok(deferred) = writer.finish() else { return };
    if deferred.store(&mut directory).is_ok() {
        export(&directory);
    }
}

/// Interprets `input` as content of such a directory: deletions, a file's and a directory's metadata.
fn foreign_directory(input: &[u8]) {
    let (tombstones, stored) = input.split_at(input.len() / 3);
    let mut directory = InMemory::default();
    for path in [&b"Files"[..], b"Files\\d", b"Hives"] {
        directory.create_directory(path).expect("a new directory");
    }
    for (path, bytes) in [
        (&b"tombstones.txt"[..], tombstones),
        (b"Files\\f", stored),
        (b"Files\\d.$wcidirs$", stored),
        (b"Hives\\System_Delta", stored),
    ] {
        let mut file = directory.create(path, &FileInfo::default()).expect("a new file");
        file.write_all(bytes).expect("memory");
    }
    export(&directory);
}

fn export(directory: &InMemory) {
    let Ok(mut reader) = Reader::new(directory) else { return };
    let _ = layer_tar::export(&mut reader, layer_tar::Writer::new(std::io::sink()));
}
