//! Everything that is written reads back, and no input does harm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod vectors;

use std::io::{self, Cursor, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use vectors::cases;
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::backup_stream::{self as backup, StreamHeader};
use wclayer::ea::ExtendedAttribute;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{
    BackupSource, EntryKind, FileInfo, LayerEntry, LayerSink, Writer as LayerWriter, import,
};
use wclayer::pax_time::PaxTime;
use wclayer::reparse::{self, ReparsePoint};
use wclayer::tar::{Header, NewEntry, PaxRecords, Reader, Writer, type_flag};

/// A name as a layer may have: some long, some not ASCII, some not even Unicode.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let element = prop_oneof![
        "[a-zA-Z0-9 ._-]{1,20}".prop_map(String::into_bytes),
        "[a-z]{60,130}".prop_map(String::into_bytes),
        "\\PC{1,8}".prop_map(String::into_bytes),
        vec(1u8.., 1..12),
    ];
    let is_element = |element: &Vec<u8>| !element.iter().any(|byte| b"/\\:\0".contains(byte));
    let element = element.prop_filter("an element of a path", is_element);
    vec(element, 1..5).prop_map(|elements| elements.join(&b'/'))
}

fn pax_time() -> impl Strategy<Value = PaxTime> {
    let secs = prop_oneof![-20_000_000_000i64..300_000_000_000, Just(0), Just(0o77_777_777_777)];
    (secs, prop_oneof![Just(0), 0u32..1_000_000_000]).prop_map(|(secs, nanos)| PaxTime { secs, nanos })
}

fn records() -> impl Strategy<Value = PaxRecords> {
    vec(("[A-Z]{1,5}\\.[a-z.]{1,90}", vec(any::<u8>(), 0..120)), 0..5)
        .prop_map(|records| records.iter().map(|(key, value)| (key.as_bytes(), &value[..])).collect())
}

/// A header as from the reader, without the fields that depend on its place.
fn header() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let kind = proptest::sample::select(b"01234567".to_vec());
    let owner = (prop_oneof![0i64..3000, any::<i64>()], prop_oneof![0i64..3000, any::<i64>()]);
    let text = prop_oneof![Just(String::new()), "[a-z]{1,40}", "\\PC{1,4}"];
    let times = (pax_time(), proptest::option::of(pax_time()), proptest::option::of(pax_time()));
    let numbers = (0i64..0o10_000_000, 0i64..0o10_000_000, 0i64..0o10_000_000);
    (
        kind,
        (name(), name()),
        owner,
        (text.clone(), text),
        times,
        numbers,
        records(),
        vec(any::<u8>(), 0..1500),
    )
        .prop_map(
            |(type_flag, (name, link_name), (uid, gid), (uname, gname), times, numbers, pax, data)| {
                let data = if (b'1'..=b'6').contains(&type_flag) { Vec::new() } else { data };
                let header = Header {
                    type_flag,
                    name,
                    link_name,
                    uid,
                    gid,
                    uname: uname.into_bytes(),
                    gname: gname.into_bytes(),
                    mtime: Some(times.0),
                    atime: times.1,
                    ctime: times.2,
                    mode: numbers.0,
                    dev_major: numbers.1,
                    dev_minor: numbers.2,
                    size: data.len() as u64,
                    stored_size: data.len() as u64,
                    pax,
                    ..Header::default()
                };
                (header, data)
            },
        )
}

/// A header without the parts that depend on its place and form: offsets, and the records that became fields.
fn content(header: Header) -> Header {
    let vendor = |key: &[u8]| key.contains(&b'.');
    let mut records: Vec<(Vec<u8>, Vec<u8>)> =
        header.pax.iter().filter(|(key, _)| vendor(key)).map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
    records.sort();
    let pax = records.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    Header { offset: 0, header_offset: 0, data_offset: 0, pax, ..header }
}

