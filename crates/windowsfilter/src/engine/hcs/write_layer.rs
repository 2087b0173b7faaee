//! Writes a layer from its tar (`writeLayer` of the original). The child process runs this.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use hcs::{DriverInfo, Host, Privilege};

use super::layer_writer::LayerWriter;
use super::target::Target;
use super::{remove_transport, transport};
use crate::error::Error;
use crate::store::Paths;
use crate::temporary::Temporaries;

/// Privileges for restoring files with their security descriptors.
const PRIVILEGES: [Privilege; 3] = [Privilege::Security, Privilege::Backup, Privilege::Restore];
/// Size of the read buffer for the tar.
const READ_SIZE: usize = 1 << 20;

/// Writes the layer `id` in `home`, whose directory exists, from `tar`, on top of the layers at `parents`,
/// nearest first. For a process that does nothing else: its privileges stay enabled. Returns the total size
/// of the layer's files in bytes.
///
/// # Errors
/// A failure of Windows, naming the call, or bad data in the tar, naming the entry. The service finishes only
/// complete layers. The caller destroys what was written.
pub fn write_layer<H: Host>(
    host: &H,
    home: &Path,
    id: &str,
    parents: &[PathBuf],
    tar: impl Read,
) -> Result<u64, Error> {
    let info = DriverInfo::filter(home);
    let target = Target { info: &info, id, parents };
    host.enable_process_privileges(&PRIVILEGES).map_err(|error| target.error(error))?;
    write_named(host, &target, &Paths::beside_layers(home).temporaries(), tar)
}

/// Like [`write_layer`], in a process that also does other work: its privileges are disabled again.
pub(super) fn write_here<H: Host>(
    host: &H,
    target: &Target<'_>,
    temporaries: &Temporaries,
    tar: impl Read,
) -> Result<u64, Error> {
    host.enable_process_privileges(&PRIVILEGES).map_err(|error| target.error(error))?;
    let written = write_named(host, target, temporaries, tar);
    let disabled = host.disable_process_privileges(&PRIVILEGES).map_err(|error| target.error(error));
    match written {
        Ok(size) => disabled.map(|()| size),
        Err(error) => Err(error.with_undo(disabled)),
    }
}

fn write_named<H: Host>(
    host: &H,
    target: &Target<'_>,
    temporaries: &Temporaries,
    tar: impl Read,
) -> Result<u64, Error> {
    write(host, target, temporaries, tar).map_err(|error| error.about_layer("write", target.id))
}

/// The service finishes the layer only in `commit`; an error before that drops the writer.
fn write<H: Host>(
    host: &H,
    target: &Target<'_>,
    temporaries: &Temporaries,
    tar: impl Read,
) -> Result<u64, Error> {
    let tar = BufReader::with_capacity(READ_SIZE, tar);
    let dir = target.dir();
    let layer = host.open_tree(&dir).map_err(|error| target.error(error))?;
    if target.parents.is_empty() {
        return LayerWriter::base(host, &layer).write(tar, target);
    }
    let staging = transport(temporaries)?;
    let open = |path: &Path| host.open_tree(path).map_err(|error| target.error(error));
    let files = open(staging.path())?;
    let parents = target.parents.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut directory =
        super::transport_directory::TransportDirectory::for_import(&files, &layer, &parents[0]);
    let size =
        LayerWriter::delta(host, &mut directory, &layer, &parents, staging.path()).write(tar, target)?;
    // Open handles keep a directory from being removed.
    drop((files, parents));
    remove_transport(host, target.id, staging);
    Ok(size)
}
