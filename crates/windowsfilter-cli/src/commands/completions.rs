//! `completions`: scripts that complete commands in a shell.

use std::io::{self, Write};

use crate::error::Error;
use crate::output::Output;

/// Print a script that completes commands in a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell to write for
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, json: bool) -> Result<(), Error> {
    Output::new(json, false).no_json("completions")?;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::command(), "windowsfilter", &mut script);
    io::stdout().lock().write_all(&script).map_err(Error::Stdout)
}
