//! The parts of the test bed that `cargo xtask` runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use programs::error::{Result, chain};
#[cfg(unix)]
use testbed::bench;
use testbed::corpus;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use testbed::torture;

/// The parts of the test bed that `cargo xtask` runs.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Measure against other tools and write the results to target/bench.
    #[cfg(unix)]
    Bench(bench::Args),
    /// Kill, starve and race the tool, and see that the store survives.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Torture(torture::Args),
    /// Put the seeds of fuzz targets, and the inputs kept for them, into DIR/TARGET.
    FillCorpora(Corpora),
    /// Keep the inputs in DIR/TARGET in the repository, instead of those that are kept.
    KeepCorpora(Corpora),
}

#[derive(clap::Args)]
struct Corpora {
    dir: PathBuf,
    #[arg(required = true)]
    targets: Vec<String>,
}

impl Corpora {
    fn each(&self, of_target: impl Fn(&str, &std::path::Path) -> Result<()>) -> Result<()> {
        self.targets.iter().try_for_each(|target| of_target(target, &self.dir.join(target)))
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse().part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(part: &Part) -> Result<()> {
    match part {
        #[cfg(unix)]
        Part::Bench(args) => bench::run(args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Part::Torture(args) => torture::run(args),
        Part::FillCorpora(corpora) => corpora.each(corpus::fill),
        Part::KeepCorpora(corpora) => corpora.each(corpus::keep),
    }
}
