//! `cargo xtask test`: installs everything that tests use, then runs all of them.
//!
//! Tests that mount need root: without it those with a containerd skip themselves with a message; the
//! others fail. CI must be root, so that no test is skipped unnoticed.

use std::path::PathBuf;

use programs::error::{Error, Result};
use programs::process::{find, is_root, run as run_command};
use programs::workspace;

use crate::{packages, tools};

/// Run all tests, with everything they need installed first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Arguments for the test runner, as in `-p wclayer` or a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Tools that tests find by environment variables, because they are not part of the machine.
///
/// # Errors
/// If one of them can be neither found nor built.
pub(crate) fn tools() -> Result<Vec<(&'static str, PathBuf)>> {
    let containerds = tools::containerds()?;
    Ok(vec![
        ("WINDOWSFILTER_FSCK_EROFS", tools::fsck_erofs()?),
        ("WINDOWSFILTER_CONTAINERD_1", containerds.v1),
        ("WINDOWSFILTER_CONTAINERD_2", containerds.v2),
        ("WINDOWSFILTER_REGISTRY", containerds.registry),
        ("WINDOWSFILTER_SNAPSHOTTER_SUITE", tools::snapshotter_suite()?),
        ("WINDOWSFILTER_DOCKER", tools::docker()?),
    ])
}

/// Runs the tests.
///
/// # Errors
/// A test fails, CI is not root, or the tests' tools cannot be installed.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        if workspace::is_ci() {
            return Err(Error::Missing(
                "CI must run as root: tests that mount would fail or be left out".into(),
            ));
        }
        println!("not root: tests with a containerd are left out, others that mount fail");
    }
    packages::ensure()?;
    let tools = tools()?;
    for (variable, path) in &tools {
        println!("{variable}={}", path.display());
    }
    let tools = || tools.iter().map(|(variable, path)| (variable, path));
    let runner: &[&str] = if find("cargo-nextest").is_some() { &["nextest", "run"] } else { &["test"] };
    let mut tests = workspace::cargo();
    tests.args(runner).envs(tools());
    if !args.arguments.is_empty() {
        return run_command(tests.args(&args.arguments));
    }
    run_command(tests.arg("--workspace"))?;
    if runner[0] == "nextest" {
        // nextest does not run the examples in the documentation.
        run_command(workspace::cargo().args(["test", "--doc", "--workspace"]).envs(tools()))?;
    }
    Ok(())
}
