//! `mount`: a view by the kernel's own file systems.

use std::path::PathBuf;

use windowsfilter::LayerId;
use windowsfilter::metadata::StreamForm;
use windowsfilter::support::JsonName;

use crate::error::{Error, IoContext};
use crate::session::Session;
use crate::values;

/// Mount an image or layer read-only, or a sandbox writable, and print where
///
/// Mounts are counted: each mount needs its own umount. A DIR takes one mount.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference, layer ID or sandbox ID
    #[arg(value_name = "REF|ID")]
    target: String,
    /// Existing directory where the view appears [default: a directory in the store]
    #[arg(long = "target", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    target_dir: Option<PathBuf>,
    /// How the first mount of an image or layer shows streams in attributes: `samba`, with the NUL that
    /// Samba's streams_xattr puts after them, or `plain`. A sandbox keeps the form it was created with
    #[arg(long, value_name = "FORM", default_value_t, value_parser = values::stream_form)]
    pub(crate) streams: StreamForm,
}

#[derive(serde::Serialize)]
struct Mounted<'a> {
    id: &'a LayerId,
    path: JsonName,
}

/// Mounts it.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = session.target(&args.target)?;
    if let Some(dir) = &args.target_dir {
        // A missing directory is "not found", as for every name that the user gives.
        dir.metadata().at("find mount point", dir)?;
    }
    let path = session.store.mount(&id, args.target_dir.as_deref())?;
    let mounted = Mounted { id: &id, path: JsonName::of_path(&path) };
    session.output.print(&mounted, |out| {
        // The very bytes, which a script passes on.
        out.write_all(mounted.path.as_bytes())?;
        writeln!(out)
    })
}
