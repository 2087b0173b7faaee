//! `cargo xtask test`: everything that tests use is there first, then all of them run.
//!
//! Tests that mount need root: without it those with a containerd leave themselves out, and say so; the
//! others fail. CI must be root, so that nothing is left out there unnoticed.

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

/// What tests find by environment variables, because it is no part of the machine.
///
/// # Errors
/// When one of them can be neither found nor made.
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
/// When a test fails, when CI is not root, or when what tests need cannot be installed.
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
        // nextest leaves out the examples in the documentation.
        run_command(workspace::cargo().args(["test", "--doc", "--workspace"]).envs(tools()))?;
    }
    Ok(())
}
