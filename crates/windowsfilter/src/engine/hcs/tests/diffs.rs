//! Diff, changes, the size of a diff, single files.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use hcs::{Code, attribute};
use wclayer::attributes::FILE_ATTRIBUTE_ARCHIVE;
use wclayer::backup_stream::{self as backup, StreamHeader};
use wclayer::layer_tar::LayerEntry;
use wclayer::reparse::ReparsePoint;

use super::fake_tree::{info, put, stream};
use super::rebuild::rebuild;
use super::{Fixture, TestTar, chain, id, read_all};
use crate::driver::{Change, ChangeKind};
use crate::limits::Limit;
use crate::{Driver, Error, Limits};

/// A sandbox with changes.
fn changed() -> Fixture {
    let fixture = Fixture::with_sandbox();
    let dir = fixture.home().join("box");
    put(&fixture.host, &dir.join("Hives"), info(attribute::DIRECTORY), Vec::new());
    put(
        &fixture.host,
        &dir.join("Hives/System_Delta"),
        info(FILE_ATTRIBUTE_ARCHIVE),
        stream(backup::DATA, b"hive"),
    );
    put(&fixture.host, &dir.join("Files"), info(attribute::DIRECTORY), Vec::new());
    put(&fixture.host, &dir.join("Files/Windows"), info(attribute::DIRECTORY), Vec::new());
    put(
        &fixture.host,
        &dir.join("Files/Windows/new.exe"),
        info(FILE_ATTRIBUTE_ARCHIVE),
        stream(backup::DATA, b"MZ new"),
    );
    fixture.host.machine().tombstones = vec![("box".into(), r"Windows\notepad.exe".into())];
    fixture
}

/// The tar of the changes, as the original's tools write it.
fn expected() -> Vec<u8> {
    TestTar::new()
        .dir("Files")
        .dir("Files/Windows")
        .whiteout("Files/Windows/notepad.exe")
        .file("Files/Windows/new.exe", b"MZ new")
        .dir("Hives")
        .file("Hives/System_Delta", b"hive")
        .tar()
}

fn prepare() -> [String; 3] {
    [
        "NameToGuid(app)".into(),
        "NameToGuid(base)".into(),
        format!("PrepareLayer(1, ROOT/home, box, {})", chain()),
    ]
}

fn export() -> [String; 2] {
    [
        "ThreadPrivileges(SeBackupPrivilege)".into(),
        format!("ExportLayer(1, ROOT/home, box, TMP, {})", chain()),
    ]
}

#[test]
fn the_diff_of_a_mounted_sandbox_takes_the_filter_off_and_puts_it_on_again() {
    let fixture = changed();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.forget();
    let tar = read_all(fixture.store.diff(&id("box"), Some(&id("app"))).unwrap());
    assert!(tar == expected(), "another tar");
    let unprepare = "UnprepareLayer(1, ROOT/home, box)".to_owned();
    let guids = prepare()[..2].to_vec();
    let calls = [guids, vec![unprepare], export().to_vec(), prepare().to_vec()].concat();
    assert_eq!(fixture.host.service_calls(), calls);
    assert!(fixture.host.machine().prepared.contains("box"));
    assert!(fixture.leftovers().is_empty());
    fixture.store.put(&id("box")).unwrap();
}

#[test]
fn the_diff_of_another_sandbox_mounts_it_for_as_long() {
    let fixture = changed();
    let tar = read_all(fixture.store.diff(&id("box"), None).unwrap());
    assert!(tar == expected(), "another tar");
    let one = |call: &str| vec![call.to_owned()];
    let calls = [
        prepare()[..2].to_vec(),
        one("ActivateLayer(1, ROOT/home, box)"),
        prepare().to_vec(),
        one("UnprepareLayer(1, ROOT/home, box)"),
        export().to_vec(),
        one("DeactivateLayer(1, ROOT/home, box)"),
    ];
    assert_eq!(fixture.host.service_calls(), calls.concat());
    assert!(fixture.host.machine().active.is_empty() && fixture.host.machine().prepared.is_empty());
}

