//! `cleanup`: finishes interrupted work.

use crate::error::Error;
use crate::session::Session;

/// Finish interrupted removals and drop interrupted imports
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(serde::Serialize)]
struct Done {}

/// Cleans up.
pub(crate) fn run(session: &Session, _args: &Args) -> Result<(), Error> {
    session.store.clean_up()?;
    session.output.print(&Done {}, |_| Ok(()))
}
