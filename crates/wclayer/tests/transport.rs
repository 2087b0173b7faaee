//! Layers through a transport directory: tar to directory to tar.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

mod directories;
mod vectors;

use std::collections::BTreeMap;

use directories::InMemory;
use directories::on_disk::OnDisk;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use vectors::{Case, cases};
use wclayer::attributes::{
    FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT,
    FILE_ATTRIBUTE_SPARSE_FILE,
};
use wclayer::backup_stream::{SECURITY_DATA, STREAM_SPARSE_ATTRIBUTE};
use wclayer::ea::ExtendedAttribute;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{
    self, FileInfo, LayerEntry, LayerSink, LayerSource, LayerTarError, SourceItem, export, import,
};
use wclayer::tar::type_flag;
use wclayer::transport::{Deferred, Directory, Link, Reader, TransportError, Writer};
use wclayer::{backup_stream, tar};

fn to_directory<D: Directory>(tar: &[u8], directory: &mut D) -> Result<Deferred, LayerTarError> {
    let mut writer = Writer::new(directory);
    import(tar, &mut writer)?;
    Ok(writer.finish().unwrap())
}

fn to_tar<D: Directory>(directory: &D) -> Vec<u8> {
    let mut reader = Reader::new(directory).unwrap();
    export(&mut reader, layer_tar::Writer::new(Vec::new())).unwrap().0
}

/// Writes a tar to the directory and exports it again, without links to other layers.
fn through<D: Directory>(tar: &[u8], mut directory: D) -> Vec<u8> {
    let deferred = to_directory(tar, &mut directory).unwrap();
    deferred.store(&mut directory).unwrap();
    to_tar(&directory)
}

/// Type and bytes of each entry, by name. Streams belong to the entry before them.
fn entries(tar: &[u8]) -> BTreeMap<String, (u8, Vec<u8>)> {
    let mut reader = tar::Reader::new(tar);
    let mut starts = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        if !header.name.contains(&b':') {
            starts.push((header.offset as usize, String::from_utf8(header.name).unwrap(), header.type_flag));
        }
    }
    let end = tar.len() - 1024;
    let ends: Vec<usize> = starts.iter().skip(1).map(|(start, ..)| *start).chain([end]).collect();
    let all = starts.into_iter().zip(ends);
    all.map(|((start, name, flag), end)| (name, (flag, tar[start..end].to_vec()))).collect()
}

fn case(name: &str) -> Case {
    cases("backuptar").into_iter().find(|case| case.name == name).unwrap()
}

fn assert_transports(name: &str) {
    let case = case(name);
    let tar = case.read("in.tar");
    let first = through(&tar, InMemory::default());
    assert!(through(&tar, OnDisk::new()) == first, "{name}: memory and disk differ");
    assert!(through(&first, InMemory::default()) == first, "{name}: a second time changes something");
    assert!(through(&first, OnDisk::new()) == first, "{name}: a second time changes something");
    let (ours, mut reference) = (entries(&first), entries(&case.read("out.tar")));
    // These are made in the copy of the parent's utility VM, so they are not part of the directory.
    reference.retain(|path, _| !path.starts_with("UtilityVM/") || !path.contains("/.wh."));
    assert_eq!(ours.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>(), "{name}");
    // The order decides which name of a file is the file and which are links.
    let has_one_name = |path: &String| [&ours[path], &reference[path]].iter().all(|e| e.0 != type_flag::LINK);
    let files: Vec<&String> =
        ours.keys().filter(|path| path.starts_with("Files/") && has_one_name(path)).collect();
    assert!(files.len() > 5);
    for path in files {
        assert!(ours[path] == reference[path], "{name}: {path}");
    }
}

#[test]
fn a_base_layer_is_the_same_behind_a_transport_directory() {
    assert_transports("base-layer");
}

#[test]
fn a_diff_layer_is_the_same_behind_a_transport_directory() {
    assert_transports("diff-layer");
}

