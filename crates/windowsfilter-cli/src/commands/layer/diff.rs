//! `layer diff`: a layer's tar.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use windowsfilter::diff::DiffOptions;
use windowsfilter::support::{Hashed, JsonName};
use windowsfilter::{DiffId, Digest, LayerId};

use crate::error::Error;
use crate::file::OutputFile;
use crate::interrupt;
use crate::limits::DiffLimitArguments;
use crate::progress::Progress;
use crate::session::Session;

/// Write the tar of a layer, exactly as it was imported, or of a sandbox's changes
///
/// Exits with 5 if the bytes of a layer are not those that were imported. FILE appears, or is replaced, when
/// it is complete.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of a layer or sandbox, or image reference: its top layer
    #[arg(value_name = "ID|REF")]
    id: String,
    /// File to write; `-` is standard output [default: -]
    #[arg(short, long = "output", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: DiffLimitArguments,
}

#[derive(serde::Serialize)]
struct Written<'a> {
    id: &'a LayerId,
    path: JsonName,
    size: u64,
}

/// Writes the tar.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = session.layer(&args.id)?;
    let Some(path) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        return to_stdout(session, &id);
    };
    let mut tar = session.store.diff_with(&id, DiffOptions::default())?;
    let mut file = OutputFile::create(path)?;
    let size = pump(session, &id, &mut tar, |bytes| file.write(bytes))?;
    file.finish()?;
    let path = JsonName::of_path(path);
    session.output.print(&Written { id: &id, path, size }, |_| Ok(()))
}

fn to_stdout(session: &Session, id: &LayerId) -> Result<(), Error> {
    session.output.no_json("layer diff to standard output")?;
    if io::stdout().is_terminal() {
        return Err(Error::TerminalOutput);
    }
    let mut tar = session.store.diff_with(id, DiffOptions::default())?;
    // The tar is read from files without names, which vanish with this process however it ends.
    interrupt::finished();
    let mut out = io::stdout().lock();
    pump(session, id, &mut tar, |bytes| out.write_all(bytes).map_err(Error::Stdout))?;
    out.flush().map_err(Error::Stdout)
}

/// Feeds everything of `tar` to `sink` and returns how much it was. Fails at the end if these are not the
/// bytes that came in.
fn pump(
    session: &Session,
    id: &LayerId,
    tar: &mut dyn Read,
    mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let record = session.store.record(id)?;
    let progress = Progress::new(session.output, "write", Some(record.tar_size).filter(|&total| total != 0));
    // The changes of a sandbox have no digest yet.
    let expected = record.diff_id.filter(|_| session.store.keeps_tars());
    let mut tar = Hashed::new(tar);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = match tar.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unread(id, error)),
        };
        sink(&buffer[..n])?;
        progress.bytes(n as u64);
    }
    let (actual, size) = tar.finish();
    if let Some(DiffId(expected)) = expected {
        verify(id, (record.tar_size, size), (expected, actual))?;
    }
    Ok(size)
}

/// Compares what was read with the layer's record: its size and digest, each expected and actual.
fn verify(id: &LayerId, size: (u64, u64), (expected, actual): (Digest, Digest)) -> Result<(), Error> {
    let what = format!("layer {id}: layer.tar");
    if size.0 != size.1 {
        return Err(windowsfilter::Error::SizeMismatch { what, expected: size.0, actual: size.1 }.into());
    }
    if actual != expected {
        return Err(windowsfilter::Error::DigestMismatch { what, expected, actual }.into());
    }
    Ok(())
}

fn unread(id: &LayerId, error: io::Error) -> Error {
    match error.downcast::<windowsfilter::Error>() {
        Ok(error) => error.into(),
        Err(source) => Error::Content { target: id.to_string(), path: "the tar".into(), source },
    }
}
