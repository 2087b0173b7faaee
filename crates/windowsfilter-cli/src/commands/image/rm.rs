//! `image rm`: removes images, and the layers that only they need.

use crate::commands::several;
use crate::error::Error;
use crate::human;
use crate::session::Session;

/// Remove images, and the layers that nothing else needs
///
/// If some of several cannot be removed, the others still are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image references, or beginnings of the IDs of images with one reference
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
}

/// Removes them and prints each reference and the layers that went with it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let remove = |name: &str| session.of_image(name, session.images()?.remove(name));
    several::each(session, &args.references, remove, |removed, out| {
        writeln!(out, "image {}", human::name(removed.reference.as_bytes()))?;
        removed.layers.iter().try_for_each(|id| writeln!(out, "layer {id}"))
    })
}
