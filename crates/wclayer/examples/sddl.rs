//! Prints the name and the security descriptor, as SDDL, of every entry of a layer tar: `sddl layer.tar`.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use wclayer::layer_tar::{LayerEntry, attached_stream};
use wclayer::security::SecurityDescriptor;
use wclayer::tar::Reader;

/// Reads the layer `tar` and writes a line for each entry.
pub(crate) fn run(tar: &Path, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let mut reader = Reader::new(BufReader::new(File::open(tar)?));
    let mut file: Option<LayerEntry> = None;
    while let Some(header) = reader.next()? {
        // An alternate stream is a separate entry behind its file, without a descriptor of its own.
        if file.as_ref().is_some_and(|file| attached_stream(file, &header).is_some()) {
            continue;
        }
        let entry = LayerEntry::from_header(&header)?;
        let sddl = match &entry.security {
            Some(bytes) => SecurityDescriptor::parse(bytes)?.to_sddl()?,
            None => "-".to_owned(),
        };
        writeln!(out, "{} {sddl}", entry.display_name())?;
        file = Some(entry);
    }
    Ok(())
}

#[allow(dead_code, reason = "tests call `run`")]
fn main() -> Result<(), Box<dyn Error>> {
    let tar = std::env::args_os().nth(1).ok_or("which layer tar?")?;
    run(Path::new(&tar), &mut std::io::stdout().lock())
}
