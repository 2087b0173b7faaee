//! `cargo xtask sample-image` and `sample-docker-store`: the command line of the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use programs::error::{Error, Result, chain};
use sample_images::{Compression, Format, Spec, docker_store};

/// Write realistic images and stores made from a seed.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
enum Task {
    SampleImage(ImageArgs),
    SampleDockerStore(DockerStoreArgs),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::SampleImage(args) => write_image(&args),
        Task::SampleDockerStore(args) => docker_store::write(&args.out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Write a small data root as Docker on Windows has it, with one of everything that it is known to leave
/// behind.
#[derive(Debug, clap::Args)]
struct DockerStoreArgs {
    /// The directory to make.
    out: PathBuf,
}

/// Write a realistic Windows image made from a seed: the same arguments give the same bytes.
#[derive(Debug, clap::Args)]
struct ImageArgs {
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

/// Writes the image and prints a summary.
fn write_image(args: &ImageArgs) -> Result<()> {
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
    let summary = sample_images::write(&spec, &args.out)?;
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
