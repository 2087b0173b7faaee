//! The host operations on systems other than Linux: errors that say so. Everything else of the portable
//! engine works.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::view::View;
use crate::cancel::Cancel;
use crate::diff_options::DiffOptions;
use crate::driver::Change;
use crate::engine::{Guard, Layer, Place};
use crate::error::Error;
use crate::findings::Leftover;
use crate::limits::DiffLimits;
use crate::temporary::Temporaries;

fn unsupported<T>(what: String) -> Result<T, Error> {
    Err(Error::Unsupported { what, needs: "Linux" })
}

pub(super) fn create_sandbox(_: &Path, image: &Path, _: u64, _: &Cancel) -> Result<(), Error> {
    unsupported(format!("making the sandbox {}", image.display()))
}

pub(super) fn expand(sandbox: &Place, _: u64, _: &Temporaries) -> Result<(), Error> {
    unsupported(format!("expanding the sandbox {}", sandbox.id))
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn check_file_system(_: &Path, _: &Cancel) -> Result<(), Error> {
    Ok(())
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn leftovers(_: &Path, _: bool) -> Result<Vec<Leftover>, Error> {
    Ok(Vec::new())
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn clean_up(_: &Path) -> Result<(), Error> {
    Ok(())
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn file_system(_: &Path) -> Result<Option<String>, Error> {
    Ok(None)
}

pub(super) fn activate(layer: &Layer, _: &Path) -> Result<(), Error> {
    unsupported(format!("mounting {}", layer.place.id))
}

pub(super) fn prepare(sandbox: &Layer) -> Result<(), Error> {
    unsupported(format!("mounting {}", sandbox.place.id))
}

pub(super) fn mount_path(layer: &Layer) -> Result<PathBuf, Error> {
    unsupported(format!("mounting {}", layer.place.id))
}

/// No sandbox can be prepared here, so there is nothing to do.
pub(super) fn unprepare(_: &Place) -> Result<(), Error> {
    Ok(())
}

/// No layer can be active here, so there is nothing to do.
pub(super) fn deactivate(_: &Place) -> Result<(), Error> {
    Ok(())
}

/// No layer can be active here, so there is nothing to do.
pub(super) fn detach(_: &Place) -> Result<(), Error> {
    Ok(())
}

/// No sandbox can be prepared here, so none is frozen.
pub(super) fn thaw(_: &Place) -> Result<(), Error> {
    Ok(())
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn is_mounted(_: &Path) -> Result<bool, Error> {
    Ok(false)
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn has_mounts(_: &Place) -> Result<bool, Error> {
    Ok(false)
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn in_use(_: &Place) -> Result<Option<String>, Error> {
    Ok(None)
}

#[allow(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(super) fn stays_in_use(_: &Place) -> Result<Option<String>, Error> {
    Ok(None)
}

pub(super) fn bind(path: &Path, _: &Path) -> Result<(), Error> {
    unsupported(format!("showing {} elsewhere", path.display()))
}

pub(super) fn unbind(_: &Path) -> Result<(), Error> {
    Ok(())
}

pub(super) fn read_sandbox(
    sandbox: &Layer,
    _: View,
    _: DiffOptions,
    _: Guard,
    _: &Cancel,
) -> Result<Box<dyn Read + Send>, Error> {
    unsupported(format!("reading sandbox {}", sandbox.place.id))
}

pub(super) fn sandbox_changes(
    sandbox: &Layer,
    _: &View,
    _: &DiffLimits,
    _: &Cancel,
) -> Result<Vec<Change>, Error> {
    unsupported(format!("reading sandbox {}", sandbox.place.id))
}

pub(super) fn changed_bytes(sandbox: &Layer, _: &DiffLimits, _: &Cancel) -> Result<u64, Error> {
    unsupported(format!("reading sandbox {}", sandbox.place.id))
}
