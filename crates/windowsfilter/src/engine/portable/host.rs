//! The portable engine's host on Linux: mounts the trees that indexes describe, keeps the changes of
//! sandboxes and reads them.
//!
//! ```text
//! mounts/<id>/image/      the EROFS index of the chain; the view is its Files/
//!             storage/    sandboxes: sandbox.img
//!             view/       sandboxes: overlayfs of the two
//! ```

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use layer_mounts::linux::sandbox_image::Growth;
use layer_mounts::linux::sandbox_mount::{Sandbox, mount_sandbox, unmount_sandbox};
use layer_mounts::linux::snapshot::{self, SandboxView};
use layer_mounts::linux::{Holder, LinuxError};
use layer_mounts::linux::{bind, erofs_mount, in_use, mount_table, sandbox_image};

use super::template_record;
use super::view::View;
use super::{chain, sandbox_diff};
use crate::cancel::Cancel;
use crate::diff_options::DiffOptions;
use crate::driver::Change;
use crate::engine::stream::piped;
use crate::engine::{Guard, Layer, Place, StreamForm};
use crate::error::{Error, IoContext};
use crate::findings::{DIED, Leftover};
use crate::invariants::Invariant;
use crate::limits::DiffLimits;
use crate::lock;
use crate::record::LayerKind;
use crate::store::file;
use crate::temporary::Temporaries;

/// The directories in [`Place::mounts`].
const IMAGE: &str = "image";
const STORAGE: &str = "storage";
const VIEW: &str = "view";

pub(super) fn create_sandbox(
    templates: &Path,
    image: &Path,
    size: u64,
    cancel: &Cancel,
) -> Result<(), Error> {
    Ok(sandbox_image::create(templates, image, size, (template_record::write, cancel))?)
}

