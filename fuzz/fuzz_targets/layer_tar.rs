//! Layer tars to entries and backup streams: an extended tar written from an entry reads back as that entry.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use wclayer::layer_tar::{EntryKind, LayerEntry, LayerSink, Writer, import};
use wclayer::tar::Reader;

/// Longer backup streams are claimed holes.
const LIMIT: usize = 4 << 20;

struct Sink(usize);

impl LayerSink for Sink {
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
        self.0 += stream.len();
        if self.0 > LIMIT { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fuzz_target!(|input: &[u8]| {
    let _ = import(input, &mut Sink(0));
    let mut reader = Reader::new(input);
    while let Ok(Some(header)) = reader.next() {
        let Ok(entry) = LayerEntry::from_header(&header) else { continue };
        if matches!(entry.kind, EntryKind::File | EntryKind::Directory) && entry.size < 1024 {
            reads_back(&LayerEntry { size: 0, ..entry });
        }
    }
});

/// Anything read from one tar can be written into another and reads the same there.
fn reads_back(entry: &LayerEntry) {
    let mut writer = Writer::extended(Vec::new());
    if writer.write_file(entry, &mut io::empty()).is_err() {
        return;
    }
    let losses = writer.take_losses();
    let tar = writer.finish().expect("writing to memory");
    let header = Reader::new(&tar[..]).next().expect("our own tar").expect("its entry");
    let read = LayerEntry::from_header(&header).expect("our own entry");
    if losses.is_empty() {
        assert_eq!(
            (read.attributes, &read.security, &read.eas, &read.reparse, read.creation_time),
            (entry.attributes, &entry.security, &entry.eas, &entry.reparse, entry.creation_time)
        );
    }
}
