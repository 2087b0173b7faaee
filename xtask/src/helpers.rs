//! Tasks that are programs of other crates: builds them and passes the arguments on.

use programs::error::{Error, Result};
use programs::process::{is_root, run_unannounced};
use programs::workspace;

use crate::product::{COMMAND, HOST_CHECK, Profile, SAMPLES, TESTBED};
use crate::{packages, tools};

/// Arguments for the program; `--help` is its own.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Args {
    fn has(&self, option: &str) -> bool {
        self.arguments.iter().any(|argument| argument == option)
    }

    fn asks_for_help(&self) -> bool {
        self.has("--help") || self.has("-h")
    }
}

/// Kills, starves and races the tool.
///
/// # Errors
/// If there are findings, or nothing could be run.
pub(crate) fn torture(args: &Args) -> Result<()> {
    prepare(args, "torture mounts file systems")?;
    let mut torture = Profile::Dev.command(&[TESTBED, COMMAND])?;
    run_unannounced(torture.arg("torture").args(&args.arguments))
}

/// Measures the tool in the release build.
///
/// # Errors
/// If a contestant fails.
pub(crate) fn bench(args: &Args) -> Result<()> {
    prepare(args, "the benchmarks mount and empty caches")?;
    let mut bench = Profile::Release.command(&[TESTBED, COMMAND])?;
    if !args.asks_for_help() {
        bench.env("WINDOWSFILTER_CONTAINERD_2", tools::containerd_2()?);
    }
    run_unannounced(bench.arg("bench").args(&args.arguments))
}

fn prepare(args: &Args, why: &str) -> Result<()> {
    if args.asks_for_help() {
        return Ok(());
    }
    if !is_root() {
        return Err(Error::Missing(format!("{why}: run this as root")));
    }
    packages::ensure()
}

/// Writes an image.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn sample_image(args: &Args) -> Result<()> {
    if args.has("--real-binaries") {
        packages::ensure()?;
    }
    samples("sample-image", args)
}

/// Writes a Docker store.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn sample_docker_store(args: &Args) -> Result<()> {
    samples("sample-docker-store", args)
}

fn samples(task: &str, args: &Args) -> Result<()> {
    run_unannounced(Profile::Dev.command(&[SAMPLES])?.arg(task).args(&args.arguments))
}

/// Generates the code of containerd's services again.
///
/// # Errors
/// If a protocol is malformed.
pub(crate) fn grpc() -> Result<()> {
    run_unannounced(workspace::cargo().args(["run", "--locked", "--package", "grpc-code"]))
}

/// Checks this Windows.
///
/// # Errors
/// If this is not Windows, or a row does not hold.
pub(crate) fn windows_host_check(args: &Args) -> Result<()> {
    run_unannounced(Profile::Dev.command(&[HOST_CHECK, COMMAND])?.args(&args.arguments))
}
