//! `reclaim`: deletes the bytes of a removed layer, for a command that has ended (`background`).

use std::path::PathBuf;

use crate::error::{Error, IoContext};

/// Delete a removed layer's directory; started by the commands that remove
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    /// The directory, whose name ends in -removing
    dir: PathBuf,
}

/// Deletes the directory.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let removed = args.dir.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b"-removing"));
    if !removed {
        return Err(Error::NotRemoved { dir: args.dir.clone() });
    }
    windowsfilter::support::remove_tree(&args.dir).at("remove", &args.dir)
}
