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
use crate::session::Opening;

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
pub(crate) fn run(store: Opening<'_>, command: Command) -> Result<(), Error> {
    match command {
        Command::Apply(args) => apply::run(&store.importing(args.limits, args.force).open()?, &args),
        Command::Diff(args) => diff::run(&store.limits(args.limits).open()?, &args),
        Command::Changes(args) => changes::run(&store.limits(args.limits).open()?, &args),
        Command::Ls(args) => ls::run(&store.open()?, &args),
        Command::Inspect(args) => inspect::run(&store.open()?, &args),
        Command::Rm(args) => rm::run(&store.open()?, &args),
        Command::Verify(args) => {
            // Before it opens the store: naming nothing is wrong usage everywhere.
            args.check()?;
            verify::run(&store.open()?, &args)
        }
        Command::Expand(args) => expand::run(&store.open()?, &args),
    }
}