#[test]
fn a_diff_dropped_half_way_puts_the_filter_on_again() {
    let fixture = changed();
    let big = stream(backup::DATA, &vec![7; 4 << 20]);
    put(&fixture.host, &fixture.home().join("box/Files/big"), info(FILE_ATTRIBUTE_ARCHIVE), big);
    fixture.store.get(&id("box"), "").unwrap();
    let mut diff = fixture.store.diff(&id("box"), None).unwrap();
    diff.read_exact(&mut [0; 512]).unwrap();
    assert!(!fixture.host.machine().prepared.contains("box"));
    drop(diff);
    assert!(fixture.host.machine().prepared.contains("box"));
    assert_eq!(fixture.host.machine().privileges, 0);
    assert!(fixture.leftovers().is_empty());
    fixture.store.put(&id("box")).unwrap();
}

#[test]
fn a_diff_that_cannot_be_exported_says_so_and_puts_the_filter_on_again() {
    let fixture = changed();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.fail("ExportLayer", Code::DISK_FULL);
    let mut diff = fixture.store.diff(&id("box"), None).unwrap();
    let error = diff.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(
        error.contains("ExportLayer") && error.contains("layer box") && error.contains("0x70"),
        "{error}"
    );
    assert!(fixture.host.machine().prepared.contains("box"));
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn a_filter_that_cannot_be_put_on_again_is_said_to_the_reader() {
    let fixture = changed();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.fail("PrepareLayer", Code::ACCESS_DENIED);
    let mut diff = fixture.store.diff(&id("box"), None).unwrap();
    let error = diff.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("PrepareLayer") && error.contains("box"), "{error}");
}

/// A sandbox that was mounted once and that its last reader left without the filter.
fn without_filter() -> Fixture {
    let fixture = changed();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.fail("PrepareLayer", Code::ACCESS_DENIED);
    fixture.store.changes(&id("box")).unwrap_err();
    fixture.host.succeed();
    assert!(!fixture.host.machine().prepared.contains("box"));
    fixture
}

#[test]
fn a_sandbox_left_without_its_filter_has_it_after_the_next_get() {
    let fixture = without_filter();
    fixture.store.get(&id("box"), "").unwrap();
    assert!(fixture.host.machine().prepared.contains("box"));
    fixture.store.put(&id("box")).unwrap();
    fixture.store.put(&id("box")).unwrap();
    assert!(fixture.host.machine().active.is_empty());
}

#[test]
fn a_sandbox_left_without_its_filter_has_it_after_the_next_diff() {
    let fixture = without_filter();
    assert!(read_all(fixture.store.diff(&id("box"), None).unwrap()) == expected(), "another tar");
    assert!(fixture.host.machine().prepared.contains("box"));
    fixture.store.put(&id("box")).unwrap();
}

#[test]
fn a_sandbox_left_without_its_filter_can_be_put_and_removed() {
    let fixture = without_filter();
    fixture.store.put(&id("box")).unwrap();
    assert!(fixture.host.machine().active.is_empty());
    fixture.store.remove(&id("box")).unwrap();
}

#[test]
fn a_sandbox_that_could_not_be_put_on_again_at_all_can_be_put_and_removed() {
    let fixture = changed();
    fixture.store.get(&id("box"), "").unwrap();
    fixture.host.fail("PrepareLayer", Code::NOT_READY);
    fixture.host.fail_too("ActivateLayer", Code::ACCESS_DENIED);
    let error = super::failures::whole(&fixture.store.changes(&id("box")).unwrap_err());
    assert!(error.contains("PrepareLayer") && error.contains("ActivateLayer"), "{error}");
    fixture.host.succeed();
    // Its volume is gone, but its user has not put it back yet.
    assert_eq!(fixture.store.mounts(&id("box")).unwrap().count, 1);
    // The service's answer for a layer that is not active.
    fixture.host.fail("DeactivateLayer", Code::ELEMENT_NOT_FOUND);
    fixture.store.put(&id("box")).unwrap();
    fixture.host.succeed();
    fixture.store.remove(&id("box")).unwrap();
}

#[test]
fn a_sandbox_that_a_reader_who_died_has_left_active_is_taken_off_before_it_is_mounted() {
    let fixture = changed();
    fixture.host.fail("DeactivateLayer", Code::SHARING_VIOLATION);
    fixture.store.changes(&id("box")).unwrap_err();
    fixture.host.succeed();
    fixture.host.forget();
    fixture.store.get(&id("box"), "").unwrap();
    let calls = fixture.host.service_calls();
    let taken_off = ["UnprepareLayer(1, ROOT/home, box)", "DeactivateLayer(1, ROOT/home, box)"];
    assert_eq!(calls[..2], taken_off);
    assert_eq!(calls[2], "ActivateLayer(1, ROOT/home, box)");
}

