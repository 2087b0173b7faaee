//! Reading and writing layer tars, compared with the reference: `vectors/backuptar/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod vectors;

use std::io;

use serde_json::Value;
use vectors::export::{self, ListSource};
use vectors::{Case, bytes, cases, imported_with_wrap};
use wclayer::backup_stream::{self, StreamHeader};
use wclayer::ea;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{
    EntryKind, Imported, LayerEntry, LayerSink, LayerTarError, backup_name, import, windows_path,
};
use wclayer::tar::Reader;

/// Records everything that an import hands over.
#[derive(Default)]
struct Recorder {
    handed: Vec<Handed>,
}

#[derive(Default)]
struct Handed {
    path: Vec<u8>,
    target: Option<Vec<u8>>,
    entry: Option<LayerEntry>,
    stream: Vec<u8>,
    kind: &'static str,
}

impl LayerSink for Recorder {
    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        self.handed.push(Handed { path: path.to_vec(), kind: "whiteout", ..Handed::default() });
        Ok(())
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let target = Some(target.to_vec());
        self.handed.push(Handed { path: path.to_vec(), target, kind: "link", ..Handed::default() });
        Ok(())
    }

    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()> {
        let (kind, target) = match &entry.kind {
            EntryKind::Symlink { target, .. } => ("symlink", Some(windows_path(target))),
            EntryKind::Directory => ("dir", None),
            EntryKind::File => ("file", None),
            other => panic!("{other:?} was added"),
        };
        let entry = Some(entry.clone());
        self.handed.push(Handed { path: path.to_vec(), target, entry, kind, ..Handed::default() });
        Ok(())
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        self.handed.last_mut().unwrap().stream.extend_from_slice(stream);
        Ok(())
    }
}

fn run_import(case: &Case) -> (Vec<Handed>, Result<Imported, LayerTarError>) {
    let mut recorder = Recorder::default();
    let tar = case.read("in.tar");
    let result = import(&tar[..], &mut recorder);
    (recorder.handed, result)
}

#[test]
fn every_tar_imports_to_the_same_entries_and_backup_streams() {
    for case in &cases("backuptar") {
        let (handed, result) = run_import(case);
        let error = &case.json["import"]["error"];
        match &result {
            Ok(imported) => {
                assert!(error.is_null(), "{}: the reference fails: {error}", case.name);
                let contiguous = handed.iter().filter(|ours| is_contiguous(case, ours));
                let more: u64 = contiguous.filter_map(|ours| Some(ours.entry.as_ref()?.size)).sum();
                assert_eq!(
                    Some(imported.total_size - more),
                    case.json["import"]["total_size"].as_u64(),
                    "{}",
                    case.name
                );
                assert_eq!(handed.len(), case.entries().len(), "{}", case.name);
                assert_eq!(imported.entries, handed.len() as u64);
            }
            Err(ours) => assert_same_failure(case, ours, handed.len()),
        }
        for (ours, entry) in handed.iter().zip(case.entries()) {
            assert_same_entry(case, ours, entry);
        }
    }
}

/// Checks that the same entry fails: the last one handed over, or one after it.
fn assert_same_failure(case: &Case, ours: &LayerTarError, handed: usize) {
    let name = &case.name;
    let error = &case.json["import"]["error"];
    assert!(!error.is_null(), "{name}: the reference does not fail, ours does: {ours}");
    let complete = case.entries().iter().filter(|entry| entry["complete"] == true).count();
    let in_entry = error["position"] == "in-entry";
    // Bad metadata fail before an entry is handed over, missing data after it.
    let is_missing_data = in_entry && error["source"] == "tar";
    assert_eq!(handed, complete + usize::from(is_missing_data), "{name}: {ours}");
    if in_entry {
        // Ours names the stream, too, if a stream of the entry fails.
        let (ours, theirs) = (ours.entry().unwrap(), error["entry"].as_str().unwrap());
        let stream = ours.strip_prefix(theirs).unwrap_or_else(|| panic!("{name}: {ours}, not {theirs}"));
        assert!(stream.is_empty() || stream.starts_with(':'), "{name}: {ours}, not {theirs}");
    }
}

