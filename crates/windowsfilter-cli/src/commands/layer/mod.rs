//! `layer …`: single layers and sandboxes.

mod apply;
mod changes;
mod diff;
mod expand;
mod inspect;
mod ls;
mod rm;
mod verify;

use crate::error::Error;
use crate::session::Session;

/// Work with single layers and sandboxes
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "each command's help is at its arguments")]
pub(crate) enum Command {
    Apply(apply::Args),
    Diff(diff::Args),
    Changes(changes::Args),
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Inspect(inspect::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Verify(verify::Args),
    Expand(expand::Args),
}

/// Runs one of them.
pub(crate) fn run(session: &Session, command: Command) -> Result<(), Error> {
    match command {
        Command::Apply(args) => apply::run(session, &args),
        Command::Diff(args) => diff::run(session, &args),
        Command::Changes(args) => changes::run(session, &args),
        Command::Ls(args) => ls::run(session, &args),
        Command::Inspect(args) => inspect::run(session, &args),
        Command::Rm(args) => rm::run(session, &args),
        Command::Verify(args) => verify::run(session, &args),
        Command::Expand(args) => expand::run(session, &args),
    }
}
