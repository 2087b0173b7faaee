//! Backup streams as from `BackupRead`, and broken ones, compared with the results of the reference:
//! `vectors/backupstream/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod vectors;

use serde_json::Value;
use vectors::export::{self, ListSource};
use vectors::{Case, bytes, cases};
use wclayer::backup_stream::{Reader, StreamHeader, Writer};
use wclayer::layer_tar::Lost;

/// Cases whose times the reference wraps and ours does not, as their description says.
const WRAPS: [&str; 1] = ["times"];

#[test]
fn every_layer_exports_to_the_same_bytes_or_fails_at_the_same_entry() {
    let mut mended = 0;
    for case in cases("backupstream") {
        for recorded in case.exports() {
            let seekable = recorded["reader"] == "seekable";
            let expected = match seekable && stops_at_blocks(recorded) {
                true => case.exports().iter().find(|export| export["reader"] != "seekable").unwrap(),
                false => recorded,
            };
            mended += u32::from(expected != recorded);
            let at = format!("{}, seekable: {seekable}", case.name);
            let mut source = ListSource::new(export::all_items(&case), seekable);
            let items = source.items.len();
            let result = export::run(&mut source);
            match expected["file"].as_str() {
                Some(file) => {
                    let (ours, _) = result.unwrap_or_else(|(error, _)| panic!("{at}: {error}"));
                    assert_same_tar(&case, file, &ours);
                }
                None => {
                    let (error, failed_at) = result.expect_err(&at);
                    // No entry means the end.
                    let entry = expected["error"]["entry"].as_u64().map_or(items, |entry| entry as usize);
                    assert_eq!(failed_at, entry, "{at}: {error}");
                }
            }
        }
    }
    assert!(mended >= 6, "{mended}");
}

/// The recorded version of go-winio refuses sparse blocks in a source that can be read twice. Its pull
/// request 375 accepts them there as well.
fn stops_at_blocks(recorded: &Value) -> bool {
    recorded["error"]["text"].as_str().is_some_and(|text| text.contains("unknown stream ID 9"))
}

fn assert_same_tar(case: &Case, file: &str, ours: &[u8]) {
    let reference = case.read(file);
    if !WRAPS.contains(&&*case.name) {
        assert!(ours == reference, "{}/{file} differs", case.name);
        return;
    }
    assert!(ours != reference, "{} does not wrap any more", case.name);
    let wrapped = export::assert_same_but_for_wrapped_times(&case.name, ours, &reference);
    assert!(wrapped > 0, "{}: same contents, other bytes", case.name);
}

/// The records of a stream according to the case, or those before the damage.
fn stated_records(case: &Case, entry: &Value) -> Vec<(u32, u32, u64, Vec<u8>)> {
    let records = entry["stream"]["records"].as_array().into_iter().flatten();
    records
        .map(|record| {
            let number =
                |field: &str| record[field].as_u64().unwrap_or_else(|| panic!("{}: {record}", case.name));
            let has_name = record["name"].is_string();
            let name = if has_name { bytes(record, "name") } else { Vec::new() };
            (number("id") as u32, number("attributes") as u32, number("size"), name)
        })
        .collect()
}

#[test]
fn every_stream_has_the_records_that_its_case_states() {
    for case in cases("backupstream").into_iter().chain(cases("backuptar")) {
        for entry in case.entries() {
            let Some(stream) = case.stream(entry) else { continue };
            let mut reader = Reader::new(&stream[..]);
            let mut records = Vec::new();
            let complete = loop {
                match reader.next() {
                    Ok(Some(StreamHeader { id, attributes, size, mut name, .. })) => {
                        // The reference cuts a name at a NUL.
                        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
                        records.push((id, attributes, size, name));
                    }
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            let stated = stated_records(&case, entry);
            let at = format!("{} entry {}", case.name, entry["index"]);
            if complete {
                assert_eq!(records, stated, "{at}");
            } else {
                assert!(
                    stated.starts_with(&records) || records.starts_with(&stated),
                    "{at}: {records:?} {stated:?}"
                );
            }
        }
    }
}

#[test]
fn every_stream_that_can_be_read_is_written_back_byte_for_byte() {
    for case in cases("backupstream").into_iter().chain(cases("backuptar")) {
        for stream in case.entries().iter().filter_map(|entry| case.stream(entry)) {
            if let Ok(written) = rewrite(&stream) {
                assert!(written == stream, "{}", case.name);
            }
        }
    }
}

fn rewrite(stream: &[u8]) -> Result<Vec<u8>, wclayer::backup_stream::BackupStreamError> {
    let mut reader = Reader::new(stream);
    let mut writer = Writer::new(Vec::new());
    while let Some(header) = reader.next()? {
        writer.begin(&header)?;
        writer.write_data(&reader.read_all(header.size)?)?;
    }
    writer.finish()
}

/// Exactly the losses of the reference are reported.
#[test]
fn losses_are_reported_where_the_reference_is_silent() {
    let losses = |name: &str, seekable| {
        let case = cases("backupstream").into_iter().find(|case| case.name == name).unwrap();
        let mut source = ListSource::new(export::all_items(&case), seekable);
        let (_, losses) = export::run(&mut source).map_err(|(error, _)| error).unwrap();
        losses.into_iter().map(|loss| loss.what).collect::<Vec<_>>()
    };
    for seekable in [true, false] {
        assert_eq!(losses("plain", seekable), [], "{seekable}");
        assert_eq!(losses("no-streams", seekable), [], "{seekable}");
        let lost = losses("directory-streams", seekable);
        assert!(!lost.is_empty() && lost.iter().all(|lost| matches!(lost, Lost::Stream { .. })), "{lost:?}");
        let lost = losses("stream-before-data", seekable);
        assert!(!lost.is_empty() && lost.iter().all(|lost| matches!(lost, Lost::Stream { .. })), "{lost:?}");
        let lost = losses("ignored-records", seekable);
        assert!(lost.len() == 6 && lost.iter().all(|lost| matches!(lost, Lost::Record { .. })), "{lost:?}");
        let lost = losses("ea-before-data", seekable);
        assert!(lost.iter().any(|lost| matches!(lost, Lost::EaFlags { .. })), "{lost:?}");
        let lost = losses("ea-duplicate", seekable);
        assert!(lost.iter().any(|lost| matches!(lost, Lost::RepeatedEa { .. })), "{lost:?}");
        let lost = losses("reparse-names", seekable);
        assert!(lost.contains(&Lost::ReparseDetails), "{lost:?}");
        let lost = losses("stream-names", seekable);
        let [Lost::Stream { name: none, .. }, Lost::NameAfterNul { .. }, Lost::Stream { name: no_colon, .. }] =
            &lost[..]
        else {
            panic!("{lost:?}");
        };
        assert_eq!((&none[..], &no_colon[..]), (&b""[..], &b"nocolon"[..]));
    }
    let after_data = |lost: &Lost| matches!(lost, Lost::ExtendedAttributes { .. });
    assert!(!losses("ea-after-data", true).iter().any(after_data));
    assert!(losses("ea-after-data", false).iter().any(after_data));
    assert!(losses("sparse-ranges", false).contains(&Lost::Holes));
}
