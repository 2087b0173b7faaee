//! `image tag`: another name for an image.

use windowsfilter_image::Reference;

use crate::error::Error;
use crate::session::Session;

/// Give an image another name; a name in use moves to it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference
    #[arg(value_name = "REF")]
    reference: String,
    /// Its other name
    new: Reference,
}

#[derive(serde::Serialize)]
struct Tagged<'a> {
    #[serde(rename = "ref")]
    reference: &'a str,
}

/// Tags it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    session.of_image(&args.reference, session.images()?.tag(&args.reference, &args.new))?;
    session.output.print(&Tagged { reference: args.new.as_str() }, |_| Ok(()))
}
