//! `image export`: an image that Windows hosts and other tools load.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use windowsfilter_image::{Compression, ExportOptions, Format};

use crate::error::Error;
use crate::progress::ImageBars;
use crate::session::Session;

/// Write an image for Windows hosts and other tools
///
/// PATH appears when it is complete. An export that is killed leaves a file or directory `.export-…` beside it, which may be removed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference
    #[arg(value_name = "REF")]
    reference: String,
    /// File or directory to write; must not exist. `-` writes an archive to standard output
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t)]
    format: FormatName,
    /// How to compress layers
    #[arg(long, value_enum, default_value_t)]
    compress: CompressionName,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum FormatName {
    /// An OCI layout: a directory
    #[default]
    Oci,
    /// An OCI layout in a tar
    OciArchive,
    /// What `docker load` reads
    DockerArchive,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum CompressionName {
    /// Not at all: the layers' digests are their diff IDs
    None,
    /// What everything reads
    #[default]
    Gzip,
    /// Smaller and faster
    Zstd,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Oci => Self::Oci,
            FormatName::OciArchive => Self::OciArchive,
            FormatName::DockerArchive => Self::DockerArchive,
        }
    }
}

impl From<CompressionName> for Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::None => Self::None,
            CompressionName::Gzip => Self::Gzip,
            CompressionName::Zstd => Self::Zstd,
        }
    }
}

/// Exports it and prints the manifest's digest.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let images = session.images()?;
    let bars = ImageBars::new(session.output);
    let options =
        ExportOptions { format: args.format.into(), compression: args.compress.into(), progress: &bars };
    if args.path == Path::new("-") {
        session.output.no_json("image export to standard output")?;
        // An OCI layout does not fit there anyway.
        if io::stdout().is_terminal() && options.format != Format::Oci {
            return Err(Error::TerminalOutput);
        }
        let exported = images.export_to(&args.reference, &mut io::stdout().lock(), &options);
        return exported.map(drop).map_err(|error| match error {
            // Said of our own output, and taken, as everywhere.
            windowsfilter_image::Error::Io { path, source, .. } if path == Path::new("-") => {
                Error::Stdout(source)
            }
            other => other.into(),
        });
    }
    let exported = images.export(&args.reference, &args.path, &options)?;
    session.output.print(&exported, |out| writeln!(out, "{}", exported.digest))
}
