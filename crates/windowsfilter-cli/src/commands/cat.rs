//! `cat`: the content of a file inside an image or layer.

use std::io::{self, Read, Write};

use windowsfilter::{Follow, NodeKind};

use crate::error::Error;
use crate::interrupt;
use crate::location::{Location, LocationArguments};
use crate::session::Session;

/// Print a file inside an image or layer, without mounting it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    location: LocationArguments,
}

/// Prints it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    session.output.no_json("cat")?;
    let location = Location::parse(session, &args.location)?;
    let view = location.view(session)?;
    let found = location.find(&view, Follow::Always)?;
    let (target, path) = (location.target.clone(), found.shown());
    let mut content: Box<dyn Read> = match (&found.stream, found.node.kind()) {
        (Some(stream), _) => Box::new(view.open_stream(stream)?),
        (None, NodeKind::File) => Box::new(view.open_file(&found.node)?),
        (None, NodeKind::Directory) => return Err(Error::NotAFile { target, path, actual: "directory" }),
        (None, _) => return Err(Error::NotAFile { target, path, actual: "link" }),
    };
    interrupt::finished();
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
