//! A layer made of the entries of a case, and the expected export.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};

use serde_json::Value;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{
    BackupSource, LayerSource, LayerTarError, Loss, SourceItem, Writer, export, windows_path,
};
use wclayer::pax_time;
use wclayer::tar::{Header, PaxRecords, Reader};

use super::{Case, bytes, exported_with_wrap, info};

/// A source of listed items and their streams.
pub struct ListSource {
    pub items: Vec<(SourceItem, Vec<u8>)>,
    pub seekable: bool,
    pub given: usize,
    stream: Cursor<Vec<u8>>,
}

impl ListSource {
    pub fn new(items: Vec<(SourceItem, Vec<u8>)>, seekable: bool) -> Self {
        Self { items, seekable, given: 0, stream: Cursor::default() }
    }
}

impl LayerSource for ListSource {
    fn next_item(&mut self) -> io::Result<Option<SourceItem>> {
        let Some((item, stream)) = self.items.get(self.given) else {
            self.given += 1;
            return Ok(None);
        };
        self.given += 1;
        self.stream = Cursor::new(stream.clone());
        Ok(Some(item.clone()))
    }

    fn backup_stream(&mut self) -> BackupSource<'_> {
        if self.seekable {
            BackupSource::Seekable(&mut self.stream)
        } else {
            BackupSource::Forward(&mut self.stream)
        }
    }
}

/// The items in `emitted` of an export.
pub fn emitted_items(case: &Case, export: &Value) -> Vec<(SourceItem, Vec<u8>)> {
    let records = export["hard_links"] == "records";
    // The first name of a file stands for its identity.
    let mut ids: HashMap<Vec<u8>, [u8; 16]> = HashMap::new();
    let mut items = Vec::new();
    for (index, emitted) in export["emitted"].as_array().unwrap().iter().enumerate() {
        let name = || bytes(emitted, "name");
        match emitted["as"].as_str().unwrap() {
            "omitted" => {}
            "whiteout" => items.push((SourceItem::Tombstone { path: deleted(&name()) }, Vec::new())),
            "file" | "link" => {
                let of = emitted["stream_of"].as_u64().or(emitted["entry"].as_u64()).unwrap();
                let id = match emitted["as"] == "link" {
                    true => ids[&bytes(emitted, "linkname")],
                    false => (index as u128 + 1).to_le_bytes(),
                };
                let of = match emitted["as"] == "link" {
                    true => u128::from_le_bytes(id) as usize - 1,
                    false => of as usize,
                };
                if emitted["as"] == "file" {
                    ids.insert(name(), (of as u128 + 1).to_le_bytes());
                }
                let id = if emitted["as"] == "file" { (of as u128 + 1).to_le_bytes() } else { id };
                items.push(file(case, &case.entries()[of], &windows_path(&name()), records.then_some(id)));
            }
            other => panic!("{}: emitted as {other}, which these tests do not know", case.name),
        }
    }
    items
}

/// The path that a whiteout's name deletes.
fn deleted(name: &[u8]) -> Vec<u8> {
    let base = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    windows_path(&[&name[..base], name[base..].strip_prefix(b".wh.").unwrap()].concat())
}

/// All entries unchanged, for exports that fail.
pub fn all_items(case: &Case) -> Vec<(SourceItem, Vec<u8>)> {
    let item = |entry: &Value| match entry["kind"].as_str() {
        Some("whiteout") => (SourceItem::Tombstone { path: bytes(entry, "win_path") }, Vec::new()),
        _ => file(case, entry, &bytes(entry, "win_path"), None),
    };
    case.entries().iter().map(item).collect()
}

fn file(case: &Case, entry: &Value, path: &[u8], link_id: Option<[u8; 16]>) -> (SourceItem, Vec<u8>) {
    let size = entry["size"].as_u64().unwrap();
    let item = SourceItem::File { path: path.to_vec(), size, info: info(entry), link_id };
    (item, case.stream(entry).unwrap())
}

/// Exports; returns the tar, or the index of the failed item (one behind the last for the end).
pub fn run(source: &mut ListSource) -> Result<(Vec<u8>, Vec<Loss>), (LayerTarError, usize)> {
    export(source, Writer::new(Vec::new())).map_err(|error| (error, source.given - 1))
}

/// Compares an export with the reference's, except the times that wrap there.
pub fn assert_same_but_for_wrapped_times(case: &str, ours: &[u8], reference: &[u8]) -> usize {
    let (ours, reference) = (contents(ours), contents(reference));
    assert_eq!(ours.len(), reference.len(), "{case}");
    let mut wrapped = 0;
    for ((ours, our_data), (theirs, their_data)) in ours.into_iter().zip(reference) {
        assert_eq!(our_data, their_data, "{case}");
        wrapped += assert_times(case, &ours, &theirs);
        assert_eq!(without_times(ours), without_times(theirs), "{case}");
    }
    wrapped
}

/// Returns how many times of an entry wrap; checks that the others are equal.
fn assert_times(case: &str, ours: &Header, theirs: &Header) -> usize {
    const CREATION: &[u8] = b"LIBARCHIVE.creationtime";
    let creation = |header: &Header| header.pax.get(CREATION).map(|text| pax_time::parse(text).unwrap());
    let pairs = [
        (ours.mtime, theirs.mtime),
        (ours.atime, theirs.atime),
        (ours.ctime, theirs.ctime),
        (creation(ours), creation(theirs)),
    ];
    let mut wrapped = 0;
    for (ours, theirs) in pairs {
        if ours != theirs {
            let nanos = exported_with_wrap(FileTime::from_pax(&ours.unwrap()));
            let theirs = theirs.unwrap();
            assert_eq!(
                i128::from(nanos),
                i128::from(theirs.secs) * 1_000_000_000 + i128::from(theirs.nanos),
                "{case}"
            );
            wrapped += 1;
        }
    }
    wrapped
}

fn without_times(header: Header) -> Header {
    let time = |key: &[u8]| matches!(key, b"mtime" | b"atime" | b"ctime" | b"LIBARCHIVE.creationtime");
    let pax: PaxRecords = header.pax.iter().filter(|(key, _)| !time(key)).collect();
    Header {
        pax,
        mtime: None,
        atime: None,
        ctime: None,
        offset: 0,
        header_offset: 0,
        data_offset: 0,
        ..header
    }
}

/// Headers and data of a tar.
pub fn contents(tar: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut reader = Reader::new(tar);
    let mut all = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).unwrap();
        all.push((header, data));
    }
    all
}