#[test]
fn a_sandbox_that_cannot_be_taken_off_again_is_said() {
    let fixture = changed();
    fixture.host.fail("DeactivateLayer", Code::SHARING_VIOLATION);
    let mut diff = fixture.store.diff(&id("box"), None).unwrap();
    let read = diff.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    drop(diff);
    let listed = fixture.store.changes(&id("box")).unwrap_err().to_string();
    // For the second reader the layer is still active, so it first tries in vain to deactivate it.
    for (error, call) in [(read, "DeactivateLayer"), (listed, "ActivateLayer")] {
        assert!(error.contains(call) && error.contains("box") && error.contains("0x20"), "{error}");
    }
    fixture.host.succeed();
    fixture.store.changes(&id("box")).unwrap();
    assert!(fixture.host.machine().active.is_empty());
}

#[test]
fn nothing_is_unmounted_while_a_diff_is_read() {
    let fixture = changed();
    fixture.store.get(&id("box"), "").unwrap();
    let diff = fixture.store.diff(&id("box"), None).unwrap();
    let ended = std::thread::scope(|scope| {
        let put = scope.spawn(|| fixture.store.put(&id("box")));
        assert!(read_all(diff) == expected());
        put.join().unwrap()
    });
    ended.unwrap();
    assert!(fixture.host.machine().active.is_empty());
}

#[test]
fn changes_are_what_the_service_exports() {
    let fixture = changed();
    let change = |kind, path: &str| Change { path: path.as_bytes().to_vec(), kind };
    let changes = Driver::changes(&fixture.store, &id("box"), Some(&id("app"))).unwrap();
    assert_eq!(
        changes,
        [
            change(ChangeKind::Modify, "Files"),
            change(ChangeKind::Modify, "Files/Windows"),
            change(ChangeKind::Modify, "Files/Windows/new.exe"),
            change(ChangeKind::Delete, "Files/Windows/notepad.exe"),
            change(ChangeKind::Modify, "Hives"),
            change(ChangeKind::Modify, "Hives/System_Delta"),
        ]
    );
    let calls = fixture.host.service_calls();
    assert_eq!(calls[2], "ActivateLayer(1, ROOT/home, box)");
    assert_eq!(calls.last().unwrap(), "DeactivateLayer(1, ROOT/home, box)");
    assert_eq!(fixture.store.diff_size(&id("box"), None).unwrap(), (b"MZ new".len() + b"hive".len()) as u64);
    assert!(fixture.leftovers().is_empty());
}

#[test]
fn the_diff_of_a_base_layer_is_read_from_its_directory() {
    let fixture = Fixture::with_layers();
    let recycled = fixture.home().join("base/Files/$RECYCLE.BIN/x");
    put(&fixture.host, &recycled, info(FILE_ATTRIBUTE_ARCHIVE), stream(backup::DATA, b"x"));
    let tar = read_all(fixture.store.diff(&id("base"), None).unwrap());
    let expected = TestTar::new()
        .dir("Files")
        .dir("Files/Windows")
        .file("Files/Windows/notepad.exe", b"MZ notepad")
        .file("Files/readme.txt", b"read me")
        .dir("UtilityVM")
        .dir("UtilityVM/Files")
        .dir("UtilityVM/Files/EFI")
        .dir("UtilityVM/Files/EFI/Microsoft")
        .dir("UtilityVM/Files/EFI/Microsoft/Boot")
        .file("UtilityVM/Files/EFI/Microsoft/Boot/BCD", b"changed boot store")
        .file("UtilityVM/Files/kernel.exe", b"MZ kernel")
        .tar();
    assert!(tar == expected, "another tar");
    assert_eq!(
        fixture.host.calls(),
        [
            "ActivateLayer(1, ROOT/home, base)",
            "ThreadPrivileges(SeBackupPrivilege)",
            "open tree(ROOT/home/base)",
            "BackupRead(ROOT/home/base/Files)",
            "BackupRead(ROOT/home/base/Files/Windows)",
            "BackupRead(ROOT/home/base/Files/Windows/notepad.exe)",
            "BackupRead(ROOT/home/base/Files/readme.txt)",
            "BackupRead(ROOT/home/base/UtilityVM)",
            "BackupRead(ROOT/home/base/UtilityVM/Files)",
            "BackupRead(ROOT/home/base/UtilityVM/Files/EFI)",
            "BackupRead(ROOT/home/base/UtilityVM/Files/EFI/Microsoft)",
            "BackupRead(ROOT/home/base/UtilityVM/Files/EFI/Microsoft/Boot)",
            "BackupRead(ROOT/home/base/UtilityVM/Files/EFI/Microsoft/Boot/BCD)",
            "BackupRead(ROOT/home/base/UtilityVM/Files/kernel.exe)",
            "DeactivateLayer(1, ROOT/home, base)",
        ]
    );
}