/// Every tar is stored or refused; and a stored one exports the same from then on.
#[test]
fn every_tar_is_stored_or_refused_with_the_reason() {
    let mut stored = 0;
    for case in cases("backuptar").iter().filter(|case| case.json["import"]["error"].is_null()) {
        let mut directory = InMemory::default();
        let tar = case.read("in.tar");
        match to_directory(&tar, &mut directory) {
            Ok(deferred) if deferred.store(&mut directory).is_ok() => {
                let mut reader = Reader::new(&directory).unwrap();
                // Files with a directory's attribute and data cannot be written to a tar.
                let Ok((first, _)) = export(&mut reader, layer_tar::Writer::new(Vec::new())) else {
                    continue;
                };
                // A file without a data record gets an empty one by passing through a tar.
                let second = through(&first, InMemory::default());
                assert!(through(&second, InMemory::default()) == second, "{}", case.name);
                stored += 1;
            }
            Ok(_) => {}
            Err(LayerTarError::Sink { source, .. }) => {
                let reason = source.get_ref().unwrap().downcast_ref::<TransportError>();
                assert!(reason.is_some(), "{}: {source}", case.name);
            }
            Err(error) => panic!("{}: {error}", case.name),
        }
    }
    assert!(stored > 30, "{stored}");
}

fn info(attributes: u32, time: u64) -> FileInfo {
    sample_images::small::info(attributes, FileTime(time))
}

#[test]
fn what_has_to_wait_for_the_import_is_handed_back() {
    let mut directory = InMemory::default();
    let deferred = to_directory(&case("diff-layer").read("in.tar"), &mut directory).unwrap();
    let paths = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(deferred.tombstones, paths(&["Files\\License.txt", "Files\\WINDOWS\\Temp\\old"]));
    assert_eq!(deferred.utility_vm_removals, paths(&["UtilityVM\\Files\\Windows\\gone.dll"]));
    let link = Link {
        path: b"Files\\app\\ntdll-copy.dll".to_vec(),
        target: b"Files\\Windows\\System32\\ntdll.dll".to_vec(),
        is_in_layer: false,
        later: None,
    };
    assert_eq!(deferred.links, std::slice::from_ref(&link));
    assert_eq!(deferred.store(&mut directory).unwrap(), [link], "a file of a parent cannot be linked here");
    let tombstones = directory.open(b"tombstones.txt").unwrap().into_inner();
    assert_eq!(tombstones, b"\xef\xbb\xbfVersion 1.0\r\n\\License.txt\r\n\\WINDOWS\\Temp\\old\r\n");
}

#[test]
fn a_file_is_its_attributes_and_its_backup_stream_and_a_directory_has_them_beside_it() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    writer.add(b"Files", &LayerEntry::new("Files", info(0x10, 1))).unwrap();
    writer.add(b"Files\\d", &LayerEntry::new("Files/d", info(0x12, 2))).unwrap();
    writer.write(b"of the directory").unwrap();
    writer.add(b"Files\\d\\f", &LayerEntry::new("Files/d/f", info(0x20, 3))).unwrap();
    writer.write(b"of the ").unwrap();
    writer.write(b"file").unwrap();
    writer.finish().unwrap();
    assert_eq!(directory.open(b"Files\\d.$wcidirs$").unwrap().into_inner(), b"\x12\0\0\0of the directory");
    assert_eq!(directory.open(b"Files\\d\\f").unwrap().into_inner(), b"\x20\0\0\0of the file");
    assert_eq!(directory.metadata(b"Files\\d\\f").unwrap().info.change_time, FileTime(3));
    assert!(directory.metadata(b"Files\\d").unwrap().is_directory);
}

#[test]
fn nothing_can_be_put_into_a_directory_that_is_a_reparse_point() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    writer.add(b"Files", &LayerEntry::new("Files", info(0x10, 1))).unwrap();
    let mut link = LayerEntry::new("Files/link", info(0x410, 1));
    link.reparse = Some(Vec::new());
    writer.add(b"Files\\link", &link).unwrap();
    writer.add(b"Files\\link\\x", &LayerEntry::new("Files/link/x", info(0x20, 1))).unwrap_err();
    writer.finish().unwrap();
    assert!(directory.metadata(b"Files\\link").unwrap().is_directory, "at the end it is there");
}

