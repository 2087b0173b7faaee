//! `cargo xtask bench`: our tool against others at the same work, and against the machine's limits.
//!
//! Every suite runs its contestants in turns, so that a noisy machine affects all alike. Compare medians
//! and ratios, not seconds of different runs. Inputs are [`sample_images`] images, the same on every
//! machine.

mod containerd;
mod import;
pub mod measure;
mod operations;
mod reading;
pub mod report;
pub mod store;

use std::path::{Path, PathBuf};

use programs::error::{Error, IoContext, Result};
use programs::mounts::unmount_below;
use programs::process::is_root;
use programs::workspace;

use report::{Machine, Suite};

/// Measure against other tools and write the results to target/bench.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Runs of each contestant.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Entries of the layer that is imported and read.
    #[arg(long, default_value_t = 70_000)]
    entries: usize,
    /// Bytes of content of that layer, about.
    #[arg(long, default_value_t = 1_400_000_000)]
    bytes: u64,
    /// Small images and fewer contestants: whether it works, not what it costs.
    #[arg(long)]
    quick: bool,
    /// Only these suites.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Which>,
    /// Where images and stores are put; on the file system that is measured. [default: target/bench]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measure this binary instead of one built from this repository.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Put the table into README.md, between its markers. Only what was measured in full belongs there.
    #[arg(long, conflicts_with_all = ["quick", "binary", "only"])]
    readme: bool,
}

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Compressed layer to mountable.
    Import,
    /// Mount, create, remove, commit.
    Operations,
    /// Walking and reading a mount.
    Reading,
    /// Import, mount and diff through containerd.
    Containerd,
}

/// The directories that suites work in.
pub(crate) struct Area {
    root: PathBuf,
    binary: PathBuf,
}

impl Area {
    fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// Runs the suites, writes their JSON and prints the table.
///
/// # Errors
/// If a contestant fails. Missed targets are in the table, not errors.
pub fn run(args: &Args) -> Result<()> {
    if !is_root() {
        return Err(Error::Missing("the benchmarks mount and empty caches: run them as root".into()));
    }
    let args = &args.scaled();
    let results = workspace::target_dir().join("bench");
    let parent = args.dir.clone().unwrap_or_else(|| results.clone());
    std::fs::create_dir_all(&parent).at(&parent)?;
    let dir = tempfile::Builder::new().prefix("area-").tempdir_in(&parent).at(&parent)?;
    let binary = args.binary.clone().map_or_else(crate::command_beside, Ok)?;
    let area = Area { root: dir.path().to_owned(), binary };
    let suites = run_suites(args, &area, &results);
    unmount_below(area.root());
    let suites = suites?;
    let table = report::table(&suites, &Machine::this());
    println!("{table}");
    if args.readme {
        report::into_document(&workspace::root().join("README.md"), &table)?;
    }
    Ok(())
}

fn run_suites(args: &Args, area: &Area, results: &Path) -> Result<Vec<Suite>> {
    type Runner = fn(&Args, &Area) -> Result<Suite>;
    let all: [(Which, Runner); 4] = [
        (Which::Import, import::run),
        (Which::Operations, operations::run),
        (Which::Reading, reading::run),
        (Which::Containerd, containerd::run),
    ];
    let mut suites = Vec::new();
    for (which, runner) in all {
        if args.only.is_empty() || args.only.contains(&which) {
            eprintln!("{which:?}:");
            let suite = runner(args, area)?;
            report::write_json(results, &suite, &Machine::this())?;
            suites.push(suite);
        }
    }
    Ok(suites)
}

impl Args {
    /// The arguments with `--quick` applied.
    fn scaled(&self) -> Self {
        let (entries, bytes) = if self.quick { (3000, 60_000_000) } else { (self.entries, self.bytes) };
        Self {
            entries,
            bytes,
            only: self.only.clone(),
            dir: self.dir.clone(),
            binary: self.binary.clone(),
            ..*self
        }
    }
}