fn assert_same_entry(case: &Case, ours: &Handed, entry: &Value) {
    let at = format!("{} entry {}", case.name, entry["index"]);
    assert_eq!(ours.kind, entry["kind"], "{at}");
    assert_eq!(ours.path, bytes(entry, "win_path"), "{at}");
    assert_eq!(ours.target.is_some(), entry["link_target"].is_string(), "{at}");
    if let Some(target) = &ours.target {
        assert_eq!(*target, bytes(entry, "link_target"), "{at}");
    }
    let Some(our_entry) = &ours.entry else { return };
    assert_eq!(our_entry.name, bytes(entry, "name"), "{at}");
    if is_contiguous(case, ours) {
        assert_eq!(
            (our_entry.type_flag, entry["typeflag"].as_str(), our_entry.size > 0),
            (b'0', Some("7"), true)
        );
        let is_data = |(header, _): &(StreamHeader, Vec<u8>)| header.id == backup_stream::DATA;
        let data = records(&ours.stream).into_iter().find(is_data).unwrap();
        assert_eq!(data.1.len() as u64, our_entry.size, "{at}");
        return;
    }
    assert_eq!(char::from(our_entry.type_flag).to_string(), entry["typeflag"], "{at}");
    assert_eq!(Some(our_entry.size), entry["size"].as_u64(), "{at}");
    assert_eq!(backup_name(&our_entry.name), entry["backup_as"].as_str(), "{at}");
    if let EntryKind::Symlink { mount_point, .. } = our_entry.kind {
        assert_eq!(mount_point, entry["is_mount_point"], "{at}");
    }
    let mut info = our_entry.info();
    if case.flag("wraps") {
        for time in [
            &mut info.creation_time,
            &mut info.last_access_time,
            &mut info.last_write_time,
            &mut info.change_time,
        ] {
            let (secs, nanos) = time.to_unix();
            *time = imported_with_wrap(secs, nanos);
        }
    }
    if (&*case.name, &*our_entry.name) != SATURATED {
        assert_eq!(info, vectors::info(entry), "{at}");
    }
    if entry["complete"] == true {
        assert_same_stream(case, &ours.stream, &case.stream(entry).unwrap(), &at);
    }
}

/// Files of type `7`, whose data the reference drops and ours keeps.
fn is_contiguous(case: &Case, ours: &Handed) -> bool {
    case.name == "other-types"
        && ours.entry.as_ref().is_some_and(|entry| entry.name.starts_with(b"Files/type-7"))
}

/// Times no FILETIME can hold: 2^63 seconds after 1970, and the like. Ours stops at the ends of the range.
const SATURATED: (&str, &[u8]) = ("times-wrapped", b"Files/seconds-int64-max");

fn assert_same_stream(case: &Case, ours: &[u8], reference: &[u8], at: &str) {
    if case.flag("ea_order") {
        assert_eq!(records(ours), records(reference), "{at}");
    } else {
        assert!(
            ours == reference,
            "{at}: backup streams differ: {:?} {:?}",
            records(ours),
            records(reference)
        );
    }
}

/// The records of a stream, extended attributes sorted by name.
fn records(stream: &[u8]) -> Vec<(StreamHeader, Vec<u8>)> {
    let mut reader = backup_stream::Reader::new(stream);
    let mut all = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let mut data = reader.read_all(u64::MAX).unwrap();
        if header.id == backup_stream::EA_DATA {
            let mut eas = ea::decode(&data).unwrap();
            eas.sort_by(|a, b| a.name.cmp(&b.name));
            data = ea::encode(&eas).unwrap();
        }
        all.push((header, data));
    }
    all
}

#[test]
fn times_outside_64_bits_of_nanoseconds_stay_exact() {
    let case = cases("backuptar").into_iter().find(|case| case.name == "times-wrapped").unwrap();
    let (handed, _) = run_import(&case);
    let entry = |name: &str| {
        let mut entries = handed.iter().filter_map(|handed| handed.entry.as_ref());
        entries.find(|entry| entry.name == name.as_bytes()).unwrap()
    };
    let time = |name: &str| entry(name).last_write_time;
    assert_eq!(time("Files/zero"), FileTime(0));
    assert_eq!(time("Files/one-tick"), FileTime(1));
    assert_eq!(time("Files/y1601-1s"), FileTime(10_000_000));
    assert_eq!(time("Files/y3000"), FileTime::from_unix(32_503_680_000, 0));
    assert_eq!(time("Files/y9999").to_unix().0, 253_402_300_799);
    let saturated = entry("Files/seconds-int64-max");
    assert_eq!((saturated.last_access_time, saturated.change_time), (FileTime(u64::MAX), FileTime(0)));
}

#[test]
fn every_layer_exports_to_the_same_bytes_or_fails_at_the_same_entry() {
    for case in cases("backuptar") {
        for expected in case.exports() {
            let seekable = expected["reader"] == "seekable";
            if !expected["error"].is_null() {
                let mut source = ListSource::new(export::all_items(&case), seekable);
                let (error, at) = export::run(&mut source).expect_err(&case.name);
                assert_eq!(Some(at as u64), expected["error"]["entry"].as_u64(), "{}: {error}", case.name);
                continue;
            }
            let file = expected["file"].as_str().unwrap();
            let mut source = ListSource::new(export::emitted_items(&case, expected), seekable);
            let (ours, _) =
                export::run(&mut source).unwrap_or_else(|(error, _)| panic!("{}: {error}", case.name));
            assert!(ours == case.read(file), "{}/{file} differs", case.name);
        }
    }
}

#[test]
fn a_reader_that_reads_no_data_sees_the_same_headers() {
    for case in cases("backuptar") {
        let tar = case.read("in.tar");
        let (mut reading, mut skipping) = (Reader::new(&tar[..]), Reader::new(&tar[..]));
        while let Ok(Some(header)) = reading.next() {
            assert_eq!(Some(header.clone()), skipping.next().unwrap(), "{}", case.name);
            if io::copy(&mut reading.data(), &mut io::sink()).is_err() {
                break;
            }
            if header.sparse.is_none() && header.stored_size > 0 {
                let start = header.data_offset as usize;
                assert!(tar.len() >= start + header.stored_size as usize, "{}: {header:?}", case.name);
            }
        }
    }
}