#[test]
fn paths_that_lead_out_of_a_layer_or_into_the_format_are_refused() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    writer.add(b"Files", &LayerEntry::new("Files", info(0x10, 1))).unwrap();
    for path in [
        "",
        "x",
        "..",
        "Files\\..",
        "Files\\..\\x",
        "files\\x",
        "\\Files\\x",
        "UtilityVM\\x",
        "C:\\x",
        "Files\\x.$wcidirs$",
        "tombstones.txt",
        "Hives\\..\\..\\x",
    ] {
        let error = writer.add(path.as_bytes(), &LayerEntry::new(path, info(0, 1))).unwrap_err();
        assert!(error.get_ref().unwrap().is::<TransportError>(), "{path}: {error}");
        let is_removed = writer.remove(path.as_bytes()).is_ok();
        assert_eq!(is_removed, path == "Files\\x.$wcidirs$", "{path}");
    }
    writer.add_link(b"Files\\a", b"Hives\\b").unwrap_err();
    writer.add_link(b"Hives\\a", b"Files\\b").unwrap_err();
}

#[test]
fn links_are_found_in_any_case_and_lead_to_the_file_as_it_is_spelled() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    writer.add(b"Files", &LayerEntry::new("Files", info(0x10, 1))).unwrap();
    writer.add(b"Files\\File", &LayerEntry::new("Files/File", info(0x20, 1))).unwrap();
    writer.add_link(b"Files\\link", b"Files\\FILE").unwrap();
    let deferred = writer.finish().unwrap();
    assert_eq!(deferred.links[0].target, b"Files\\File");
    assert_eq!(deferred.store(&mut directory).unwrap(), []);
    let mut reader = Reader::new(&directory).unwrap();
    let ids = std::iter::from_fn(|| reader.next_item().unwrap()).filter_map(|item| match item {
        SourceItem::File { path, link_id, .. } => link_id.map(|id| (path, id)),
        SourceItem::Tombstone { .. } => None,
    });
    let ids: Vec<_> = ids.collect();
    assert_eq!((ids.len(), ids[0].1), (2, ids[1].1));
}

#[test]
fn a_later_entry_takes_a_names_place_and_links_keep_what_they_had() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    let add = |writer: &mut Writer<'_, InMemory>, path: &str, attributes: u32, stream: &[u8]| {
        writer.add(path.as_bytes(), &LayerEntry::new(path, info(attributes, 1))).unwrap();
        writer.write(stream).unwrap();
    };
    for path in ["Files", "Files\\d", "Files\\D"] {
        add(&mut writer, path, 0x10, b"directory");
    }
    add(&mut writer, "Files\\x", 0x20, b"old");
    for (link, target) in [("one", "X"), ("two", "one"), ("late", "after"), ("to two", "two")] {
        writer.add_link(format!("Files\\{link}").as_bytes(), format!("Files\\{target}").as_bytes()).unwrap();
    }
    add(&mut writer, "Files\\X", 0x20, b"new");
    writer.add_link(b"Files\\of new", b"Files\\x").unwrap();
    add(&mut writer, "Files\\d\\in", 0x20, b"in d");
    writer.add_link(b"Files\\kept", b"Files\\d\\in").unwrap();
    writer.add_link(b"Files\\d\\gone", b"Files\\x").unwrap();
    add(&mut writer, "Files\\d", 0x20, b"file");
    add(&mut writer, "Files\\two", 0x20, b"no link");
    add(&mut writer, "Files\\after", 0x20, b"after");
    let deferred = writer.finish().unwrap();
    let stored =
        |path: &str| directory.open(path.as_bytes()).map(|file| file.into_inner()[4..].to_vec()).ok();
    for (path, content) in [
        ("one", "old"),
        ("X", "new"),
        ("kept", "in d"),
        ("d", "file"),
        ("two", "no link"),
        ("after", "after"),
    ] {
        assert_eq!(stored(&format!("Files\\{path}")), Some(content.into()), "{path}");
    }
    for gone in ["Files\\x", "Files\\d\\in", "Files\\d.$wcidirs$", "Files\\D.$wcidirs$"] {
        assert_eq!(stored(gone), None, "{gone}");
    }
    let link = |path: &str, target: &str, is_in_layer, later: Option<&str>| Link {
        path: format!("Files\\{path}").into(),
        target: format!("Files\\{target}").into(),
        is_in_layer,
        later: later.map(|later| format!("Files\\{later}").into()),
    };
    let links = [
        link("late", "after", false, Some("after")),
        link("to two", "one", true, None),
        link("of new", "X", true, None),
    ];
    assert_eq!(deferred.links, links);
    assert_eq!(deferred.added.is_directory(b"FILES\\D"), Some(false));
    assert_eq!(deferred.added.is_directory(b"Files\\d\\gone"), None);
}

