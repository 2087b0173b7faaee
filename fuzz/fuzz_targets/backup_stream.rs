//! Win32 backup streams: what is read and written again reads the same, and seeking finds the records that reading finds.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use wclayer::backup_stream::{Reader, StreamHeader, Writer};

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
});
