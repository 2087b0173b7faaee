//! Beginnings, ends and damage of archives, the offsets of their parts, and writable entries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod vectors;

use std::io::{self, BufReader, Read};

use vectors::cases;
use wclayer::pax_time::PaxTime;
use wclayer::tar::{ArchiveEnd, Header, NewEntry, PaxRecords, Reader, TarError, Writer, type_flag};

fn tar(entries: &[(&NewEntry<'_>, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.begin(&NewEntry { size: data.len() as u64, ..**entry }).unwrap();
        writer.write_data(data).unwrap();
    }
    writer.finish().unwrap()
}

fn file(name: &[u8]) -> NewEntry<'_> {
    NewEntry { type_flag: type_flag::FILE, name, ..NewEntry::default() }
}

fn read_all(tar: &[u8]) -> (Vec<Header>, Result<ArchiveEnd, TarError>) {
    let mut reader = Reader::new(tar);
    let mut headers = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(header)) => headers.push(header),
            Ok(None) => return (headers, Ok(reader.end().unwrap())),
            Err(error) => return (headers, Err(error)),
        }
    }
}

#[test]
fn every_end_that_is_accepted_can_be_told_from_the_others() {
    let time = Some(PaxTime { secs: 1, nanos: 5 });
    let whole = tar(&[(&file(b"a"), b"12345"), (&NewEntry { mtime: time, ..file(b"b") }, b"")]);
    // Header, data; PAX header, records, header; end.
    assert_eq!(whole.len(), (2 + 3 + 2) * 512);
    for (length, entries, end) in [
        (whole.len(), 2, ArchiveEnd::Marked),
        (6 * 512, 2, ArchiveEnd::HalfMarked),
        (5 * 512, 2, ArchiveEnd::Unmarked),
        (2 * 512, 1, ArchiveEnd::Unmarked),
        (4 * 512, 1, ArchiveEnd::EntryMissing),
        (3 * 512 + 30, 1, ArchiveEnd::InPadding),
        (512 + 5, 1, ArchiveEnd::InPadding),
        (512 + 100, 1, ArchiveEnd::InPadding),
        (0, 0, ArchiveEnd::Unmarked),
    ] {
        let (headers, result) = read_all(&whole[..length]);
        assert_eq!((headers.len(), result.unwrap()), (entries, end), "{length}");
    }
}

#[test]
fn what_is_behind_the_end_is_not_read() {
    let mut bytes = tar(&[(&file(b"a"), b"x")]);
    let length = bytes.len();
    bytes.extend_from_slice(b"something else");
    let mut reader = Reader::new(&bytes[..]);
    while reader.next().unwrap().is_some() {}
    assert_eq!(reader.position(), length as u64);
    assert_eq!(reader.into_inner(), b"something else");
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let whole = tar(&[(&file(b"first"), b"12345"), (&file(b"second"), b"123")]);
    let error = |bytes: &[u8]| read_all(bytes).1.unwrap_err();
    let TarError::TruncatedData { entry, offset: 0, missing: 2 } = error(&whole[..512 + 3]) else { panic!() };
    assert_eq!(entry, "first");
    assert!(matches!(error(&whole[..1024 + 100]), TarError::TruncatedHeader { offset: 1024 }));
    let mut damaged = whole.clone();
    damaged[1024] ^= 1;
    assert!(matches!(error(&damaged), TarError::NoHeader { offset: 1024 }));
    damaged = whole.clone();
    damaged[5 * 512] = 1;
    assert!(matches!(error(&damaged), TarError::HalfAnEnd { offset: 2048 }));
    assert_eq!(
        error(&whole[..512 + 3]).to_string(),
        "entry \"first\" at tar offset 0x0: the tar ends 2 bytes before the end of its data"
    );
}

#[test]
fn nothing_is_read_on_after_an_error() {
    let mut bytes = tar(&[(&file(b"a"), b"12345"), (&file(b"b"), b"")]);
    bytes[1024] ^= 1;
    let mut reader = Reader::new(&bytes[..]);
    reader.next().unwrap();
    reader.next().unwrap_err();
    assert!(matches!(reader.next(), Err(TarError::Failed { .. })));
    let error = reader.data().read(&mut [0]).unwrap_err();
    assert!(matches!(error.get_ref().unwrap().downcast_ref(), Some(TarError::Failed { .. })));
}

/// Gives one byte at a time, and fails in between.
struct Trickle<'a>(&'a [u8], bool);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn a_source_that_gives_little_at_a_time_gives_the_same_archive() {
    for case in cases("backuptar").iter().filter(|case| case.name != "ads-large") {
        let bytes = case.read("in.tar");
        let slow = BufReader::with_capacity(7, Trickle(&bytes, false));
        let (mut slow, mut fast) = (Reader::new(slow), Reader::new(&bytes[..]));
        loop {
            let (slow_header, fast_header) = (slow.next(), fast.next());
            assert_eq!(format!("{slow_header:?}"), format!("{fast_header:?}"), "{}", case.name);
            let Ok(Some(_)) = slow_header else { break };
            let (mut slow_data, mut fast_data) = (Vec::new(), Vec::new());
            let results = (slow.data().read_to_end(&mut slow_data), fast.data().read_to_end(&mut fast_data));
            assert_eq!((results.0.is_ok(), slow_data), (results.1.is_ok(), fast_data), "{}", case.name);
        }
        assert_eq!((slow.end(), slow.position()), (fast.end(), fast.position()), "{}", case.name);
    }
}