#[test]
fn no_deletion_is_forgotten() {
    let mut directory = InMemory::default();
    let deferred = Deferred {
        tombstones: vec![b"Files\\not-here\\x".to_vec(), b"Files\\y".to_vec()],
        ..Deferred::default()
    };
    let mut writer = Writer::new(&mut directory);
    writer.add(b"Files", &LayerEntry::new("Files", info(0x10, 1))).unwrap();
    writer.finish().unwrap();
    deferred.store(&mut directory).unwrap();
    let mut reader = Reader::new(&directory).unwrap();
    let deleted: Vec<Vec<u8>> = std::iter::from_fn(|| reader.next_item().unwrap())
        .filter_map(|item| match item {
            SourceItem::Tombstone { path } => Some(path),
            SourceItem::File { .. } => None,
        })
        .collect();
    assert_eq!(deleted, [b"Files\\y".to_vec(), b"Files\\not-here\\x".to_vec()]);
}

#[test]
fn descriptors_of_hives_are_reported_as_lost() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    writer.add(b"Hives", &LayerEntry::new("Hives", info(0x10, 1))).unwrap();
    let mut hive = LayerEntry::new("Hives/System_Delta", info(0x20, 1));
    hive.security = Some(vec![1; 20]);
    writer.add(b"Hives\\System_Delta", &hive).unwrap();
    let losses = writer.finish().unwrap().losses;
    assert_eq!(losses.len(), 1);
    assert_eq!(losses[0].what, layer_tar::Lost::Record { id: SECURITY_DATA, size: 20 });
}

#[test]
fn a_sparse_file_has_the_size_of_its_blocks() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    writer.add(b"Files", &LayerEntry::new("Files", info(0x10, 1))).unwrap();
    writer.add(b"Files\\s", &LayerEntry::new("Files/s", info(0x220, 1))).unwrap();
    let mut stream = backup_stream::Writer::new(Vec::new());
    let block = |sparse_offset, size| backup_stream::StreamHeader {
        sparse_offset,
        ..backup_stream::StreamHeader::new(backup_stream::SPARSE_BLOCK, size)
    };
    let data = backup_stream::StreamHeader {
        attributes: STREAM_SPARSE_ATTRIBUTE,
        ..backup_stream::StreamHeader::new(backup_stream::DATA, 0)
    };
    stream.begin(&data).unwrap();
    stream.begin(&block(100, 3)).unwrap();
    stream.write_data(b"abc").unwrap();
    stream.begin(&block(200, 0)).unwrap();
    writer.write(&stream.finish().unwrap()).unwrap();
    writer.finish().unwrap().store(&mut directory).unwrap();
    for writer in [layer_tar::Writer::new(Vec::new()), layer_tar::Writer::extended(Vec::new())] {
        let mut reader = Reader::new(&directory).unwrap();
        let (tar, _) = export(&mut reader, writer).unwrap();
        let (header, data) = vectors::export::contents(&tar).pop().unwrap();
        assert_eq!((header.size, &data[99..104]), (200, &b"\0abc\0"[..]));
    }
}

#[test]
fn errors_name_the_file() {
    let mut directory = InMemory::default();
    let mut writer = Writer::new(&mut directory);
    let error =
        writer.add(b"Files\\no\\parent", &LayerEntry::new("Files/no/parent", info(0, 1))).unwrap_err();
    assert_eq!(error.to_string(), "\"Files\\\\no\\\\parent\": cannot make the file");
    assert!(error.get_ref().unwrap().source().is_some());
}