#[test]
fn a_layer_goes_out_as_it_came_in() {
    let fixture = changed();
    let first = read_all(fixture.store.diff(&id("box"), None).unwrap());
    fixture.store.apply_diff(&id("layer"), Some(&id("app")), &mut &first[..]).unwrap();
    fixture.host.machine().tombstones = vec![("layer".into(), r"Windows\notepad.exe".into())];
    let second = read_all(fixture.store.diff(&id("layer"), None).unwrap());
    assert!(first == second, "another tar");
}

fn restored(records: &[(StreamHeader, &[u8])]) -> Vec<u8> {
    let mut writer = backup::Writer::new(Vec::new());
    for (header, data) in records {
        writer.begin(header).unwrap();
        writer.write_data(data).unwrap();
    }
    writer.finish().unwrap()
}

/// A sparse file of length `end` with three bytes of data.
fn sparse(end: u64) -> Vec<u8> {
    let attributes = backup::STREAM_SPARSE_ATTRIBUTE;
    let block =
        |sparse_offset, size| StreamHeader { sparse_offset, ..StreamHeader::new(backup::SPARSE_BLOCK, size) };
    restored(&[
        (StreamHeader { attributes, ..StreamHeader::new(backup::DATA, 0) }, b""),
        (block(1000, 3), b"abc"),
        (block(end, 0), b""),
    ])
}

/// The entries of a tar by name, with their data.
fn entries(tar: &[u8]) -> BTreeMap<String, (LayerEntry, Vec<u8>)> {
    let mut reader = wclayer::tar::Reader::new(tar);
    let mut entries = BTreeMap::new();
    while let Some(header) = reader.next().unwrap() {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).unwrap();
        let entry = LayerEntry::from_header(&header).unwrap();
        entries.insert(String::from_utf8_lossy(&header.name).into_owned(), (entry, data));
    }
    entries
}

/// Files that used to make the diff of a whole sandbox fail: a file with holes (moby issue 53464), a stream
/// with holes, a socket, links of WSL.
#[test]
fn files_with_holes_and_any_reparse_point_are_in_a_diff_and_come_back() {
    let fixture = changed();
    let dir = fixture.home().join("box/Files");
    let attributes = backup::STREAM_SPARSE_ATTRIBUTE;
    let stream_with_holes = restored(&[
        (StreamHeader::new(backup::DATA, 4), b"data"),
        (
            StreamHeader {
                attributes,
                name: b":holes:$DATA".to_vec(),
                ..StreamHeader::new(backup::ALTERNATE_DATA, 0)
            },
            b"",
        ),
        (StreamHeader { sparse_offset: 2000, ..StreamHeader::new(backup::SPARSE_BLOCK, 0) }, b""),
    ]);
    let point = |tag: u32, data: &[u8]| ReparsePoint::Other { tag, data: data.to_vec() }.encode().unwrap();
    let points = [
        ("socket", point(0x8000_0023, b"")),
        ("alias.exe", point(0x8000_001b, &[3; 50])),
        ("wsl", point(0xA000_001D, b"\x02\0\0\0../bin/sh")),
    ];
    put(&fixture.host, &dir.join("sparse"), info(FILE_ATTRIBUTE_ARCHIVE), sparse(5000));
    put(&fixture.host, &dir.join("empty"), info(FILE_ATTRIBUTE_ARCHIVE), sparse_empty());
    put(&fixture.host, &dir.join("streams"), info(FILE_ATTRIBUTE_ARCHIVE), stream_with_holes);
    for (name, buffer) in &points {
        let attributes = FILE_ATTRIBUTE_ARCHIVE | attribute::REPARSE_POINT;
        put(&fixture.host, &dir.join(name), info(attributes), stream(backup::REPARSE_DATA, buffer));
    }
    let tar = read_all(fixture.store.diff(&id("box"), None).unwrap());
    let entries = entries(&tar);
    let mut expected = vec![0; 5000];
    expected[1000..1003].copy_from_slice(b"abc");
    assert!(entries["Files/sparse"].1 == expected, "another file");
    assert_eq!(entries["Files/empty"].1, b"");
    assert_eq!(entries["Files/streams"].1, b"data");
    assert_eq!(entries["Files/streams:holes"].1, [0; 2000]);
    for (name, buffer) in &points {
        assert_eq!(entries[&format!("Files/{name}")].0.reparse.as_ref(), Some(buffer), "{name}");
    }
    assert!(fixture.leftovers().is_empty());
    // Imported as a layer, they stay the same.
    fixture.store.apply_diff(&id("layer"), Some(&id("app")), &mut &tar[..]).unwrap();
    fixture.host.machine().tombstones = vec![("layer".into(), r"Windows\notepad.exe".into())];
    let again = self::entries(&read_all(fixture.store.diff(&id("layer"), None).unwrap()));
    assert_eq!(again.keys().collect::<Vec<_>>(), entries.keys().collect::<Vec<_>>());
    for (name, (entry, data)) in &entries {
        let (entry_again, data_again) = &again[name];
        assert_eq!((&entry_again.reparse, data_again), (&entry.reparse, data), "{name}");
    }
}

