//! `docker-windows-write-layer`: fills a layer of the compute service from the tar on its standard input, in
//! a process of its own.
//!
//! Name and result are the original's (`writeLayerReexec` in moby's `windows.go`): the size is all that is
//! printed, errors go to the error output, the exit code is 1 then.

use std::path::PathBuf;

use crate::error::Error;
use crate::global::Global;

/// Fill a layer from a tar; started by the commands that import
#[derive(Debug, clap::Args)]
#[command(name = "docker-windows-write-layer", hide = true)]
pub(crate) struct Args {
    /// Directory of the layers
    home: PathBuf,
    /// ID of the layer
    id: String,
    /// File with the directories of its parents, nearest first, as in layerchain.json [default: it has none]
    chain: Option<PathBuf>,
}

/// Writes the layer and prints how many bytes its files have.
#[cfg(windows)]
pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Error> {
    use windowsfilter::hcs_engine::{read_chain, write_layer};

    let host = crate::engine::host(global)?;
    let parents = args.chain.as_deref().map(read_chain).transpose()?.unwrap_or_default();
    let size = write_layer(&host, &args.home, &args.id, &parents, std::io::stdin().lock())?;
    println!("{size}");
    Ok(())
}

/// Only Windows has the service.
#[cfg(not(windows))]
pub(crate) fn run(args: &Args, _: &Global) -> Result<(), Error> {
    let Args { home, id, chain } = args;
    let on_top = if chain.is_some() { " on top of others" } else { "" };
    let what = format!("filling layer {id} in {}{on_top}", home.display());
    Err(windowsfilter::Error::Unsupported { what, needs: "Windows" }.into())
}
