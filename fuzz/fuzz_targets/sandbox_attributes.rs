//! Attributes of one file in a sandbox: they come out of the layer again, or are listed as invalid for any
//! file.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use wclayer::layer_tar::{LayerEntry, attached_stream};
use wclayer::tar;
use windowsfilter::Error;
use windowsfilter::diff::DiffOptions;
use windowsfilter::limits::DiffLimits;
use windowsfilter::metadata::StreamForm;
use windowsfilter::support::sandbox_diff::write_diff;
use windowsfilter_fuzz::sandbox::{Sandbox, base};

fuzz_target!(|input: &[u8]| {
    // `NAME\0VALUE\0…`, each an attribute of one file, one directory and one link.
    let mut entries = b"ff\0content\0dd\0\0ll\0ff\0".to_vec();
    let mut strings = input.split(|&byte| byte == 0);
    while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
        for (entry, namespace) in [("f", "user"), ("d", "user"), ("l", "trusted")] {
            let letter = if name.first() == Some(&b'%') { "b" } else { "a" };
            let name = name.strip_prefix(b"%").unwrap_or(name);
            entries.extend([letter, entry, "=", namespace, "."].concat().as_bytes());
            entries.extend([name, b"\0", value, b"\0"].concat());
        }
    }
    let (sandbox, base) = (Sandbox::read(&entries), base());
    let limits = DiffLimits { size: Some(64 << 20), ..DiffLimits::default() };
    let options = DiffOptions { limits, ..DiffOptions::default() };
    let mut out = Vec::new();
    match write_diff(&sandbox, &base.view, StreamForm::Plain, &options, &mut out) {
        Ok(_) => read(&out),
        Err(Error::NotPortable { problems, .. }) => assert!(out.is_empty() && !problems.is_empty()),
        Err(Error::Limit { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
});

/// Reads a tar as import does.
fn read(bytes: &[u8]) {
    let mut reader = tar::Reader::new(bytes);
    let mut host: Option<LayerEntry> = None;
    let mut names = Vec::new();
    while let Some(header) = reader.next().expect("a tar") {
        let stream = host.as_ref().and_then(|host| attached_stream(host, &header));
        if stream.is_none() {
            names.push(header.name.clone());
            host = Some(LayerEntry::from_header(&header).expect("an entry of a layer"));
        }
        reader.data().read_to_end(&mut Vec::new()).expect("its data");
    }
    assert_eq!(names, [&b"Hives"[..], b"Files", b"Files/d", b"Files/f", b"Files/l"]);
}