pub(super) fn expand(sandbox: &Place, size: u64, temporaries: &Temporaries) -> Result<(), Error> {
    let image = &sandbox.dir.join(file::SANDBOX);
    match sandbox_image::expand(image, size) {
        Ok(Growth::Done) => Ok(()),
        Ok(Growth::NeedsCopy) => {
            let copy = temporaries.file()?;
            sandbox_image::expand_copy(image, copy.path(), size, temporaries.cancel())?;
            copy.persist(image).map(drop)
        }
        Err(LinuxError::SandboxShrink { current, requested, .. }) => {
            Err(Error::SandboxShrink { id: sandbox.id.clone(), size: current, asked: requested })
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs ext4's own checker. If it is not installed, this only logs a warning.
pub(super) fn check_file_system(image: &Path, cancel: &Cancel) -> Result<(), Error> {
    match sandbox_image::check_file_system(image, cancel) {
        Err(error @ LinuxError::ToolMissing { .. }) => {
            tracing::warn!("{}: only the superblock was checked: {error}", image.display());
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Sandbox templates that were never finished or are damaged. `repair` removes the damaged ones.
pub(super) fn leftovers(templates: &Path, repair: bool) -> Result<Vec<Leftover>, Error> {
    let mut found = Vec::new();
    if let Some(template) = sandbox_image::unfinished_template(templates)? {
        found.push(Leftover::at(Invariant::UnfinishedTemplate, template.path.clone(), DIED));
    }
    let damaged = match template_record::damaged(templates, repair) {
        // A read-only store: the lock that keeps others from making a template cannot be taken. Templates may
        // be deleted at any time, so skip them and check the rest of the store.
        Err(LinuxError::System { source, .. }) if !repair && lock::cannot_write(&source) => {
            tracing::info!("the templates of sandboxes are not checked: {source}");
            Vec::new()
        }
        other => other?,
    };
    for (path, problem) in damaged {
        found.push(Leftover::at(Invariant::TemplateIntact, path, &format!("is damaged: {problem}")));
    }
    Ok(found)
}

/// Removes a template that was never finished.
pub(super) fn clean_up(templates: &Path) -> Result<(), Error> {
    match sandbox_image::unfinished_template(templates)? {
        Some(template) => Ok(template.remove()?),
        None => Ok(()),
    }
}

/// The file system of the mount that `dir` lies in. Of several at one mount point, the last one hides the
/// others.
pub(super) fn file_system(dir: &Path) -> Result<Option<String>, Error> {
    let mounts = mount_table::read()?;
    let nearest = mounts
        .iter()
        .filter(|mount| dir.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count());
    Ok(nearest.map(|mount| mount.file_system.clone()))
}

/// Mounts the chain's index.
pub(super) fn activate(layer: &Layer, index: &Path) -> Result<(), Error> {
    let image = made(&layer.place, IMAGE)?;
    let tars: Vec<PathBuf> = layer.chain.iter().map(|layer| layer.dir.join(file::TAR)).collect();
    Ok(erofs_mount::mount_index(index, &tars, &image)?)
}

/// Mounts a sandbox over it.
pub(super) fn prepare(sandbox: &Layer) -> Result<(), Error> {
    let place = &sandbox.place;
    Ok(mount_sandbox(&Sandbox {
        image: &place.dir.join(file::SANDBOX),
        storage: &made(place, STORAGE)?,
        lower: &files(place),
        target: &made(place, VIEW)?,
    })?)
}

/// Never fails here. On other hosts the path has to be asked for, and that can fail.
pub(super) fn mount_path(layer: &Layer) -> Result<PathBuf, Error> {
    Ok(match layer.kind {
        LayerKind::Sandbox => layer.place.mounts.join(VIEW),
        LayerKind::Layer | LayerKind::Empty => files(&layer.place),
    })
}

/// Thaws the storage, if it is mounted.
pub(super) fn thaw(place: &Place) -> Result<(), Error> {
    let storage = place.mounts.join(STORAGE);
    if storage.exists() && mount_table::at(&storage)?.is_some() {
        snapshot::thaw_abandoned(&storage)?;
    }
    Ok(())
}

pub(super) fn unprepare(place: &Place) -> Result<(), Error> {
    // A file system that is unmounted while frozen keeps its loop device attached for ever.
    thaw(place)?;
    // Mounts in other namespaces may keep the image attached; unmount it here all the same.
    Ok(unmount_sandbox(&Sandbox {
        image: &place.dir.join(file::SANDBOX),
        storage: &place.mounts.join(STORAGE),
        lower: &files(place),
        target: &place.mounts.join(VIEW),
    })?)
}

/// Unmounts everything that is mounted for the layer, including mounts that a dead process left.
pub(super) fn deactivate(place: &Place) -> Result<(), Error> {
    for mount in mount_table::under(&place.mounts)? {
        mount_table::unmount(&mount.mount_point)?;
    }
    Ok(())
}

pub(super) fn detach(place: &Place) -> Result<(), Error> {
    for mount in mount_table::under(&place.mounts)? {
        mount_table::detach(&mount.mount_point)?;
    }
    Ok(())
}

/// Whether the path, or the mount it lies in, is in the mount table.
pub(super) fn is_mounted(path: &Path) -> Result<bool, Error> {
    let mounts = mount_table::read()?;
    let parent = path.parent().unwrap_or(path);
    let is_mount_point = |place: &Path| {
        place.canonicalize().is_ok_and(|place| mounts.iter().any(|mount| mount.mount_point == place))
    };
    Ok([path, parent].into_iter().any(is_mount_point))
}

/// Whether anything is mounted for the layer in this mount namespace.
pub(super) fn has_mounts(place: &Place) -> Result<bool, Error> {
    // Read the table even if the directory is missing: an unreadable table must be an error, not "no mounts".
    mount_table::read()?;
    Ok(place.mounts.exists() && !mount_table::under(&place.mounts)?.is_empty())
}

/// Names the users of the sandbox's image, or of the index of the layer's view.
pub(super) fn in_use(place: &Place) -> Result<Option<String>, Error> {
    let image = place.dir.join(file::SANDBOX);
    let holders =
        if image.exists() { in_use::of_image(&image)? } else { of_indexes(place, in_use::of_index)? };
    Ok(holders.map(|holders| in_use::text(&holders)))
}

/// The holders of the first index in use, of those that a view of the layer may be mounted from: one for each
/// form of streams.
fn of_indexes(
    place: &Place,
    ask: impl Fn(&Path) -> Result<Option<Vec<Holder>>, LinuxError>,
) -> Result<Option<Vec<Holder>>, Error> {
    for (_, form) in StreamForm::NAMES {
        if let Some(holders) = ask(&place.dir.join(chain::index_file(form)))? {
            return Ok(Some(holders));
        }
    }
    Ok(None)
}

/// Like [`in_use`], but first waits a moment for users that are about to end.
pub(super) fn stays_in_use(place: &Place) -> Result<Option<String>, Error> {
    let image = place.dir.join(file::SANDBOX);
    if !image.exists() {
        let holders = of_indexes(place, in_use::wait_for_index)?;
        return Ok(holders.map(|holders| in_use::text(&holders)));
    }
    match in_use::wait_for_image(&image) {
        Err(LinuxError::ImageAttached { holders, .. }) => Ok(Some(in_use::text(&holders))),
        other => Ok(other.map(|()| None)?),
    }
}

pub(super) fn bind(path: &Path, target: &Path) -> Result<(), Error> {
    Ok(bind::bind(path, target)?)
}

pub(super) fn unbind(target: &Path) -> Result<(), Error> {
    match mount_table::at(target) {
        // Somebody else's mount at the same place, or a directory that is gone.
        Ok(Some(mount)) if !bind::is_view(&mount) => return Ok(()),
        Err(_) if !target.exists() => return Ok(()),
        other => other?,
    };
    match mount_table::unmount(target) {
        Err(error) if target.exists() && mount_table::at(target)?.is_some() => Err(error.into()),
        // Somebody unmounted it already, and perhaps removed the directory.
        _ => Ok(()),
    }
}

fn files(place: &Place) -> PathBuf {
    place.mounts.join(IMAGE).join("Files")
}

fn made(place: &Place, name: &str) -> Result<PathBuf, Error> {
    let dir = place.mounts.join(name);
    fs::create_dir_all(&dir).at("create directory", &dir)?;
    Ok(dir)
}

fn opened(sandbox: &Layer, cancel: &Cancel) -> Result<SandboxView, Error> {
    Ok(SandboxView::open(&sandbox.place.dir.join(file::SANDBOX), cancel)?)
}

pub(super) fn sandbox_changes(
    sandbox: &Layer,
    below: &View,
    limits: &DiffLimits,
    cancel: &Cancel,
) -> Result<Vec<Change>, Error> {
    let view = opened(sandbox, cancel)?;
    let changes = sandbox_diff::changes(view.upper(), below, sandbox.streams, limits);
    finish(changes, view)
}

pub(super) fn changed_bytes(sandbox: &Layer, limits: &DiffLimits, cancel: &Cancel) -> Result<u64, Error> {
    let view = opened(sandbox, cancel)?;
    finish(sandbox_diff::content_size(view.upper(), limits), view)
}

/// Walks the sandbox on a thread of its own. A reader that is dropped half-way ends the walk; the mount is
/// never touched.
pub(super) fn read_sandbox(
    sandbox: &Layer,
    below: View,
    mut options: DiffOptions,
    guard: Guard,
    cancel: &Cancel,
) -> Result<Box<dyn Read + Send>, Error> {
    let image = sandbox.place.dir.join(file::SANDBOX);
    let size = fs::metadata(&image).at("look at", &image)?.len();
    options.limits.sandbox = Some(size);
    let view = opened(sandbox, cancel)?;
    let streams = sandbox.streams;
    let walk = move |out: &mut dyn Write| {
        // Held until the walk ends, so that the image is not mounted while it is read.
        let _guard = guard;
        finish(sandbox_diff::write_diff(view.upper(), &below, streams, &options, out).map(drop), view)
    };
    piped("sandbox-diff", cancel, walk).at("start a thread for", &sandbox.place.dir)
}

fn finish<T>(result: Result<T, Error>, view: SandboxView) -> Result<T, Error> {
    let closed = view.close().map_err(Error::from);
    match result {
        Ok(value) => closed.map(|()| value),
        Err(e) => Err(e.with_undo(closed)),
    }
}