/// A file or directory below `Files`: its kind and its content.
#[derive(Clone, Debug)]
struct Item {
    info: FileInfo,
    security: Option<Vec<u8>>,
    eas: Vec<ExtendedAttribute>,
    data: Vec<u8>,
    streams: BTreeMap<String, Vec<u8>>,
}

/// Attributes that determine the kind of a file cannot be random.
const KINDS: u32 = FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT | FILE_ATTRIBUTE_SPARSE_FILE;

fn item() -> impl Strategy<Value = Item> {
    let ea = (any::<u8>(), vec(any::<u8>(), 1..20), vec(any::<u8>(), 0..30));
    let eas = vec(ea.prop_map(|(flags, name, value)| ExtendedAttribute { flags, name, value }), 0..3);
    let bytes = |most| vec(any::<u8>(), 0..most);
    let streams = btree_map("[a-z]{1,6}", bytes(40), 0..3);
    let security = proptest::option::of(vec(any::<u8>(), 1..60));
    (any::<u32>(), any::<[u64; 4]>(), security, eas, bytes(600), streams).prop_map(
        |(bits, times, security, eas, data, streams)| Item {
            info: FileInfo {
                attributes: bits & !KINDS | FILE_ATTRIBUTE_ARCHIVE,
                creation_time: FileTime(times[0]),
                last_access_time: FileTime(times[1]),
                last_write_time: FileTime(times[2]),
                change_time: FileTime(times[3]),
            },
            security,
            eas,
            data,
            streams,
        },
    )
}

fn write_item(writer: &mut layer_tar::Writer<Vec<u8>>, name: &str, item: &Item, is_directory: bool) {
    let mut info = item.info;
    if is_directory {
        info.attributes |= FILE_ATTRIBUTE_DIRECTORY;
    }
    let mut entry = LayerEntry::new(name, info);
    (entry.security, entry.eas) = (item.security.clone(), item.eas.clone());
    let data = if is_directory { &[][..] } else { &item.data };
    entry.size = data.len() as u64;
    writer.write_file(&entry, &mut &data[..]).unwrap();
    for (stream, content) in &item.streams {
        writer.write_stream(&entry, stream.as_bytes(), content.len() as u64, &mut &content[..]).unwrap();
    }
}

/// The entries of a tar by name; the bytes of streams.
fn contents(tar: &[u8]) -> BTreeMap<Vec<u8>, (Option<LayerEntry>, Vec<u8>)> {
    let mut reader = tar::Reader::new(tar);
    let mut contents = BTreeMap::new();
    while let Some(header) = reader.next().unwrap() {
        let data = tar[header.data_offset as usize..][..header.size as usize].to_vec();
        let is_stream = header.name.contains(&b':');
        let entry = LayerEntry { offset: 0, data_offset: 0, ..LayerEntry::from_header(&header).unwrap() };
        contents.insert(header.name, ((!is_stream).then_some(entry), data));
    }
    // The format does not store their times.
    contents.remove(&b"Files"[..]);
    contents
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_put_into_a_transport_directory_comes_out_the_same(
        folders in btree_map("[a-z]{1,8}", (item(), btree_map("[A-Z]{1,8}", item(), 0..4)), 0..4),
    ) {
        let mut writer = layer_tar::Writer::extended(Vec::new());
        let root = LayerEntry::new("Files", info(FILE_ATTRIBUTE_DIRECTORY, 1));
        writer.write_file(&root, &mut std::io::empty()).unwrap();
        for (folder, (item, files)) in &folders {
            write_item(&mut writer, &format!("Files/{folder}"), item, true);
            for (name, item) in files {
                write_item(&mut writer, &format!("Files/{folder}/{name}"), item, false);
            }
        }
        let tar = writer.finish().unwrap();
        let mut directory = InMemory::default();
        to_directory(&tar, &mut directory).unwrap().store(&mut directory).unwrap();
        let mut reader = Reader::new(&directory).unwrap();
        let (out, _) = export(&mut reader, layer_tar::Writer::extended(Vec::new())).unwrap();
        prop_assert_eq!(contents(&out), contents(&tar));
    }
}
