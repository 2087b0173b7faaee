//! `umount`: undoes one `mount`.

use std::ffi::OsString;

use windowsfilter::LayerId;

use crate::error::Error;
use crate::session::Session;

/// Undo one mount; the last one unmounts
///
/// Of several things with this name, umount takes one that is mounted: first the layer or sandbox with this
/// ID, then the image, then the mount at this path.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference, layer ID or sandbox ID, or the directory where it is mounted
    #[arg(value_name = "REF|ID|PATH", value_hint = clap::ValueHint::DirPath)]
    target: OsString,
}

#[derive(serde::Serialize)]
struct Unmounted<'a> {
    id: &'a LayerId,
    /// Mounts that are left.
    mounted: u64,
}

/// Unmounts it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let (id, path) = session.mounted_target(&args.target)?;
    session.store.unmount_from(&id, path.as_deref())?;
    let mounted = session.store.mounts(&id)?.count;
    session.output.print(&Unmounted { id: &id, mounted }, |_| Ok(()))
}
