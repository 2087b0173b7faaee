//! `cargo xtask torture`: proves that a store loses nothing under faults.
//!
//! Each part has a file; `check` has the checks after each run. `docs/torture.md` describes them for users.

pub mod area;
pub mod calls;
pub mod check;
pub mod crash;
pub mod depot;
pub mod full_disk;
pub mod lost_writes;
pub mod namespaces;
pub mod operations;
pub mod report;
pub mod state;
pub mod together;
pub mod tracer;

use std::time::{Duration, Instant};

use crate::command_beside;
use depot::Depot;
use operations::OPERATIONS;
use programs::error::{Error, Result};
use programs::process::is_root;
use tracer::Fault;

/// Kill, starve and race the tool, and see that the store survives.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// About how long it may take; points are then a sample. [default: until every point has been struck]
    #[arg(long)]
    minutes: Option<u64>,
    /// What the order of points and the random operations follow from. [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Crashes: only operations whose name contains this.
    #[arg(long)]
    operation: Option<String>,
    /// Crashes: only this point of the operation, from 0.
    #[arg(long)]
    point: Option<usize>,
    /// Crashes: only this fault.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// Torture this program. [default: the tool, built first]
    #[arg(long)]
    binary: Option<std::path::PathBuf>,
    /// Runs at the same time. [default: one a processor]
    #[arg(long)]
    jobs: Option<usize>,
}

/// What is done to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Struck at every call that changes something.
    Crash,
    /// Power cut: everything is lost that was not synced.
    LostWrites,
    /// No room left, or not writable, on every kind of file system.
    FullDisk,
    /// Many processes and threads at once.
    Together,
    /// Two mount namespaces that see the store at two paths.
    Namespaces,
}

/// A time limit.
#[derive(Clone, Copy, Debug)]
pub struct Budget(Option<Instant>);

impl Budget {
    /// A share of the given time, from now on.
    fn share(minutes: Option<u64>, percent: u64) -> Self {
        Self(minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60 * percent / 100)))
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// Runs the parts.
///
/// # Errors
/// If there are findings, or nothing could be run.
pub fn run(args: &Args) -> Result<()> {
    if !is_root() {
        return Err(Error::Missing("torture mounts file systems: run it as root".into()));
    }
    let binary = args.binary.clone().map_or_else(command_beside, Ok)?;
    let time =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let seed = args.seed.unwrap_or_else(time);
    println!("seed {seed}");
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let depot = Depot::new(binary)?;
    let wanted = |name: &str| args.operation.as_deref().is_none_or(|text| name.contains(text));
    let mut operations: Vec<_> = OPERATIONS.iter().filter(|operation| wanted(operation.name)).collect();
    for operation in &operations {
        if !operation.is_permitted()? {
            println!("left out: {}, for which this process lacks a capability", operation.name);
        }
    }
    operations.retain(|operation| operation.is_permitted().is_ok_and(|permitted| permitted));
    for operation in &operations {
        depot.prepare(operation)?;
    }
    let is_wanted = |part: Part| args.only.is_none_or(|only| only == part);
    let mut tables = Vec::new();
    if is_wanted(Part::Crash) {
        println!("\n== crashes: killed, or a call fails");
        let selection = crash::Selection {
            operations: operations.clone(),
            point: args.point,
            faults: args.fault.map_or_else(|| Fault::ALL.to_vec(), |fault| vec![fault]),
            seed,
            jobs,
            budget: &Budget::share(args.minutes, 55),
        };
        tables.push(("crashes", crash::run(&depot, &selection)?));
    }
    if is_wanted(Part::LostWrites) {
        println!("\n== power cuts: what was not synced is lost");
        let budget = Budget::share(args.minutes, 15);
        tables.push(("power cuts", lost_writes::run(&depot, &operations, &budget)?));
    }
    if is_wanted(Part::FullDisk) {
        println!("\n== full and read-only disks");
        let budget = Budget::share(args.minutes, 15);
        tables.push(("full disks", full_disk::run(&depot, &operations, seed, &budget)?));
    }
    for (name, table) in &tables {
        println!("\n{name}\n{table}");
    }
    let mut failures: u64 = tables.iter().map(|(_, table)| table.failures()).sum();
    if is_wanted(Part::Together) {
        println!("\n== {} processes and {} threads at once", together::PROCESSES, together::THREADS);
        let time = Duration::from_secs(args.minutes.map_or(120, |minutes| minutes * 60 * 10 / 100));
        let report = together::run(&depot, seed, time)?;
        println!("{report}");
        failures += report.problems.len() as u64;
    }
    if is_wanted(Part::Namespaces) {
        println!("\n== two mount namespaces, two paths, one store");
        let time = Duration::from_secs(args.minutes.map_or(60, |minutes| minutes * 60 * 5 / 100));
        let report = namespaces::run(&depot, seed, time)?;
        println!("{report}");
        failures += report.problems.len() as u64;
    }
    if failures > 0 {
        return Err(Error::Unexpected(format!("{failures} inconsistencies, seed {seed}")));
    }
    Ok(())
}
