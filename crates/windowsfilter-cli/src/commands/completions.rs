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
    clap_complete::generate(args.shell, &mut shown(&crate::command()), "windowsfilter", &mut script);
    io::stdout().lock().write_all(&script).map_err(Error::Stdout)
}

/// The command without what its help hides: scripts would offer it.
fn shown(command: &clap::Command) -> clap::Command {
    let mut copy = clap::Command::new(command.get_name().to_owned())
        .visible_aliases(command.get_visible_aliases().map(str::to_owned).collect::<Vec<_>>())
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).map(shown));
    if let Some(about) = command.get_about() {
        copy = copy.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        copy = copy.version(version.to_owned());
    }
    copy
}
