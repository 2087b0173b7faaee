//! `layer rm`: removes layers or sandboxes.

use windowsfilter::LayerId;

use crate::commands::several;
use crate::error::Error;
use crate::session::Session;

/// Remove layers or sandboxes
///
/// A layer is refused while it is mounted, has layers on top, is the top of an image, or containerd uses it.
/// If some of several are refused, the others are still removed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// IDs of layers or sandboxes
    #[arg(value_name = "ID|REF", required = true)]
    ids: Vec<String>,
}

#[derive(serde::Serialize)]
struct Removed {
    id: LayerId,
}

/// Removes them.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    several::each(session, &args.ids, |name| remove(session, name), |_, _| Ok(()))
}

fn remove(session: &Session, name: &str) -> Result<Removed, Error> {
    let id = session.layer(name)?;
    let images = session.images()?.records()?;
    let references: Vec<String> =
        images.into_iter().filter(|image| image.top() == Some(&id)).map(|image| image.reference).collect();
    if !references.is_empty() {
        return Err(Error::TopOfImage { id: id.to_string(), references });
    }
    refuse_containerds(session, &id)?;
    session.store.remove(&id)?;
    Ok(Removed { id })
}

/// Refuses a layer that a server keeps for containerd, and names the snapshot.
#[cfg(target_os = "linux")]
fn refuse_containerds(session: &Session, id: &LayerId) -> Result<(), Error> {
    match windowsfilter_containerd::users(&session.store, id)?.into_iter().next() {
        Some(snapshot) => Err(Error::OfContainerd { id: id.to_string(), snapshot }),
        None => Ok(()),
    }
}

/// Only Linux has snapshots of containerd.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
fn refuse_containerds(_: &Session, _: &LayerId) -> Result<(), Error> {
    Ok(())
}
