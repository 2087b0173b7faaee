//! `layer verify`: reads a layer and compares it with its records.

use windowsfilter::{DiffId, LayerId};

use crate::error::Error;
use crate::session::Session;

/// Read all of a layer and check it against its digest and index
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of a layer
    id: String,
}

#[derive(serde::Serialize)]
struct Verified<'a> {
    id: &'a LayerId,
    diff_id: Option<DiffId>,
}

/// Verifies it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = session.layer(&args.id)?;
    session.store.verify(&id)?;
    let diff_id = session.store.record(&id)?.diff_id;
    session.output.print(&Verified { id: &id, diff_id }, |out| match diff_id {
        Some(diff_id) => writeln!(out, "layer {id} is intact: {diff_id}"),
        None => writeln!(out, "layer {id} is intact"),
    })
}
