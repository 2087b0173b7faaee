//! `cargo xtask mutants`: changes the code one place at a time, and shows the changes that no test of its
//! crate notices.
//!
//! cargo-mutants works on a copy of the workspace, with a build directory of its own, and writes its
//! results to `target/mutants.out`. It takes hours for a crate, so it is not part of `.ci/run`: shards
//! divide the work. Test code, benchmarks and code that only Windows compiles are left out.

use std::process::Command;

use crate::tools::cargo_mutants;
use programs::error::Result;
use programs::process::{find, run as run_command};
use programs::workspace;

use crate::{packages, test};

/// Shortest timeout of a test run, seconds, after which a mutant counts as caught because it hangs: a
/// loaded machine is slower than in the first run.
const MINIMUM_TIMEOUT: &str = "120";

/// Files whose mutants are irrelevant.
const EXCLUDED: [&str; 4] = ["**/tests/**", "**/tests.rs", "**/windows/**", "**/no_host.rs"];

/// Functions whose mutants are irrelevant: debug output.
const EXCLUDED_FUNCTIONS: [&str; 1] = ["impl (fmt::)?Debug for"];

/// Change the code one place at a time, and show which changes no test notices.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crate whose code is changed, and whose tests run.
    #[arg(short, long, value_name = "CRATE")]
    package: String,
    /// Only the Kth of N parts, counted from 0.
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Only these files, as in `crates/wclayer/src/security/**`.
    #[arg(long, value_name = "GLOB")]
    file: Vec<String>,
    /// Further arguments of cargo-mutants, as in `--list`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs cargo-mutants.
///
/// # Errors
/// A mutant is missed, the tests fail without any, or the tests' tools cannot be installed.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::ensure()?;
    let mut mutants = Command::new(cargo_mutants()?);
    mutants.current_dir(workspace::root()).args(["mutants", "--package", &args.package]);
    mutants.args(["--output", "target", "--no-shuffle", "--minimum-test-timeout", MINIMUM_TIMEOUT]);
    let runner = if find("cargo-nextest").is_some() { "nextest" } else { "cargo" };
    mutants.args(["--test-tool", runner]);
    // Deny-level lints would catch mutants that no test catches.
    mutants.arg("--cap-lints=true");
    mutants.args(EXCLUDED.iter().flat_map(|glob| ["--exclude", glob]));
    mutants.args(EXCLUDED_FUNCTIONS.iter().flat_map(|function| ["--exclude-re", function]));
    mutants.args(args.shard.iter().flat_map(|shard| ["--shard", shard]));
    mutants.args(args.file.iter().flat_map(|file| ["--file", file]));
    run_command(mutants.args(&args.arguments).envs(test::tools()?))
}
