//! Writing a layer from its tar (`writeLayer` of the original): what the child process does.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use hcs::{DriverInfo, Host, Privilege};

use super::layer_writer::LayerWriter;
use super::target::Target;
use super::{remove_transport, transport};
use crate::error::Error;
use crate::store::Paths;
use crate::temporary::Temporaries;

/// What restoring files with their security descriptors takes.
const PRIVILEGES: [Privilege; 3] = [Privilege::Security, Privilege::Backup, Privilege::Restore];
/// Bytes read from the tar at once.
const READ_SIZE: usize = 1 << 20;

/// Writes the layer `id` in `home`, whose directory is there, from `tar`, on top of the layers at `parents`,
/// nearest first. For a process that does nothing else: its privileges stay switched on. Returns how many
/// bytes the layer's files have.
///
/// # Errors
/// What Windows or the tar is at fault for, with the call or the entry. The service is told to finish only
/// what is complete; what was written before stays for the caller to destroy.
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

/// As [`write_layer`], in a process that has other things to do: its privileges are switched off again.
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

/// Only what ends in `commit` is ever finished by the service: an error before it gives the writer up.
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
