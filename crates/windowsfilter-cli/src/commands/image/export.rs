//! `image export`: an image that Windows hosts and other tools load.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use windowsfilter::LayerId;
use windowsfilter_image::{Compression, ExportOptions, Exported, Format};

use crate::error::Error;
use crate::human;
use crate::interrupt;
use crate::progress::ImageBars;
use crate::session::Session;

/// Write an image for Windows hosts and other tools
///
/// An image that was imported with --keep-blobs is exported unchanged: the same manifest, the same blobs.
/// Otherwise layers are compressed again and get new digests; a note names them. Foreign layers stay foreign:
/// an OCI layout lists them with their URLs, and leaves out those whose blob is not in the store. A
/// docker-archive contains them, as one of `docker save` does.
///
/// PATH appears when it is complete. A killed export (SIGKILL) leaves a file or directory `.export-…` beside
/// it; delete that.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference
    #[arg(value_name = "REF")]
    reference: String,
    /// File or directory to write; must not exist. `-` writes an archive to standard output
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// Format to write
    #[arg(long, value_enum, default_value_t)]
    format: FormatName,
    /// How to compress layers [default: as they were imported; gzip for layers that came from no image]
    #[arg(long, value_enum)]
    compress: Option<CompressionName>,
    /// Export foreign (nondistributable) layers as ordinary ones: pushing the image then publishes them
    #[arg(long)]
    include_nondistributable: bool,
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

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum CompressionName {
    /// No compression: each digest is the layer's diff ID
    None,
    /// Every tool reads it
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
    let options = ExportOptions {
        format: args.format.into(),
        compression: args.compress.map(Compression::from),
        include_nondistributable: args.include_nondistributable,
        progress: &bars,
    };
    if args.path == Path::new("-") {
        session.output.no_json("image export to standard output")?;
        // An OCI layout does not fit there anyway.
        if io::stdout().is_terminal() && options.format != Format::Oci {
            return Err(Error::TerminalOutput);
        }
        // The only files that it makes have no name.
        interrupt::finished();
        let exported = images.export_to(&args.reference, &mut io::stdout().lock(), &options);
        let exported = session.of_image(&args.reference, exported);
        return exported.map(|exported| notes(session, args, &exported)).map_err(|error| match error {
            // Said of our own output, and taken, as everywhere.
            Error::Image(windowsfilter_image::Error::Io { path, source, .. }) if path == Path::new("-") => {
                Error::Stdout(source)
            }
            other => other,
        });
    }
    let exported = session.of_image(&args.reference, images.export(&args.reference, &args.path, &options))?;
    drop(bars);
    notes(session, args, &exported);
    session.output.print(&exported, |out| writeln!(out, "{}", exported.digest))
}

/// Notes which layers are not exported as they were imported, unless the user asked for that.
fn notes(session: &Session, args: &Args, exported: &Exported) {
    let listed = |ids: &[LayerId]| {
        let ids: Vec<&str> = ids.iter().map(|id| human::short_id(id.as_str())).collect();
        ids.join(", ")
    };
    if args.compress.is_none() && !exported.recompressed.is_empty() {
        session.output.note(&format!(
            "compressed again, so their digests are not the imported ones: {} (`image import --keep-blobs` keeps the imported blobs)",
            listed(&exported.recompressed)
        ));
    }
    if !exported.left_out.is_empty() {
        session.output.note(&format!(
            "left out nondistributable layers whose blobs are not in the store: {} (--include-nondistributable exports them)",
            listed(&exported.left_out)
        ));
    }
}
