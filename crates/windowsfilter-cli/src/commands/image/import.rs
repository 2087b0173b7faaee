//! `image import`: an image comes into the store.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use windowsfilter_image::{ImportOptions, Platform, Reference, Source};

use super::print_image;
use crate::error::Error;
use crate::limits::LimitArguments;
use crate::progress::ImageBars;
use crate::session::Session;

/// Import an image: every digest is checked, nothing is unpacked
///
/// PATH is an OCI layout directory, an OCI archive, or an archive written by `docker save`; archives and layers may be
/// compressed. Layers that are in the store already are not read again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the image is; `-` reads an archive from standard input
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// What to call it [default: what it says it is called]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<Reference>,
    /// Which of several images: OS/ARCHITECTURE[:OSVERSION] [default: the first for Windows]
    #[arg(long)]
    platform: Option<Platform>,
    /// Import an image that is not for Windows, and layers that have nothing for it
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

/// Imports it and prints what it became.
pub(crate) fn run(session: &Session, args: Args) -> Result<(), Error> {
    let from_stdin = args.path == Path::new("-");
    if from_stdin && io::stdin().is_terminal() {
        return Err(Error::TerminalInput);
    }
    let progress = ImageBars::new(session.output);
    let options = ImportOptions {
        path: Source::from_argument(&args.path),
        reference: args.reference,
        platform: args.platform,
        force: args.force,
        progress: &progress,
    };
    let image = session.images()?.import(options)?;
    print_image(session, &image)
}
