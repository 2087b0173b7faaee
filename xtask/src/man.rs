//! `cargo xtask man`: writes manual pages with an example of the command's crate, which has the command
//! line's definition.

use std::path::PathBuf;

use programs::error::Result;
use programs::process::run as run_command;
use programs::workspace;

use crate::product::COMMAND_PACKAGE;

/// Write a manual page for the tool and each of its commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the pages are put. [default: target/man]
    dir: Option<PathBuf>,
}

/// Writes the pages and prints their place.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let dir = args.dir.clone().unwrap_or_else(|| workspace::target_dir().join("man"));
    // The example runs at the top of the repository, but `dir` is relative to here.
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    let mut example = workspace::cargo();
    run_command(example.args(["run", "--package", COMMAND_PACKAGE, "--example", "man", "--"]).arg(&dir))
}
