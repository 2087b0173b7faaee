//! `create`: a sandbox.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use windowsfilter::metadata::StreamForm;
use windowsfilter::{Digest, LayerId, StorageOptions};

use crate::error::Error;
use crate::session::Session;
use crate::values;

/// Create a sandbox: a writable layer on top of an image or layer
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Image reference or layer ID to create the sandbox on
    #[arg(value_name = "REF|ID")]
    target: String,
    /// ID of the sandbox [default: a random one]
    #[arg(long, value_name = "ID", value_parser = values::new_id)]
    name: Option<LayerId>,
    /// Capacity of the sandbox, as in 20GB; units are binary [default: 127GB]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    size: Option<u64>,
    /// How streams are stored in the attributes of its files: `samba`, with the NUL that Samba's
    /// streams_xattr puts after them, or `plain`, as the kernel's SMB server reads them
    #[arg(long, value_name = "FORM", default_value_t, value_parser = values::stream_form)]
    pub(crate) streams: StreamForm,
}

#[derive(serde::Serialize)]
struct Created<'a> {
    id: &'a LayerId,
}

/// Creates it and prints its ID.
pub(crate) fn run(session: &Session, args: &Args) -> Result<(), Error> {
    let id = match &args.name {
        Some(name) => name.clone(),
        None => random_id()?,
    };
    let options = StorageOptions { size: args.size.filter(|&size| size != 0) };
    match session.images()?.create_sandbox(&args.target, &id, options) {
        Err(windowsfilter_image::Error::Nothing { .. }) => return Err(session.no_such_target(&args.target)?),
        other => other?,
    }
    session.output.print(&Created { id: &id }, |out| writeln!(out, "{id}"))
}

/// 64 hexadecimal digits, as Docker names containers.
fn random_id() -> Result<LayerId, Error> {
    // The keys of a `RandomState` come from the system's random numbers; the process keeps its own first
    // ones.
    let random = || RandomState::new().build_hasher().finish().to_le_bytes();
    let moment = std::time::SystemTime::now();
    let seed = format!("{:?} {} {moment:?}", (random(), random(), random(), random()), std::process::id());
    Ok(LayerId::new(Digest::of(seed.as_bytes()).hex())?)
}
