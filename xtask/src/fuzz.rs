//! `cargo xtask fuzz`: builds the fuzz targets in `fuzz/` for coverage with the present toolchain, and runs
//! each for a while.
//!
//! `fuzz/` has the layout of cargo-fuzz, so `cargo +nightly fuzz run TARGET` works as well. This task needs
//! no other toolchain: it uses cargo-fuzz's flags that stable compilers accept, without a sanitizer, which
//! safe Rust does not need. Inputs come from `fuzz/corpus`, from the vectors, and from earlier runs, all in
//! `target/fuzz/corpus`. `fuzz/regressions` has every input that once broke something; it runs first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use programs::error::{Error, IoContext, Result};
use programs::process::{output, run as run_command, run_unannounced};
use programs::workspace::{self, cargo};

use crate::product::{Profile, TESTBED};

/// Run the fuzz targets for a while each.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these targets. [default: all]
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Targets that run at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Of the random choices: the same inputs are tried again, as far as time goes. [default: another each
    /// time]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    seed: Option<u32>,
    /// Afterwards keep the smallest set of inputs with the same coverage in fuzz/corpus, as far as there is
    /// room.
    #[arg(long)]
    minimise: bool,
}

/// cargo-fuzz's flags for rustc, without the sanitizer.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";
const TRIPLE: &str = concat!("x86_64", "-unknown-linux-gnu");
/// Longest input, bytes: a tar with some entries.
const LONGEST: u32 = 64 << 10;
/// Longest input of targets with large documents.
const LONGEST_DOCUMENT: u32 = 16 << 20;
/// The targets with large documents.
const OF_DOCUMENTS: [&str; 3] = ["docker_store", "image_documents", "sandbox_attributes"];

/// Builds and runs.
///
/// # Errors
/// A target does not build, or finds something: its output names the input.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = args.targets.iter().find(|target| !all.contains(target)) {
        return Err(Error::Unexpected(format!("no fuzz target {unknown:?}; there are: {}", all.join(", "))));
    }
    let wanted = if args.targets.is_empty() { all } else { args.targets.clone() };
    build()?;
    wanted.iter().try_for_each(|target| regressions(target))?;
    corpora("fill-corpora", &work_dir().join("corpus"), &wanted)?;
    let failures = run_all(&wanted, args)?;
    if !failures.is_empty() {
        return Err(Error::Unexpected(format!("fuzz targets failed:\n{}", failures.join("\n"))));
    }
    if args.minimise {
        wanted.iter().try_for_each(|target| minimise(target))?;
        corpora("keep-corpora", &minimised(), &wanted)?;
    }
    Ok(())
}

fn fuzz_dir() -> PathBuf {
    workspace::root().join("fuzz")
}

fn work_dir() -> PathBuf {
    workspace::target_dir().join("fuzz")
}

fn targets() -> Result<Vec<String>> {
    let dir = fuzz_dir().join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).at(&dir)? {
        let path = entry.at(&dir)?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--locked", "--release", "--bins", "--target", TRIPLE]);
    build.arg("--manifest-path").arg(fuzz_dir().join("Cargo.toml")).arg("--target-dir").arg(work_dir());
    run_command(build.env("RUSTFLAGS", COVERAGE))
}

fn program(target: &str) -> Command {
    Command::new(work_dir().join(TRIPLE).join("release").join(target))
}

fn corpus(target: &str) -> PathBuf {
    work_dir().join("corpus").join(target)
}

/// Runs the inputs that once broke the target.
fn regressions(target: &str) -> Result<()> {
    let dir = fuzz_dir().join("regressions").join(target);
    if dir.is_dir() { output(program(target).arg("-runs=0").arg(&dir)).map(drop) } else { Ok(()) }
}

/// Runs the targets, a few at a time, and returns the output of those with findings.
fn run_all(targets: &[String], args: &Args) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for some in targets.chunks(args.jobs.max(1)) {
        println!("fuzzing {} for {} s", some.join(", "), args.seconds);
        let results: Vec<Result<String>> = std::thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|target| scope.spawn(|| fuzz(target, args))).collect();
            running
                .into_iter()
                .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        failures.extend(results.into_iter().filter_map(|result| result.err().map(|error| error.to_string())));
    }
    Ok(failures)
}

fn fuzz(target: &str, args: &Args) -> Result<String> {
    let artifacts = work_dir().join("artifacts").join(target);
    fs::create_dir_all(&artifacts).at(&artifacts)?;
    let mut fuzz = program(target);
    fuzz.args([&longest(target), "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    fuzz.arg(format!("-max_total_time={}", args.seconds));
    fuzz.args(args.seed.map(|seed| format!("-seed={seed}")));
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display()));
    output(fuzz.arg(corpus(target)))
}

fn longest(target: &str) -> String {
    let bytes = if OF_DOCUMENTS.contains(&target) { LONGEST_DOCUMENT } else { LONGEST };
    format!("-max_len={bytes}")
}

/// Merges all inputs into the smallest corpus.
fn minimise(target: &str) -> Result<()> {
    let fresh = minimised().join(target);
    if fresh.exists() {
        fs::remove_dir_all(&fresh).at(&fresh)?;
    }
    fs::create_dir_all(&fresh).at(&fresh)?;
    let mut merge = program(target);
    output(merge.args(["-merge=1", &longest(target)]).arg(&fresh).arg(corpus(target))).map(drop)
}

fn minimised() -> PathBuf {
    work_dir().join("minimised")
}

/// Lets the test bed write or keep the corpora of these targets below `dir`.
fn corpora(task: &str, dir: &Path, targets: &[String]) -> Result<()> {
    run_unannounced(Profile::Dev.command(&[TESTBED])?.arg(task).arg(dir).args(targets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_built() {
        let targets = targets().unwrap();
        let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
        for target in &targets {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is in no [[bin]]");
        }
    }
}
