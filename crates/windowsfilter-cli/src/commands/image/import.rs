//! `image import`: an image comes into the store.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use windowsfilter_image::{ImportOptions, Platform, Reference, Source};

use super::print_image;
use crate::error::{Error, IoContext};
use crate::limits::LimitArguments;
use crate::progress::ImageBars;
use crate::session::Session;

/// Import an image: every digest is checked, nothing is unpacked
///
/// PATH is an OCI layout directory, an OCI archive, an archive written by `docker save`, or what skopeo
/// writes as `dir:`; archives and layers may be compressed. Layers that are in the store already are not read
/// again. The image gets all names that its source has for it, or the one of --ref.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the image is; `-` reads an archive from standard input
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// Which of several images to import: its name, its tag, or the beginning of its digest [default: the one
    /// that --ref names, or the only one]
    #[arg(long, value_name = "NAME")]
    select: Option<String>,
    /// Name of the image [default: all names that the source has for it]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<Reference>,
    /// Which of several platforms to import: OS/ARCHITECTURE[:OSVERSION] [default: the first for Windows]
    #[arg(long)]
    platform: Option<Platform>,
    /// Import an image that is not for Windows, and layers without any files for Windows
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep the layers' compressed blobs, so that the image is exported exactly as it was imported
    #[arg(long)]
    keep_blobs: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
}

/// Imports it and prints its IDs.
pub(crate) fn run(session: &Session, args: Args) -> Result<(), Error> {
    let from_stdin = args.path == Path::new("-");
    if from_stdin && io::stdin().is_terminal() {
        return Err(Error::TerminalInput);
    }
    let progress = ImageBars::new(session.output);
    let path = if from_stdin {
        let stdin = session.store.cancel().pipe(|| Ok(io::stdin())).at("read", "standard input")?;
        Source::Stream(Box::new(stdin))
    } else {
        Source::Path(args.path)
    };
    let options = ImportOptions {
        select: args.select,
        reference: args.reference,
        platform: args.platform,
        force: args.force,
        keep_blobs: args.keep_blobs,
        progress: &progress,
        ..ImportOptions::new(path)
    };
    let image = session.images()?.import(options)?;
    print_image(session, &image)
}
