//! The utility VM of a layer with parents. Windows Server 2016 takes a utility VM from one layer only, so the
//! layer gets a clone of its nearest parent's, made of hard links, and its changes are applied to the clone.
//!
//! Source: `initUtilityVM`, `cloneTree` and `copyFileWithMetadata` in hcsshim `internal/wclayer/legacy.go`.

use std::io;

use hcs::{BackupTarget, FileStatus, Host, RelativePath, Tree};

use super::directory_times::DirectoryTimes;
use super::target::Target;
use super::{boot_store, paths};
use crate::error::Error;

/// Creates `UtilityVM` in `layer`, with a clone of `parent`'s `UtilityVM\Files`.
pub(super) fn clone<T: Tree>(parent: &T, layer: &T) -> io::Result<()> {
    layer.make_directory(&paths::known("UtilityVM"))?;
    let files = paths::known(r"UtilityVM\Files");
    parent.refuse_reparse_point(&files)?;
    let mut directories = DirectoryTimes::default();
    clone_path(parent, layer, &files, &mut directories)?;
    Ok(directories.apply(layer)?)
}

fn clone_path<T: Tree>(
    parent: &T,
    layer: &T,
    path: &RelativePath,
    directories: &mut DirectoryTimes,
) -> io::Result<()> {
    let status = parent.status(path)?;
    // Copy a file that will be changed, so that the parent's stays; directories and reparse points cannot be
    // linked.
    if !status.is_directory() && !status.is_reparse_point() && !boot_store::is_changed(&paths::bytes(path)) {
        return Ok(layer.link(path, parent, path)?);
    }
    copy(parent, layer, path, &status)?;
    if status.is_directory() {
        directories.remember(path.clone(), status.info);
        if !status.is_reparse_point() {
            let mut names = parent.list(path)?;
            names.sort_unstable();
            for name in names {
                clone_path(parent, layer, &path.join(&name)?, directories)?;
            }
        }
    }
    Ok(())
}

/// Copies one file, directory or reparse point with all its metadata and streams.
fn copy<T: Tree>(parent: &T, layer: &T, path: &RelativePath, status: &FileStatus) -> io::Result<()> {
    let target = if status.is_directory() { BackupTarget::NewDirectory } else { BackupTarget::NewFile };
    let mut from = parent.backup_read(path, true)?;
    let mut to = layer.backup_write(path, target, &status.info, true)?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}

/// Makes `path` a directory in the clone. An existing directory stays; anything else is replaced.
pub(super) fn make_directory<T: Tree>(layer: &T, path: &RelativePath) -> io::Result<()> {
    match layer.status(path) {
        Ok(status) if status.is_directory() && !status.is_reparse_point() => return Ok(()),
        Ok(_) => layer.remove_tree(path)?,
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(layer.make_directory(path)?)
}

/// Removes a file of the clone, which may be a hard link to the parent's, before another file replaces it.
pub(super) fn make_room<T: Tree>(layer: &T, path: &RelativePath) -> io::Result<()> {
    match layer.remove(path) {
        Err(error) if error.is_not_found() => Ok(()),
        other => Ok(other?),
    }
}

/// Deletes a path that the clone has from the parent's utility VM; it must exist.
pub(super) fn remove<T: Tree>(layer: &T, path: &RelativePath) -> io::Result<()> {
    layer.status(path)?;
    Ok(layer.remove_tree(path)?)
}

/// Has the service make the utility VM's disks of its files, once all of them are written.
pub(super) fn process<H: Host>(host: &H, layer: &H::Tree, target: &Target<'_>) -> Result<(), Error> {
    let name = paths::known("UtilityVM");
    layer.refuse_reparse_point(&name).map_err(|error| target.error(error))?;
    host.process_utility_image(&target.dir().join("UtilityVM")).map_err(|error| target.error(error))
}