/// A sparse file of length 0, as newer versions of Windows write it.
fn sparse_empty() -> Vec<u8> {
    let attributes = backup::STREAM_SPARSE_ATTRIBUTE;
    restored(&[
        (StreamHeader { attributes, ..StreamHeader::new(backup::DATA, 0) }, b""),
        (StreamHeader::new(backup::SPARSE_BLOCK, 0), b""),
    ])
}

/// The changes of the fixture's sandbox may have 127 GB plus a quarter; a file without blocks may claim any
/// size.
#[test]
fn a_diff_that_claims_more_than_the_sandbox_can_hold_ends_before_the_file_that_does() {
    let fixture = changed();
    let huge = fixture.home().join("box/Files/huge");
    put(&fixture.host, &huge, info(FILE_ATTRIBUTE_ARCHIVE), sparse(1 << 38));
    let mut diff = fixture.store.diff(&id("box"), None).unwrap();
    let mut read = Vec::new();
    let error = diff.read_to_end(&mut read).unwrap_err();
    drop(diff);
    assert!(read.len() < 1 << 20, "{}", read.len());
    let error = error.into_inner().unwrap().downcast::<Error>().unwrap();
    assert_eq!(error.exceeded().map(|exceeded| exceeded.limit), Some(Limit::Sandbox), "{error}");
    assert!(super::failures::whole(&error).contains("Files/huge"), "{error}");
    assert!(fixture.host.machine().active.is_empty() && fixture.leftovers().is_empty());
    // The size of a stream is known only when it is read.
    let attributes = backup::STREAM_SPARSE_ATTRIBUTE;
    let name = b":s:$DATA".to_vec();
    let stream = restored(&[
        (StreamHeader::new(backup::DATA, 4), b"data"),
        (StreamHeader { attributes, name, ..StreamHeader::new(backup::ALTERNATE_DATA, 0) }, b""),
        (StreamHeader { sparse_offset: 1 << 30, ..StreamHeader::new(backup::SPARSE_BLOCK, 0) }, b""),
    ]);
    std::fs::remove_file(&huge).unwrap();
    put(&fixture.host, &huge, info(FILE_ATTRIBUTE_ARCHIVE), stream);
    let limited = |limits: Limits| super::open(&fixture.home(), fixture.host.clone()).with_limits(limits);
    let limit = |error: &Error| error.exceeded().map(|exceeded| exceeded.limit);
    let store = limited(Limits { size: Some(1 << 20), ..Limits::NONE });
    let error = store.diff(&id("box"), None).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    let error = error.into_inner().unwrap().downcast::<Error>().unwrap();
    assert_eq!(limit(&error), Some(Limit::Size), "{error}");
    let store = limited(Limits { entries: Some(6), ..Limits::NONE });
    assert_eq!(limit(&store.changes(&id("box")).unwrap_err()), Some(Limit::Entries));
    assert_eq!(limit(&store.diff_size(&id("box"), None).unwrap_err()), Some(Limit::Entries));
    assert!(fixture.host.machine().active.is_empty() && fixture.leftovers().is_empty());
}