/// Failures become tests of their own, not files.
fn cases_of(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases_of(200))]

    #[test]
    fn tar_headers_and_data_read_back(entries in vec(header(), 0..6)) {
        let mut writer = Writer::new(Vec::new());
        for (header, data) in &entries {
            writer.begin(&NewEntry::from(header)).unwrap();
            writer.write_data(data).unwrap();
        }
        let tar = writer.finish().unwrap();
        let mut reader = Reader::new(&tar[..]);
        for (header, data) in entries {
            let read = reader.next().unwrap().unwrap();
            prop_assert_eq!(&tar[read.data_offset as usize..][..data.len()], &data[..]);
            prop_assert!(read.offset <= read.header_offset && read.header_offset < read.data_offset);
            let mut read_data = Vec::new();
            reader.data().read_to_end(&mut read_data).unwrap();
            prop_assert_eq!(read_data, data);
            prop_assert_eq!(content(read), content(header));
        }
        prop_assert_eq!(reader.next().unwrap(), None);
        prop_assert_eq!(reader.position(), tar.len() as u64);
    }
}

fn info() -> impl Strategy<Value = FileInfo> {
    // Without the directory bit, which the kind decides.
    let attributes = any::<u32>().prop_map(|bits| bits & !FILE_ATTRIBUTE_DIRECTORY);
    (attributes, any::<[u64; 4]>()).prop_map(|(attributes, times)| FileInfo {
        attributes,
        creation_time: FileTime(times[0]),
        last_access_time: FileTime(times[1]),
        last_write_time: FileTime(times[2]),
        change_time: FileTime(times[3]),
    })
}

fn attribute() -> impl Strategy<Value = ExtendedAttribute> {
    (prop_oneof![Just(0), any::<u8>()], vec(any::<u8>(), 0..30), vec(any::<u8>(), 0..50))
        .prop_map(|(flags, name, value)| ExtendedAttribute { flags, name, value })
}

fn reparse_buffer() -> impl Strategy<Value = Vec<u8>> {
    let link = "[a-zA-Z:. \\\\]{0,20}";
    prop_oneof![
        (link, any::<bool>()).prop_map(|(target, mount)| reparse::encode_go(target, mount).unwrap()),
        (link, link, any::<bool>()).prop_map(|(substitute, print, relative)| {
            let (substitute, print) = (substitute.into_bytes(), print.into_bytes());
            ReparsePoint::Symlink { substitute, print, relative }.encode().unwrap()
        }),
        vec(any::<u8>(), 0..40),
    ]
}

/// An entry as from a tar, and its data.
fn layer_entry() -> impl Strategy<Value = (LayerEntry, Vec<u8>)> {
    let is_plain = |name: &Vec<u8>| !name.rsplit(|&byte| byte == b'/').next().unwrap().starts_with(b".wh.");
    let name = name().prop_filter("no whiteout", is_plain);
    let security = proptest::option::of(vec(any::<u8>(), 1..80));
    let details = (security, vec(attribute(), 0..4), proptest::option::weighted(0.3, reparse_buffer()));
    (name, info(), any::<bool>(), details, vec(any::<u8>(), 0..700)).prop_map(
        |(name, mut info, is_directory, (security, eas, reparse), data)| {
            if is_directory {
                info.attributes |= FILE_ATTRIBUTE_DIRECTORY;
            }
            let mut entry = LayerEntry::new(name, info);
            (entry.security, entry.eas, entry.reparse) = (security, eas, reparse);
            let has_data = !is_directory && entry.reparse.is_none();
            let data = if has_data { data } else { Vec::new() };
            entry.size = data.len() as u64;
            (entry, data)
        },
    )
}