#[test]
fn a_header_knows_where_all_of_its_entry_is() {
    let records = PaxRecords::from_iter([(&b"VENDOR.key"[..], &b"value"[..])]);
    let bytes = tar(&[(&file(b"a"), b"1"), (&NewEntry { records: Some(&records), ..file(b"b") }, b"22")]);
    let (headers, _) = read_all(&bytes);
    let places =
        |header: &Header| (header.offset, header.header_offset, header.data_offset, header.stored_size);
    assert_eq!(places(&headers[0]), (0, 0, 512, 1));
    assert_eq!(places(&headers[1]), (1024, 2048, 2560, 2));
    assert_eq!(headers[1].pax, records);
}

#[test]
fn the_data_of_a_sparse_file_is_where_its_map_says() {
    let case = cases("backuptar").into_iter().find(|case| case.name == "sparse-formats").unwrap();
    let bytes = case.read("in.tar");
    let mut reader = Reader::new(&bytes[..]);
    let mut sparse_files = 0;
    while let Some(header) = reader.next().unwrap() {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).unwrap();
        assert_eq!(data.len() as u64, header.size);
        let Some(map) = &header.sparse else { continue };
        sparse_files += 1;
        let mut expected = vec![0; data.len()];
        let mut stored = &bytes[header.data_offset as usize..][..header.stored_size as usize];
        for extent in map.extents() {
            let (part, rest) = stored.split_at(extent.length as usize);
            expected[extent.offset as usize..extent.end() as usize].copy_from_slice(part);
            stored = rest;
        }
        assert!(stored.is_empty() && map.stored_size() == header.stored_size);
        assert!(data == expected, "{}", String::from_utf8_lossy(&header.name));
    }
    assert_eq!(sparse_files, 5);
}

/// A sparse file in GNU tar's old format whose map has this many further blocks.
fn old_gnu_sparse(blocks: usize) -> Vec<u8> {
    let mut header = [0; 512];
    header[0] = b's';
    for (start, text) in
        [(100, "0000644"), (124, "00000000000"), (156, "S"), (257, "ustar  "), (483, "00000000000")]
    {
        header[start..start + text.len()].copy_from_slice(text.as_bytes());
    }
    header[482] = u8::from(blocks > 0);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = header.to_vec();
    for left in (0..blocks).rev() {
        let mut block = [0; 512];
        block[504] = u8::from(left > 0);
        tar.extend(block);
    }
    tar.extend([0; 1024]);
    tar
}

#[test]
fn a_map_of_a_mebibyte_of_further_blocks_is_one_too_many_as_for_go() {
    for blocks in [0, 1, 2047] {
        let tar = old_gnu_sparse(blocks);
        let header = Reader::new(&tar[..]).next().unwrap().unwrap();
        assert_eq!((header.sparse.is_some(), header.data_offset), (true, 512 * (1 + blocks as u64)));
    }
    let tar = old_gnu_sparse(2048);
    assert!(matches!(Reader::new(&tar[..]).next(), Err(TarError::SparseMap { problem: "too long", .. })));
}

#[test]
fn long_ascii_names_are_divided_only_where_the_header_block_says_everything() {
    let name = [&b"d".repeat(60)[..], b"/", &b"f".repeat(60)].concat();
    assert_eq!(tar(&[(&file(&name), b"")]).len(), 3 * 512, "one block and the end");
    let records = PaxRecords::from_iter([(&b"VENDOR.key"[..], &b"value"[..])]);
    let entry = NewEntry { records: Some(&records), ..file(&name) };
    let bytes = tar(&[(&entry, b"")]);
    assert_eq!(read_all(&bytes).0[0].pax.get(b"path"), Some(&name[..]));
}

#[test]
fn what_no_header_can_hold_is_refused_and_writes_nothing() {
    let bad_records = PaxRecords::from_iter([(&b"VENDOR.a\0b"[..], &b""[..])]);
    let long = vec![b'x'; 2 << 20];
    for entry in [
        NewEntry { mode: 1 << 21, ..file(b"a") },
        NewEntry { mode: -1, ..file(b"a") },
        NewEntry { size: u64::MAX, ..file(b"a") },
        NewEntry { records: Some(&bad_records), ..file(b"a") },
        NewEntry { type_flag: b'x', ..file(b"a") },
        file(b"a/"),
        file(b"nul\0"),
        file(&long),
    ] {
        let mut writer = Writer::new(Vec::new());
        assert!(matches!(writer.begin(&entry), Err(TarError::Unwritable { .. })), "{entry:?}");
        assert_eq!(writer.finish().unwrap().len(), 1024, "only the end");
    }
}

#[test]
fn data_has_to_be_as_long_as_its_header_says() {
    let mut writer = Writer::new(Vec::new());
    writer.begin(&NewEntry { size: 3, ..file(b"a") }).unwrap();
    assert!(matches!(writer.write_data(b"1234"), Err(TarError::DataTooLong { size: 3, .. })));
    writer.write_data(b"12").unwrap();
    assert!(matches!(writer.begin(&file(b"b")), Err(TarError::DataMissing { missing: 1, .. })));
    writer.write_data(b"3").unwrap();
    writer.begin(&file(b"b")).unwrap();
    let mut directory = Writer::new(Vec::new());
    directory.begin(&NewEntry { type_flag: type_flag::DIRECTORY, size: 3, ..file(b"d") }).unwrap();
    assert!(directory.write_data(b"1").is_err(), "a directory has no data, whatever its size");
}
