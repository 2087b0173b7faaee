//! Extended layer tars: our reader gets back everything that the reference loses in a tar.

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

/// The parts of a file: kind, name and data of each record, with sparse blocks joined, in a fixed order.
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
    // A file with an empty data record equals one without.
    parts.retain(|(id, _, data)| *id != backup::DATA || !data.is_empty());
    parts.sort_by_key(|part| part.0);
    parts
}

fn extended(items: Vec<(SourceItem, Vec<u8>)>) -> Result<(Vec<u8>, Vec<Loss>), LayerTarError> {
    export(&mut ListSource::new(items, true), Writer::extended(Vec::new()))
}

/// Cases with a record in a meaningless place or form.
fn is_broken(case: &Case) -> bool {
    let meaningful = ["err-reparse-unsupported", "err-reparse-wcifs", "err-sparse-stream"];
    case.name.starts_with("err-") && !meaningful.contains(&&*case.name)
}

#[test]
fn every_stream_that_makes_sense_comes_back_whole() {
    let mut checked = 0;
    for case in cases("backupstream").iter().filter(|case| !is_broken(case)) {
        // Its data are cut off, which a reader that skips them does not notice.
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

/// Removes the reported losses.
fn normalise(parts: &mut Vec<Record>) {
    parts.retain(|part| !is_dropped(part.0));
    for (_, name, _) in parts.iter_mut() {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        name.truncate(end);
        // In a tar the name has no type; and the name of a file's stream begins with a colon.
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

/// Its entry would have the file's own name.
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
            // The reference does not count the order of attributes as a loss; ours keeps it.
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
    let write = |sparse_offset, block: &[u8], mut tar: Writer<Vec<u8>>| {
        let mut writer = StreamWriter::new(Vec::new());
        writer.begin(&StreamHeader::new(backup::DATA, 4)).unwrap();
        writer.write_data(b"data").unwrap();
        let header = StreamHeader::new(backup::SPARSE_BLOCK, block.len() as u64);
        writer.begin(&StreamHeader { sparse_offset, ..header }).unwrap();
        writer.write_data(block).unwrap();
        let mut source = Cursor::new(writer.finish().unwrap());
        tar.write_backup_stream(b"f", 4, FileInfo::default(), BackupSource::Seekable(&mut source))
    };
    for new in [Writer::new, Writer::extended] {
        for (offset, block) in [(4, &b"more"[..]), (0, b"data"), (8, b"")] {
            let result = write(offset, block, new(Vec::new()));
            assert!(matches!(result, Err(LayerTarError::UnknownRecord { id: backup::SPARSE_BLOCK, .. })));
        }
        // The closing block alone adds nothing.
        write(4, b"", new(Vec::new())).unwrap();
    }
}

/// Offset and content of a sparse block.
type Block<'a> = (u64, &'a [u8]);

/// A sparse stream with these blocks, the last of which ends it.
fn sparse(id: u32, name: &[u8], blocks: &[Block], end: u64) -> Vec<u8> {
    let mut stream = StreamWriter::new(Vec::new());
    let attributes = backup::STREAM_SPARSE_ATTRIBUTE;
    stream.begin(&StreamHeader { attributes, name: name.to_vec(), ..StreamHeader::new(id, 0) }).unwrap();
    for (sparse_offset, data) in blocks.iter().chain([&(end, &b""[..])]) {
        let header = StreamHeader::new(backup::SPARSE_BLOCK, data.len() as u64);
        stream.begin(&StreamHeader { sparse_offset: *sparse_offset, ..header }).unwrap();
        stream.write_data(data).unwrap();
    }
    stream.finish().unwrap()
}

/// As in go-winio from pull request 375 on; before, only for a source that is read once.
#[test]
fn a_sparse_file_is_written_with_its_zeros_however_often_its_source_can_be_read() {
    let files: [(&[Block], u64); 5] = [
        (&[], 0),
        (&[], 1 << 20),
        (&[(0, b"abc")], 3),
        (&[(100, b"abc"), (200, b"d")], 300),
        (&[(0, b"a"), (1, b"b")], 2),
    ];
    for (blocks, end) in files {
        let mut expected = vec![0; end as usize];
        for (offset, data) in blocks {
            expected[*offset as usize..][..data.len()].copy_from_slice(data);
        }
        let mut stream = sparse(backup::DATA, b"", blocks, end);
        stream.extend(file(&[(backup::ALTERNATE_DATA, b":s:$DATA", b"stream")]));
        for is_seekable in [true, false] {
            for mut writer in [Writer::new(Vec::new()), Writer::extended(Vec::new())] {
                let mut source = Cursor::new(&stream);
                let source = match is_seekable {
                    true => BackupSource::Seekable(&mut source),
                    false => BackupSource::Forward(&mut source),
                };
                writer.write_backup_stream(b"f", end, FileInfo::default(), source).unwrap();
                let files = vectors::export::contents(&writer.finish().unwrap());
                let [(_, data), (stream, stream_data)] = &files[..] else { panic!("{files:?}") };
                assert!(*data == expected, "{blocks:?} {end} {is_seekable}");
                assert_eq!((&stream.name[..], &stream_data[..]), (&b"f:s"[..], &b"stream"[..]));
            }
        }
    }
}

/// Tags that go-winio has no form for, and that stop its export.
#[test]
fn any_reparse_point_comes_back_whole_and_a_link_of_wsl_is_a_link_to_other_readers() {
    let reparse = |tag: u32, data: &[u8]| {
        wclayer::reparse::ReparsePoint::Other { tag, data: data.to_vec() }.encode().unwrap()
    };
    let wsl = reparse(wclayer::reparse::IO_REPARSE_TAG_LX_SYMLINK, b"\x02\0\0\0../bin/sh");
    let others =
        [(0x8000_0023, &b""[..]), (0x8000_001b, &[7; 60]), (0xA000_001D, b"\x02\0\0\0"), (0x42, &[9; 30])];
    let others = others.map(|(tag, data)| (reparse(tag, data), None));
    for (buffer, link) in [(wsl, Some(&b"../bin/sh"[..]))].into_iter().chain(others) {
        let stream = file(&[(backup::REPARSE_DATA, b"", &buffer), (backup::DATA, b"", b"")]);
        let mut writer = Writer::extended(Vec::new());
        let info = FileInfo { attributes: 0x420, ..FileInfo::default() };
        let mut source = Cursor::new(&stream);
        writer.write_backup_stream(b"Files\\p", 0, info, BackupSource::Seekable(&mut source)).unwrap();
        assert_eq!(writer.losses(), []);
        let tar = writer.finish().unwrap();
        let (header, _) = vectors::export::contents(&tar).pop().unwrap();
        let is_link = header.type_flag == wclayer::tar::type_flag::SYMLINK;
        assert_eq!(is_link.then_some(&header.link_name[..]), link);
        assert_eq!(LayerEntry::from_header(&header).unwrap().reparse, Some(buffer));
    }
}

/// The text of an old layer's descriptor, with conditional ACEs and the attributes that they refer to.
#[test]
fn conditions_of_an_old_layers_descriptor_are_read() {
    let sddl = r#"O:BAG:SYD:(XA;;FX;;;WD;(@USER.Title == "PM"))S:(RA;;;;;WD;("Secrecy",TU,0x0,3))"#;
    let mut header = Header { name: b"Files/f".to_vec(), ..Header::default() };
    header.pax.insert(b"MSWINDOWS.sd", sddl.as_bytes());
    let security = LayerEntry::from_header(&header).unwrap().security.unwrap();
    assert_eq!(SecurityDescriptor::parse(&security).unwrap().to_sddl().as_deref(), Ok(sddl));
}
