//! The command line: the options of every command, and one command.

use crate::commands::Command;
use crate::global::Global;

/// Windows container images and layers on any host
///
/// Imports Windows images into a layer store, mounts them, records changes, and exports the result: the same
/// bytes that Docker on Windows would keep.
#[derive(Debug, clap::Parser)]
#[command(name = "windowsfilter", version, max_term_width = 100, propagate_version = false)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 in use, 5 data does not verify."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}
