//! `image rm`: an image goes, and the layers only it needs.

use crate::error::Error;
use crate::human;
use crate::session::Session;

/// Remove an image, and the layers that nothing else needs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference, or the beginning of the ID of an image with one reference
    #[arg(value_name = "REF")]
    reference: String,
}

/// Removes it and prints the reference and the layers that went with it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let removed = session.images()?.remove(&args.reference)?;
    session.output.print(&removed, |out| {
        writeln!(out, "image {}", human::name(removed.reference.as_bytes()))?;
        removed.layers.iter().try_for_each(|id| writeln!(out, "layer {id}"))
    })
}
