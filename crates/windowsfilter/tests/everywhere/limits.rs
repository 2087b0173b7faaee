//! The limits of layers: each accepts a layer that just fits, names the entry that exceeds it, and then
//! leaves nothing behind.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use wclayer::tar::{MAX_SPECIAL_SIZE, NewEntry, PaxRecords, Writer};
use windowsfilter::driver::Applied;
use windowsfilter::limits::Limit;
use windowsfilter::{Driver, Error, Follow, Limits, StorageOptions};

use crate::support::{TestLayer, id};

const MIB: usize = 1 << 20;

/// Applies a blob to a store of its own, and checks that a refused one leaves nothing.
fn apply(limits: Limits, blob: &mut (dyn Read + Send)) -> Result<Applied, Error> {
    let dir = tempfile::tempdir().unwrap();
    let store = windowsfilter::LayerStore::open(&dir.path().join("store"), StorageOptions::default());
    let store = store.unwrap().with_limits(limits);
    let applied = store.apply_diff(&id("l"), None, blob);
    if applied.is_err() {
        assert_eq!(files(&store.root().join("layers")), 0, "something of the layer is left");
        assert_eq!(files(&store.root().join("tmp")), 0, "a temporary file is left");
        assert_eq!(store.fsck(false).unwrap(), []);
    }
    applied
}

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// The limit that a blob exceeds, and the error message.
fn refused(limits: Limits, blob: &mut (dyn Read + Send)) -> (Limit, String) {
    let error = apply(limits, blob).map(drop).unwrap_err();
    let limit = error.exceeded().unwrap_or_else(|| panic!("{error:?}")).limit;
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let text = format!("{error}: {cause}");
    assert!(text.contains("layer l") && text.contains("at tar offset"), "{text}");
    assert!(text.contains(&format!("(limit {})", limit.name())), "{text}");
    (limit, text)
}

/// `Files` and `count` files in it.
fn layer(count: usize) -> Vec<u8> {
    (0..count).fold(TestLayer::new().dir("Files"), |tar, i| tar.file(format!("Files/{i}"), b"x")).tar()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn entries_are_limited() {
    let limits = Limits { entries: Some(4), ..Limits::default() };
    assert_eq!(apply(limits, &mut &layer(3)[..]).unwrap().entries, 4);
    let (limit, text) = refused(limits, &mut &layer(4)[..]);
    assert_eq!(limit, Limit::Entries);
    assert!(text.contains("\"Files/3\"") && text.contains("more than 4 entries"), "{text}");
}

#[test]
fn names_are_limited() {
    let limits = Limits { name: Some(60), ..Limits::default() };
    let named =
        |length: usize| TestLayer::new().dir("Files").file(format!("Files/{}", "n".repeat(length)), b"");
    apply(limits, &mut &named(54).tar()[..]).unwrap();
    let (limit, text) = refused(limits, &mut &named(55).tar()[..]);
    assert_eq!(limit, Limit::Name);
    assert!(text.contains("\"Files/nnn") && text.contains("61 bytes"), "{text}");
    let linked = named(3).link("Files/l", &format!("Files/{}", "t".repeat(55))).tar();
    assert_eq!(refused(limits, &mut &linked[..]).0, Limit::Name);
}

#[test]
fn a_path_of_ten_thousand_levels_is_refused_and_one_below_the_limit_is_not() {
    let deep =
        |levels: usize| TestLayer::new().file(format!("Files{}/f", "/d".repeat(levels - 2)), b"x").tar();
    apply(Limits::default(), &mut &deep(1024)[..]).unwrap();
    for levels in [1025, 10_000] {
        let (limit, text) = refused(Limits::default(), &mut &deep(levels)[..]);
        assert_eq!(limit, Limit::Depth);
        assert!(text.contains(&format!("{levels} components")), "{text}");
        assert!(text.len() < 2000, "a hostile name fills no screen");
    }
}

#[test]
fn who_lifts_the_limit_of_depth_can_use_what_came_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = windowsfilter::LayerStore::open(dir.path(), StorageOptions::default()).unwrap();
    let store = store.with_limits(Limits { depth: None, ..Limits::default() });
    let path = format!("Files{}/f", "/d".repeat(10_000));
    store.apply_diff(&id("deep"), None, &mut &TestLayer::new().file(&path, b"x").tar()[..]).unwrap();
    // Reading an imported layer again applies no limits.
    let view = store.view(&id("deep")).unwrap();
    assert!(view.lookup(&path.as_bytes()["Files/".len()..], Follow::OnTheWay).unwrap().is_some());
    let mut text = String::new();
    store.diff_getter(&id("deep")).unwrap().get(path.as_bytes()).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
    fs::remove_file(store.root().join("layers/deep/layer.erofs")).unwrap();
    store.fsck(true).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
}

/// A file with this record, in a minimal Windows layer.
fn with_record(value: &[u8]) -> Vec<u8> {
    let mut records = PaxRecords::default();
    records.insert(b"VENDOR.anything", value);
    let mut tar = Writer::new(Vec::new());
    tar.begin(&NewEntry {
        type_flag: b'0',
        name: b"Files/a",
        records: Some(&records),
        ..NewEntry::default()
    })
    .unwrap();
    tar.finish().unwrap()
}