#[test]
fn an_empty_layer_is_an_empty_tar() {
    let fixture = Fixture::with_layers();
    fixture.store.create(&id("empty"), Some(&id("app"))).unwrap();
    fixture.host.forget();
    assert_eq!(read_all(fixture.store.diff(&id("empty"), None).unwrap()), [0; 1024]);
    assert_eq!(fixture.store.changes(&id("empty")).unwrap(), []);
    assert!(fixture.host.calls().is_empty());
}

#[test]
fn the_parent_of_a_diff_is_checked() {
    let fixture = changed();
    let wrong = fixture.store.diff(&id("box"), Some(&id("base")));
    assert!(matches!(wrong.err(), Some(Error::NotTheParent { .. })));
    assert!(fixture.host.calls().is_empty());
}

#[test]
fn tar_split_rebuilds_layers_and_their_alternate_streams_from_the_files() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/tar-split");
    // The other vectors have names that are invalid on Windows.
    for name in ["ads-small", "base-layer", "eof-trailing"] {
        let (fixture, case) = (Fixture::new(), vectors.join(name));
        let tar = std::fs::read(case.join("in.tar")).unwrap();
        fixture.store.apply_diff(&id("layer"), None, &mut &tar[..]).unwrap();
        let getter = fixture.store.diff_getter(&id("layer")).unwrap();
        let get = |file: &[u8]| getter.get(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(rebuild(&case, get) == tar, "{name}");
    }
}

#[test]
fn streams_of_files_directories_and_what_lies_in_upper_layers_are_opened_by_any_of_their_names() {
    let ads = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/tar-split/ads-small/in.tar");
    let tar = std::fs::read(ads).unwrap();
    let fixture = Fixture::with_layers();
    fixture.store.apply_diff(&id("ads"), Some(&id("base")), &mut &tar[..]).unwrap();
    fixture.host.forget();
    let getter = fixture.store.diff_getter(&id("ads")).unwrap();
    for name in ["Files/a.txt:one", r"Files\a.txt:ONE", "./Files/a.txt:one:$DATA"] {
        assert_eq!(read_all(getter.get(name.as_bytes()).unwrap()).len(), 1, "{name}");
    }
    assert_eq!(read_all(getter.get(b"Files/dir:dirstream").unwrap()).len(), 21);
    let calls = fixture.host.calls();
    assert_eq!(
        calls[..3],
        [
            "ThreadPrivileges(SeBackupPrivilege)",
            "open tree(ROOT/home/ads)",
            "open stream(ROOT/home/ads/Files/a.txt:one)"
        ]
    );
    assert_eq!(fixture.host.machine().privileges, 0);
}

#[test]
fn files_are_opened_with_the_backup_privilege_and_by_their_tar_names() {
    let fixture = Fixture::with_layers();
    let getter = fixture.store.diff_getter(&id("base")).unwrap();
    assert_eq!(read_all(getter.get(b"Files/Windows/notepad.exe").unwrap()), b"MZ notepad");
    assert_eq!(
        fixture.host.calls(),
        [
            "ThreadPrivileges(SeBackupPrivilege)",
            "open tree(ROOT/home/base)",
            "open sequential(ROOT/home/base/Files/Windows/notepad.exe)",
        ]
    );
    assert_eq!(fixture.host.machine().privileges, 0);
    for name in [
        "Files/none",
        "layer.json",
        "../app/Files/app.txt",
        "Files/a:b",
        "Files/readme.txt:none",
        "Files/readme.txt:a:b",
        "Files/readme.txt::$DATA",
        "Files/a\0b",
        "Files/../../app/Files/app.txt",
        // It has no copy.
        "UtilityVM/Files/EFI/Microsoft/Boot/BCD.LOG",
    ] {
        let error = getter.get(name.as_bytes()).err().unwrap();
        assert!(matches!(error, Error::NoSuchFile { .. }), "{name}: {error}");
    }
    fixture.host.fail("open sequential", Code::ACCESS_DENIED);
    let error = getter.get(b"Files/readme.txt").err().unwrap().to_string();
    assert!(error.contains("open sequential") && error.contains("base") && error.contains("0x5"), "{error}");
}
