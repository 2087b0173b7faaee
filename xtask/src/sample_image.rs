//! `cargo xtask sample-image`: the command line of [`crate::sample`].

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::sample::{self, Compression, Format, Spec};

/// Write a realistic Windows image made from a seed: the same arguments give the same bytes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write: a directory for the OCI layout, else a file. Must not exist.
    out: PathBuf,
    /// What everything random follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Files, directories, links and whiteouts in all layers together. At least what every layer must have.
    #[arg(long, default_value_t = 1000)]
    entries: usize,
    /// Bytes of content in all layers together, about. [default: 20000 an entry]
    #[arg(long)]
    bytes: Option<u64>,
    /// Layers, the base included.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    layers: u16,
    /// What to write.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// How to compress layers. The older docker-archive always holds plain layers.
    #[arg(long, value_enum, default_value_t)]
    compress: Compression,
    /// Mark the base layer as nondistributable, with URLs.
    #[arg(long)]
    foreign: bool,
    /// Fill the base layer with real Windows programs from Debian's packages. Depends on the packages'
    /// versions.
    #[arg(long)]
    real_binaries: bool,
    /// The image's name.
    #[arg(long = "ref", default_value = "sample:latest")]
    reference: String,
    /// Print digests and sizes as JSON.
    #[arg(long)]
    json: bool,
}

/// Writes the image and says what is in it.
///
/// # Errors
/// When it cannot be written.
pub fn run(args: &Args) -> Result<()> {
    if args.real_binaries {
        crate::packages::ensure()?;
    }
    let spec = Spec {
        seed: args.seed,
        entries: args.entries,
        bytes: args.bytes.unwrap_or(args.entries as u64 * 20_000),
        layers: usize::from(args.layers),
        compression: args.compress,
        foreign: args.foreign,
        real_binaries: args.real_binaries,
        reference: args.reference.clone(),
        format: args.format,
    };
    let start = Instant::now();
    let summary = sample::write(&spec, &args.out)?;
    if args.json {
        let text = serde_json::to_string_pretty(&summary)
            .map_err(|source| Error::Json { what: "summary".into(), source })?;
        println!("{text}");
        return Ok(());
    }
    for layer in &summary.layers {
        let d = &layer.digests;
        println!(
            "{:>7} entries {:>13} bytes of tar {:>13} in the blob  {}",
            layer.entries, d.tar_size, d.size, d.diff_id
        );
    }
    println!(
        "{}: manifest {} in {:.1} s",
        args.out.display(),
        summary.manifest,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
