//! Win32 backup streams: reading, writing and reading again gives the same; seeking finds the same records
//! as reading; a file with these streams goes into a layer's tar or is refused.
#![no_main]

use std::io::{self, Cursor};

use libfuzzer_sys::fuzz_target;
use wclayer::backup_stream::{DATA, Reader, StreamHeader, Writer};
use wclayer::layer_tar::{self, BackupSource, FileInfo};
use wclayer::tar;

fuzz_target!(|input: &[u8]| {
    let mut records: Vec<(StreamHeader, Vec<u8>)> = Vec::new();
    let mut reader = Reader::new(input);
    while let Ok(Some(header)) = reader.next() {
        let Ok(data) = reader.read_all(input.len() as u64) else { break };
        records.push((header, data));
    }
    let mut seeking = Reader::new(Cursor::new(input));
    for (header, _) in &records {
        let found = seeking.next_by_seeking().expect("reading found a record here");
        assert_eq!(found.as_ref(), Some(header));
    }
    let mut writer = Writer::new(Vec::new());
    for (header, data) in &records {
        writer.begin(header).expect("a record that was read");
        writer.write_data(data).expect("data that was read");
    }
    let written = writer.finish().expect("writing to memory");
    let mut again = Reader::new(&written[..]);
    for (header, data) in &records {
        assert_eq!(again.next().expect("our own record").as_ref(), Some(header));
        assert_eq!(&again.read_all(data.len() as u64).expect("our own data"), data);
    }
    let data = records.iter().find(|(header, _)| header.id == DATA);
    let size = data.map_or(0, |(header, _)| header.size);
    for extended in [false, true] {
        into_tar(size, BackupSource::Forward(&mut &input[..]), extended);
        into_tar(size, BackupSource::Seekable(&mut Cursor::new(input)), extended);
    }
});

/// Bounded output: sparse blocks can claim endless holes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > 4 << 20 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A written tar is complete, and its entry is valid in a layer.
fn into_tar(size: u64, source: BackupSource<'_>, extended: bool) {
    let out = Bounded(Vec::new());
    let mut writer = if extended { layer_tar::Writer::extended(out) } else { layer_tar::Writer::new(out) };
    if writer.write_backup_stream(b"Files/f", size, FileInfo::default(), source).is_err() {
        return;
    }
    for loss in writer.take_losses() {
        assert!(!loss.to_string().is_empty());
    }
    let Ok(Bounded(written)) = writer.finish() else { return };
    let mut reader = tar::Reader::new(&written[..]);
    let header = reader.next().expect("our own tar").expect("its entry");
    let entry = layer_tar::LayerEntry::from_header(&header).expect("our own entry");
    while let Some(header) = reader.next().expect("our own tar") {
        // The reference turns a stream whose name does not begin with a colon into a file.
        assert!(!extended || layer_tar::attached_stream(&entry, &header).is_some());
    }
}
