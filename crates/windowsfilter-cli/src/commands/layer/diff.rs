//! `layer diff`: a layer's tar.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use windowsfilter::{Driver, LayerId};

use crate::error::{Error, IoContext};
use crate::progress::Progress;
use crate::session::Session;

/// Write a layer's tar: of a layer the bytes that came in, of a sandbox its changes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of a layer or sandbox
    id: String,
    /// File to write [default: standard output]
    #[arg(short, long = "output", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(serde::Serialize)]
struct Written<'a> {
    id: &'a LayerId,
    path: &'a Path,
    size: u64,
}

/// Writes the tar.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = session.layer(&args.id)?;
    let Some(path) = &args.output else { return to_stdout(session, &id) };
    let mut tar = session.store.diff(&id, None)?;
    let file = File::create(path).at("create", path)?;
    let size = match copy(session, &id, &mut tar, &file, path) {
        Ok(size) => size,
        Err(error) => {
            // Half a tar is no tar. Devices and pipes are not ours to remove.
            if file.metadata().is_ok_and(|m| m.is_file()) {
                _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
    };
    session.output.print(&Written { id: &id, path, size }, |_| Ok(()))
}

fn to_stdout(session: &Session, id: &LayerId) -> Result<(), Error> {
    session.output.no_json("layer diff without -o")?;
    if io::stdout().is_terminal() {
        return Err(Error::TerminalOutput);
    }
    let mut tar = session.store.diff(id, None)?;
    let mut out = io::stdout().lock();
    pump(session, id, &mut tar, |bytes| out.write_all(bytes).map_err(Error::Stdout))?;
    out.flush().map_err(Error::Stdout)
}

fn copy(
    session: &Session,
    id: &LayerId,
    tar: &mut dyn Read,
    mut file: &File,
    path: &Path,
) -> Result<u64, Error> {
    let size = pump(session, id, tar, |bytes| file.write_all(bytes).at("write", path))?;
    if file.metadata().is_ok_and(|m| m.is_file()) {
        file.sync_all().at("sync", path)?;
    }
    Ok(size)
}

/// Feeds everything of `tar` to `sink` and returns how much it was.
fn pump(
    session: &Session,
    id: &LayerId,
    tar: &mut dyn Read,
    mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let total = session.store.record(id)?.tar_size;
    let progress = Progress::new(session.output, "write", Some(total).filter(|&total| total != 0));
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = match tar.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(match error.downcast::<windowsfilter::Error>() {
                    Ok(error) => error.into(),
                    Err(source) => Error::Content { target: id.to_string(), path: "the tar".into(), source },
                });
            }
        };
        sink(&buffer[..n])?;
        size += n as u64;
        progress.bytes(n as u64);
    }
}
