//! `layer expand`: a larger sandbox.

use windowsfilter::LayerId;

use crate::error::Error;
use crate::human;
use crate::session::Session;
use crate::values;

/// Make a sandbox larger, mounted or not
///
/// A sandbox cannot shrink. Growing one that is mounted needs CAP_SYS_RESOURCE, which root in a container may
/// lack.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of a sandbox
    id: String,
    /// New capacity, as in 200GB; units are binary
    #[arg(value_parser = values::size)]
    size: u64,
}

#[derive(serde::Serialize)]
struct Expanded<'a> {
    id: &'a LayerId,
    size: u64,
}

/// Expands it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = session.sandbox(&args.id)?;
    session.store.expand(&id, args.size)?;
    let expanded = Expanded { id: &id, size: args.size };
    session.output.print(&expanded, |out| writeln!(out, "{id} holds {}", human::size(args.size)))
}
