//! `layer rm`: removes one layer or sandbox.

use windowsfilter::{Driver, LayerId};

use crate::error::Error;
use crate::session::Session;

/// Remove a layer or sandbox
///
/// Refused while it is mounted, while another layer stands on it, and while it is the top of an image.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ID of a layer or sandbox
    id: String,
}

#[derive(serde::Serialize)]
struct Removed<'a> {
    id: &'a LayerId,
}

/// Removes it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = session.layer(&args.id)?;
    let images = session.images()?.records()?;
    let references: Vec<String> =
        images.into_iter().filter(|image| image.top() == Some(&id)).map(|image| image.reference).collect();
    if !references.is_empty() {
        return Err(Error::TopOfImage { id: id.to_string(), references });
    }
    session.store.remove(&id)?;
    session.output.print(&Removed { id: &id }, |_| Ok(()))
}