fn read_entries(tar: &[u8]) -> Vec<LayerEntry> {
    let mut reader = Reader::new(tar);
    std::iter::from_fn(|| reader.next().unwrap())
        .map(|header| LayerEntry::from_header(&header).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(cases_of(300))]

    #[test]
    fn layer_entries_read_back_from_an_extended_tar((entry, data) in layer_entry()) {
        let mut writer = LayerWriter::extended(Vec::new());
        writer.write_file(&entry, &mut &data[..]).unwrap();
        prop_assert_eq!(writer.losses(), []);
        let tar = writer.finish().unwrap();
        let read = read_entries(&tar).pop().unwrap();
        prop_assert_eq!(&tar[read.data_offset as usize..][..data.len()], &data[..]);
        // A link's header adds a reparse buffer.
        let is_link = matches!(read.kind, EntryKind::Symlink { .. });
        let (kind, type_flag) =
            if is_link { (read.kind.clone(), read.type_flag) } else { (entry.kind.clone(), entry.type_flag) };
        let placed = LayerEntry { kind, type_flag, offset: read.offset, data_offset: read.data_offset, ..entry };
        prop_assert_eq!(read, placed);
    }

    #[test]
    fn deletions_and_links_read_back(path in name(), target in name(), info in info()) {
        let mut writer = LayerWriter::new(Vec::new());
        writer.write_whiteout(&path).unwrap();
        writer.write_link(&LayerEntry::new(path.clone(), info), &target).unwrap();
        let read = read_entries(&writer.finish().unwrap());
        match &read[0].kind {
            EntryKind::Whiteout { target } => {
                // Importing cleans paths.
                if !path.split(|&byte| byte == b'/').any(|element| matches!(element, b"." | b"..")) {
                    prop_assert_eq!(target, &path);
                }
            }
            other => prop_assert!(false, "{:?}", other),
        }
        if !path.rsplit(|&byte| byte == b'/').next().unwrap().starts_with(b".wh.") {
            prop_assert_eq!(&read[1].kind, &EntryKind::Link { target });
            prop_assert_eq!(read[1].last_write_time, info.last_write_time);
        }
    }

    #[test]
    fn backup_streams_read_back(
        records in vec(
            (any::<u32>(), any::<u32>(), vec(any::<u16>(), 0..9), 0..i64::MAX as u64, vec(any::<u8>(), 0..90)),
            0..6,
        ),
    ) {
        let headers: Vec<(StreamHeader, Vec<u8>)> = records
            .into_iter()
            .map(|(id, attributes, name, position, data)| {
                // Half of the kinds are valid.
                let id = if id % 2 == 0 { id / 2 % 12 } else { id };
                let sparse_offset = if id == backup::SPARSE_BLOCK { position } else { 0 };
                let name = wclayer::name::from_utf16(&name);
                (StreamHeader { id, attributes, size: data.len() as u64, name, sparse_offset }, data)
            })
            .collect();
        let mut writer = backup::Writer::new(Vec::new());
        for (header, data) in &headers {
            writer.begin(header).unwrap();
            writer.write_data(data).unwrap();
        }
        let stream = writer.finish().unwrap();
        let mut reader = backup::Reader::new(&stream[..]);
        let mut seeking = backup::Reader::new(Cursor::new(&stream));
        for (header, data) in headers {
            prop_assert_eq!(reader.next().unwrap(), Some(header.clone()));
            prop_assert_eq!(reader.read_all(1000).unwrap(), data);
            prop_assert_eq!(seeking.next_by_seeking().unwrap(), Some(header));
        }
        prop_assert_eq!((reader.next().unwrap(), seeking.next_by_seeking().unwrap()), (None, None));
    }
}

/// Accepts everything up to a size: a hole of some exabytes is valid.
#[derive(Default)]
struct Bounded(usize);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > 4 << 20 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerSink for Bounded {
    fn remove(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn add_link(&mut self, _: &[u8], _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn add(&mut self, _: &[u8], _: &LayerEntry) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        self.write_all(stream)
    }
}

/// Damage to a file by bad disks or attackers.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Cut(Index),
    Repeat(Index, Index),
    /// Like [`Damage::Byte`], but with a corrected checksum, so that other checks meet the damage.
    HeaderByte(Index, usize, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        3 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => index().prop_map(Damage::Cut),
        1 => (index(), index()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        5 => (index(), 0usize..512, any::<u8>()).prop_map(|(block, at, byte)| Damage::HeaderByte(block, at, byte)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Repeat(from, to) => {
            let (a, b) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[a.min(b)..a.max(b)].to_vec();
            bytes.splice(a.min(b)..a.min(b), part);
        }
        Damage::HeaderByte(block, at, byte) => {
            let start = block.index(bytes.len()) / 512 * 512;
            let Some(header) = bytes.get_mut(start..start + 512) else { return };
            header[*at] = *byte;
            reseal(header);
        }
    }
}

/// Corrects the checksum of a header block.
fn reseal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

proptest! {
    #![proptest_config(cases_of(4000))]

    #[test]
    fn no_damage_to_a_tar_makes_reading_it_panic(case: Index, damages in vec(damage(), 1..4)) {
        static TARS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
            cases("backuptar").iter().map(|case| case.read("in.tar")).filter(|tar| tar.len() < 1 << 17).collect()
        });
        let mut tar = case.get(&TARS).clone();
        for damage in &damages {
            apply(&mut tar, damage);
        }
        let _ = import(&tar[..], &mut Bounded::default());
    }

