//! `cat`: the content of a file inside an image or layer.

use std::io::{self, Read, Write};

use erofs_index::FileType;

use crate::error::Error;
use crate::location::{Location, shown_path};
use crate::session::Session;

/// Print a file inside an image or layer, without mounting it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference or layer ID, a colon, and a path: sample:ltsc2022:C:\License.txt
    #[arg(value_name = "X:PATH")]
    location: String,
}

/// Prints it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    session.output.no_json("cat")?;
    let location = Location::parse(session, &args.location)?;
    let view = location.view(session)?;
    let node = location.node(&view, true)?;
    let (target, path) = (location.target.clone(), shown_path(&node));
    match node.info.kind {
        FileType::Regular => {}
        FileType::Directory => return Err(Error::NotAFile { target, path, actual: "directory" }),
        _ => return Err(Error::NotAFile { target, path, actual: "link" }),
    }
    let mut content = view.open_file(&node)?;
    let mut out = io::stdout().lock();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return out.flush().map_err(Error::Stdout),
            Ok(n) => out.write_all(&buffer[..n]).map_err(Error::Stdout)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Content { target, path, source }),
        }
    }
}
