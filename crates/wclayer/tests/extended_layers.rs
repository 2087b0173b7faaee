//! Extended layer tars: what the reference loses on the way into a tar is still there when ours reads it
//! back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod vectors;

use std::io::{self, Cursor};

use vectors::export::{ListSource, all_items, emitted_items};
use vectors::{Case, cases};
use wclayer::backup_stream::{self as backup, Reader, StreamHeader, Writer as StreamWriter};
use wclayer::ea;
use wclayer::layer_tar::{
    BackupSource, FileInfo, LayerEntry, LayerSink, LayerTarError, Loss, Lost, SourceItem, Writer, export,
    import,
};
use wclayer::security::SecurityDescriptor;
use wclayer::tar::Header;

/// Keeps the backup streams.
#[derive(Default)]
struct Streams(Vec<(Vec<u8>, Vec<u8>)>);

impl LayerSink for Streams {
    fn remove(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn add_link(&mut self, _: &[u8], _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn add(&mut self, path: &[u8], _: &LayerEntry) -> io::Result<()> {
        self.0.push((path.to_vec(), Vec::new()));
        Ok(())
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        self.0.last_mut().unwrap().1.extend_from_slice(stream);
        Ok(())
    }
}

type Record = (u32, Vec<u8>, Vec<u8>);

/// What a file consists of: kind, name and data of each record, sparse blocks put together, in a fixed order.
fn parts(stream: &[u8]) -> Vec<Record> {
    let mut reader = Reader::new(stream);
    let mut parts: Vec<Record> = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let mut data = reader.read_all(u64::MAX).unwrap();
        match header.id {
            backup::SPARSE_BLOCK => {
                let part = &mut parts.last_mut().unwrap().2;
                part.resize(header.sparse_offset as usize, 0);
                part.append(&mut data);
            }
            backup::EA_DATA => match parts.iter_mut().find(|part| part.0 == backup::EA_DATA) {
                Some(part) => {
                    let chains = [ea::decode(&part.2).unwrap(), ea::decode(&data).unwrap()].concat();
                    part.2 = ea::encode(&chains).unwrap();
                }
                None => {
                    parts.push((header.id, header.name, ea::encode(&ea::decode(&data).unwrap()).unwrap()));
                }
            },
            _ => parts.push((header.id, header.name, data)),
        }
    }
    // An empty data record and none are the same file.
    parts.retain(|(id, _, data)| *id != backup::DATA || !data.is_empty());
    parts.sort_by_key(|part| part.0);
    parts
}

fn extended(items: Vec<(SourceItem, Vec<u8>)>) -> Result<(Vec<u8>, Vec<Loss>), LayerTarError> {
    export(&mut ListSource::new(items, true), Writer::extended(Vec::new()))
}

/// Cases where a record comes in a place or form that has no meaning.
fn is_broken(case: &Case) -> bool {
    let meaningful = ["err-reparse-unsupported", "err-reparse-wcifs", "err-sparse-stream"];
    case.name.starts_with("err-") && !meaningful.contains(&&*case.name)
}

#[test]
fn every_stream_that_makes_sense_comes_back_whole() {
    let mut checked = 0;
    for case in cases("backupstream").iter().filter(|case| !is_broken(case)) {
        // Its data is cut off, which only a reader that skips it does not notice.
        if case.name == "cut-ignored" {
            continue;
        }
        let items = all_items(case);
        let (tar, losses) = extended(items.clone()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let mut streams = Streams::default();
        import(&tar[..], &mut streams).unwrap();
        let files = items.iter().filter(|(item, _)| matches!(item, SourceItem::File { .. }));
        for ((path, ours), (_, original)) in streams.0.iter().zip(files) {
            let at = format!("{} {}", case.name, String::from_utf8_lossy(path));
            let (mut ours, mut original) = (parts(ours), parts(original));
            normalise(&mut ours);
            normalise(&mut original);
            assert_eq!(ours, original, "{at}");
            checked += 1;
        }
        for loss in losses {
            let is_expected = match &loss.what {
                Lost::Record { id, .. } => is_dropped(*id),
                Lost::Holes | Lost::NameAfterNul { .. } => true,
                Lost::Stream { name, .. } => !name.starts_with(b":"),
                _ => false,
            };
            assert!(is_expected, "{}: {loss}", case.name);
        }
    }
    assert!(checked > 20, "{checked}");
}

/// Leaves out what is reported as lost.
fn normalise(parts: &mut Vec<Record>) {
    parts.retain(|part| !is_dropped(part.0));
    for (_, name, _) in parts.iter_mut() {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        name.truncate(end);
        // A tar has the name without type, and a file has no stream without a colon.
        *name = match name.strip_suffix(b":$DATA") {
            Some(stem) => stem.to_vec(),
            None => name.clone(),
        };
    }
    parts.retain(|(id, name, _)| *id != backup::ALTERNATE_DATA || name.starts_with(b":"));
}

fn is_dropped(id: u32) -> bool {
    matches!(id, backup::LINK | backup::PROPERTY_DATA | backup::OBJECT_ID | backup::TXFS_DATA)
}

/// Its entry would be the file again.
#[test]
fn a_stream_without_a_name_is_left_out_and_said_to_be_lost() {
    for name in ["", ":$DATA", ":$DATA\0more"] {
        let mut stream = StreamWriter::new(Vec::new());
        let name = name.as_bytes().to_vec();
        stream
            .begin(&StreamHeader { name: name.clone(), ..StreamHeader::new(backup::ALTERNATE_DATA, 1) })
            .unwrap();
        stream.write_data(b"x").unwrap();
        let stream = stream.finish().unwrap();
        let mut writer = Writer::extended(Vec::new());
        let source = BackupSource::Seekable(&mut Cursor::new(stream));
        writer.write_backup_stream(b"Files/f", 0, FileInfo::default(), source).unwrap();
        let losses = writer.take_losses();
        let lost = Loss { entry: b"Files/f".to_vec(), what: Lost::Stream { name, size: 1 } };
        assert!(losses.contains(&lost), "{losses:?}");
        let tar = writer.finish().unwrap();
        let mut reader = wclayer::tar::Reader::new(&tar[..]);
        assert_eq!(reader.next().unwrap().unwrap().name, b"Files/f");
        assert_eq!(reader.next().unwrap(), None);
    }
}

#[test]
fn layers_that_lose_nothing_have_the_same_bytes_either_way() {
    let mut same = 0;
    for case in cases("backuptar") {
        for expected in case.exports().iter().filter(|export| export["file"] == "out.tar") {
            let items = emitted_items(&case, expected);
            let plain = export(&mut ListSource::new(items.clone(), true), Writer::new(Vec::new()));
            let (tar, losses) = plain.unwrap();
            let (extended_tar, lost_still) = extended(items).unwrap();
            assert_eq!(lost_still, [], "{}", case.name);
            // The order of attributes is no loss for the reference, and is kept by ours.
            if losses.is_empty() && case.name != "ea-multi" {
                assert!(tar == extended_tar, "{}", case.name);
                same += 1;
            }
        }
    }
    assert!(same > 40, "{same}");
}

fn file(records: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
    let mut stream = StreamWriter::new(Vec::new());
    for (id, name, data) in records {
        let header = StreamHeader { name: name.to_vec(), ..StreamHeader::new(*id, data.len() as u64) };
        stream.begin(&header).unwrap();
        stream.write_data(data).unwrap();
    }
    stream.finish().unwrap()
}

#[test]
fn a_second_descriptor_counts_and_the_first_is_reported() {
    let stream = file(&[(backup::SECURITY_DATA, b"", b"one"), (backup::SECURITY_DATA, b"", b"second")]);
    for mut writer in [Writer::new(Vec::new()), Writer::extended(Vec::new())] {
        let info = FileInfo::default();
        let mut source = Cursor::new(&stream);
        writer.write_backup_stream(b"f", 0, info, BackupSource::Seekable(&mut source)).unwrap();
        let lost = Lost::Record { id: backup::SECURITY_DATA, size: 3 };
        assert_eq!(writer.losses(), [Loss { entry: b"f".to_vec(), what: lost }]);
    }
}

#[test]
fn data_that_is_both_in_its_record_and_in_blocks_is_refused() {
    let mut stream = file(&[(backup::DATA, b"", b"data")]);
    let mut writer = StreamWriter::new(&mut stream);
    writer.begin(&StreamHeader { sparse_offset: 4, ..StreamHeader::new(backup::SPARSE_BLOCK, 0) }).unwrap();
    let mut source = Cursor::new(&stream);
    let mut writer = Writer::extended(Vec::new());
    let result =
        writer.write_backup_stream(b"f", 4, FileInfo::default(), BackupSource::Seekable(&mut source));
    assert!(matches!(result, Err(LayerTarError::UnknownRecord { id: backup::SPARSE_BLOCK, .. })));
}

/// The text of an old layer's descriptor: what it grants under a condition, and what its conditions refer to.
#[test]
fn conditions_of_an_old_layers_descriptor_are_read() {
    let sddl = r#"O:BAG:SYD:(XA;;FX;;;WD;(@USER.Title == "PM"))S:(RA;;;;;WD;("Secrecy",TU,0x0,3))"#;
    let mut header = Header { name: b"Files/f".to_vec(), ..Header::default() };
    header.pax.insert(b"MSWINDOWS.sd", sddl.as_bytes());
    let security = LayerEntry::from_header(&header).unwrap().security.unwrap();
    assert_eq!(SecurityDescriptor::parse(&security).unwrap().to_sddl().as_deref(), Ok(sddl));
}