    #[test]
    fn no_damage_to_a_backup_stream_makes_reading_it_panic(
        case: Index,
        damages in vec(damage(), 1..4),
        size in prop_oneof![Just(16), any::<u64>()],
    ) {
        static STREAMS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
            let cases = cases("backupstream");
            cases.iter().flat_map(|case| case.entries().iter().filter_map(|entry| case.stream(entry))).collect()
        });
        let mut stream = case.get(&STREAMS).clone();
        for damage in &damages {
            apply(&mut stream, damage);
        }
        for extended in [false, true] {
            let writer = || match extended {
                true => LayerWriter::extended(Bounded::default()),
                false => LayerWriter::new(Bounded::default()),
            };
            let info = FileInfo::default();
            let _ = writer().write_backup_stream(b"f", size, info, BackupSource::Seekable(&mut Cursor::new(&stream)));
            let _ = writer().write_backup_stream(b"f", size, info, BackupSource::Forward(&mut &stream[..]));
        }
    }

    #[test]
    fn any_bytes_are_a_tar_or_an_error(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = import(&bytes[..], &mut Bounded::default());
    }
}

/// Endless zeros; counts the bytes read.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'a');
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }
}

#[test]
fn sizes_that_are_only_claimed_cost_nothing() {
    // An extended header, a long name and a sparse map of 8 GiB each: refused before a byte of them is read.
    for type_flag in [b'x', b'g', b'L', b'K'] {
        let mut block = [0u8; 512];
        block[..4].copy_from_slice(b"name");
        block[124..136].copy_from_slice(b"77777777777\0");
        block[156] = type_flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let mut tar = block.to_vec();
        reseal(&mut tar);
        let mut reader = Reader::new(io::BufReader::new(tar.chain(Endless(0))));
        assert!(reader.next().is_err());
        assert_eq!(reader.position(), 512);
    }
}

#[test]
fn a_path_of_a_million_elements_is_an_entry_like_any_other() {
    // As deep as 1 MiB allows; nothing here may recurse.
    let name = b"d/".repeat(500_000);
    let name = &name[..name.len() - 1];
    let mut writer = Writer::new(Vec::new());
    writer.begin(&NewEntry { type_flag: type_flag::DIRECTORY, name, ..NewEntry::default() }).unwrap();
    let tar = writer.finish().unwrap();
    assert_eq!(read_entries(&tar)[0].name, name);
    let mut writer = LayerWriter::new(Vec::new());
    writer.write_whiteout(name).unwrap();
    let tar = writer.finish().unwrap();
    assert!(matches!(&read_entries(&tar)[0].kind, EntryKind::Whiteout { target } if target == name));
}

#[test]
fn an_extended_header_full_of_records_is_read_in_one_go() {
    // 100,000 different keys: comparing each with each would take minutes.
    let mut data = Vec::new();
    for i in 0..100_000 {
        wclayer::tar::append_record(&mut data, format!("{i:x}").as_bytes(), b"");
    }
    assert!(data.len() < 1 << 20);
    let mut writer = Writer::new(Vec::new());
    writer
        .begin(&NewEntry { type_flag: b'7', name: b"h", size: data.len() as u64, ..NewEntry::default() })
        .unwrap();
    writer.write_data(&data).unwrap();
    writer.begin(&NewEntry { name: b"file", ..NewEntry::default() }).unwrap();
    let mut tar = writer.finish().unwrap();
    tar[156] = b'x';
    reseal(&mut tar);
    let mut reader = Reader::new(&tar[..]);
    assert_eq!(reader.next().unwrap().unwrap().pax.len(), 100_000);
}