#[test]
fn extended_headers_are_limited() {
    let limits = Limits { header: Some(1000), ..Limits::default() };
    apply(limits, &mut &with_record(&[b'v'; 900])[..]).unwrap();
    let (limit, text) = refused(limits, &mut &with_record(&[b'v'; 1000])[..]);
    assert_eq!(limit, Limit::Header);
    assert!(text.contains("PaxHeaders.0/a") && text.contains("1000 that are allowed"), "{text}");
    // Without the limit, Docker's own applies.
    let none = Limits { header: None, ..Limits::default() };
    let largest = MAX_SPECIAL_SIZE as usize - 100;
    apply(none, &mut &with_record(&vec![b'v'; largest])[..]).unwrap();
}

/// An extended header that claims 4 GiB, followed by endless data.
#[test]
fn a_pax_bomb_costs_no_memory_and_is_read_no_further() {
    let mut tar = with_record(b"v");
    tar.truncate(512);
    tar[124..136].copy_from_slice(b"40000000000\0");
    tar[148..156].fill(b' ');
    let sum: u32 = tar.iter().map(|&byte| u32::from(byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    struct Counted<'a, R>(R, &'a mut u64);
    impl<R: Read> Read for Counted<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            *self.1 += count as u64;
            Ok(count)
        }
    }
    let mut read = 0;
    let endless = (&tar[..]).chain(std::io::repeat(b'1'));
    let (limit, text) = refused(Limits::NONE, &mut Counted(endless, &mut read));
    assert_eq!(limit, Limit::Header);
    assert!(text.contains("4294967296 bytes"), "{text}");
    assert!(read < 32 << 20, "only the buffers of the threads were filled: {read}");
}

/// PAX headers full of records: 150,000 of them in each of 20 entries.
#[test]
fn many_records_are_many_records_and_no_more() {
    let mut header = Vec::new();
    for i in 0..70_000 {
        wclayer::tar::append_record(&mut header, format!("k{i:x}").as_bytes(), b"");
    }
    assert!(header.len() < MIB);
    let records: PaxRecords = (0..70_000)
        .map(|i| format!("k{i:x}"))
        .collect::<Vec<_>>()
        .iter()
        .map(|key| (key.as_bytes(), &b""[..]))
        .collect();
    let mut tar = Writer::new(Vec::new());
    for i in 0..20 {
        let name = format!("Files/{i}");
        let entry = NewEntry {
            type_flag: b'0',
            name: name.as_bytes(),
            records: Some(&records),
            ..NewEntry::default()
        };
        tar.begin(&entry).unwrap();
    }
    let applied = apply(Limits::default(), &mut &tar.finish().unwrap()[..]).unwrap();
    assert_eq!(applied.entries, 20);
}

#[test]
fn the_size_of_the_tar_is_limited_compressed_or_not_to_the_last_byte() {
    let tar = TestLayer::new().dir("Files").file("Files/a", &vec![7; 3 * MIB]).tar();
    let exact = Limits { size: Some(tar.len() as u64), ..Limits::default() };
    let short = Limits { size: Some(tar.len() as u64 - 1), ..Limits::default() };
    for blob in [tar.clone(), gzip(&tar), zstd::encode_all(&tar[..], 1).unwrap()] {
        apply(exact, &mut &blob[..]).unwrap();
        let (limit, text) = refused(short, &mut &blob[..]);
        assert_eq!(limit, Limit::Size);
        assert!(text.contains("\"Files/a\""), "{text}");
    }
    // Bytes behind the end of the archive are kept, so they count.
    let trailing = [&tar[..], &[0; 100]].concat();
    assert_eq!(refused(exact, &mut &trailing[..]).0, Limit::Size);
    // An endless blob is read up to the limit.
    let endless = &mut (&tar[..]).chain(std::io::repeat(0));
    assert_eq!(refused(Limits { size: Some(8 << 20), ..Limits::default() }, endless).0, Limit::Size);
}

/// A tar with one file of `mib` MiB of zeros, as gzip members or zstd frames of a MiB each, so that it is
/// cheap to make.
fn bomb(mib: usize, compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    tar.begin(&NewEntry { type_flag: b'5', name: b"Files/", ..NewEntry::default() }).unwrap();
    tar.begin(&NewEntry { type_flag: b'0', name: b"Files/zeros", size: MIB as u64, ..NewEntry::default() })
        .unwrap();
    tar.write_data(&vec![0; MIB]).unwrap();
    let mut bytes = tar.finish().unwrap();
    bytes.truncate(1024);
    let size = format!("{:011o}\0", mib * MIB);
    bytes[512 + 124..512 + 136].copy_from_slice(size.as_bytes());
    bytes[512 + 148..512 + 156].fill(b' ');
    let sum: u32 = bytes[512..].iter().map(|&byte| u32::from(byte)).sum();
    bytes[512 + 148..512 + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let member = compress(&vec![0; MIB]);
    [compress(&bytes), member.repeat(mib), compress(&[0; 1024])].concat()
}

#[test]
fn bombs_go_off_at_the_ratio_and_small_layers_of_zeros_pass() {
    let limits = Limits { ratio: Some(100), ratio_from: 16 << 20, ..Limits::default() };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    for (small, large) in [(bomb(15, gzip), bomb(200, gzip)), (bomb(15, zstd), bomb(200, zstd))] {
        assert_eq!(apply(limits, &mut &small[..]).unwrap().size, 15 << 20);
        let (limit, text) = refused(limits, &mut &large[..]);
        assert_eq!(limit, Limit::Ratio);
        assert!(text.contains("\"Files/zeros\"") && text.contains("more than 100 times"), "{text}");
        assert!(apply(Limits { ratio: None, ..limits }, &mut &large[..]).is_ok());
    }
    // Uncompressed, it is not a bomb.
    apply(limits, &mut &bomb(20, <[u8]>::to_vec)[..]).unwrap();
}
