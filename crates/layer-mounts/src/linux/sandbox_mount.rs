//! Mounts a sandbox: its image as ext4, and overlayfs, which shows the view with the image's changes on top.
//!
//! Each sandbox has two mounts: the *storage* (the image, with `upper/` and `work/`) and the *target* that
//! users see. If the second fails, the first is undone. Overlayfs' features that make an upper directory
//! depend on more than itself are switched off explicitly, for any defaults of the kernel: no redirects, no
//! metadata-only copies, no index. So `upper/` holds plain copies, whiteouts and opaque directories, and
//! [`super::upper`] can read it without the kernel's help.

use super::error::LinuxError;
use super::fs_context::{FsContext, attach};
use super::loop_device::{LoopDevice, LoopOptions};
use super::sandbox_image::{UPPER, WORK};
use super::{in_use, mount_table, xattrs};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timestamps};
use rustix::mount::MountAttrFlags;
use saving::Storage;
use std::fs::File;
use std::path::Path;

/// The source of a mounted sandbox in the mount table.
pub(super) const OVERLAY_SOURCE: &str = "windowsfilter";

/// The image and the directories of one sandbox. The directories must exist.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox<'a> {
    /// The ext4 image.
    pub image: &'a Path,
    /// Where the image is mounted.
    pub storage: &'a Path,
    /// The layer below the changes: `Files` of a mounted view.
    pub lower: &'a Path,
    /// Where users see the result.
    pub target: &'a Path,
}

/// Mounts the sandbox. After an error no new mounts remain.
pub fn mount_sandbox(sandbox: &Sandbox<'_>) -> Result<(), LinuxError> {
    mount_storage(sandbox.image, sandbox.storage)?;
    let undone = |first: LinuxError, mount| first.with_undo(mount_table::unmount(mount));
    mount_overlay(sandbox).map_err(|first| undone(first, sandbox.storage))?;
    let settled = Storage::open(sandbox.storage).and_then(|storage| storage.settle());
    settled.map_err(|first| undone(undone(first, sandbox.target), sandbox.storage))
}

/// Unmounts both mounts of a sandbox. If the target is in use, or writes cannot be saved, nothing changes.
/// Missing mounts and directories are skipped, so this can be repeated after an error.
pub fn unmount_sandbox(sandbox: &Sandbox<'_>) -> Result<(), LinuxError> {
    let &Sandbox { storage: path, target, .. } = sandbox;
    let Some(storage) = Storage::open_if_mounted(path)? else { return unmount_if_mounted(target) };
    storage.save(target)?;
    unmount_if_mounted(target)?;
    // Save only now: until the unmount, processes may have written.
    storage.save(target).map_err(|first| first.with_undo(mount_overlay(sandbox)))?;
    if let Err(error) = storage.give_back(sandbox.image) {
        tracing::debug!("what was deleted in {} still occupies the store: {error}", path.display());
    }
    drop(storage);
    unmount_if_mounted(path)
}

fn unmount_if_mounted(path: &Path) -> Result<(), LinuxError> {
    if !path.exists() {
        return Ok(());
    }
    match mount_table::unmount(path) {
        Err(LinuxError::NotMounted { .. }) => Ok(()),
        result => result,
    }
}

/// Mounts the image's file system at `target`. Refuses an image that is mounted already, in any mount
/// namespace.
pub fn mount_storage(image: &Path, target: &Path) -> Result<(), LinuxError> {
    attach(detached_storage(image, Access::Write)?.as_fd(), target)
}

/// How an image is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Read and write.
    Write,
    /// Read only, after replaying the journal, which repairs the effects of a crash.
    ReadAfterReplay,
    /// Read only; nothing is written to the image.
    Read,
}

/// Makes a detached mount of the image, see [`FsContext`].
pub(super) fn detached_storage(image: &Path, access: Access) -> Result<OwnedFd, LinuxError> {
    let file = File::options().read(true).write(access != Access::Read).open(image);
    let file = file.map_err(LinuxError::system("open", image))?;
    // The loop device takes over the file with its lock, which lasts as long as the attachment.
    in_use::claim(&file, image)?;
    detached_storage_of(&file, image, access)
}

/// Like [`detached_storage`], for an open file that nobody else uses.
pub(super) fn detached_storage_of(file: &File, image: &Path, access: Access) -> Result<OwnedFd, LinuxError> {
    let mut context = FsContext::open("ext4", image)?;
    // Without direct I/O the page cache holds everything twice: 1 GB was written and synced in 1.7 to 4.6 s
    // instead of 0.5 s, and read back no faster.
    let options = LoopOptions { read_only: access == Access::Read, autoclear: true, direct_io: true };
    let device = LoopDevice::attach(file, image, options)?;
    context.path("source", device.path())?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    if access == Access::Write {
        // Otherwise a kernel thread writes gigabytes of zeros to the inode tables of the sparse image.
        context.flag("noinit_itable")?;
        context.string("errors", "remount-ro")?;
    } else {
        context.flag("ro")?;
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    context.mount(attributes)
}

fn mount_overlay(sandbox: &Sandbox<'_>) -> Result<(), LinuxError> {
    let upper = sandbox.storage.join(UPPER);
    copy_root_metadata(sandbox.lower, &upper)?;
    let mut context = FsContext::open("overlay", sandbox.target)?;
    context.string("source", OVERLAY_SOURCE)?;
    set_layer(&mut context, ("lowerdir+", "lowerdir"), sandbox.lower)?;
    set_layer(&mut context, ("upperdir", "upperdir"), &upper)?;
    set_layer(&mut context, ("workdir", "workdir"), &sandbox.storage.join(WORK))?;
    for (key, value) in [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "off")]
    {
        context.string(key, value)?;
    }
    let mount = context.mount(
        MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOATIME,
    )?;
    attach(mount.as_fd(), sandbox.target)
}

/// Passes a layer by descriptor (Linux 6.13), which avoids special characters and limits of paths; on older
/// kernels by text. There is one lower layer, so the older key means the same.
fn set_layer(context: &mut FsContext, (key, older_key): (&str, &str), path: &Path) -> Result<(), LinuxError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(LinuxError::system("openat", path))?;
    match context.descriptor(key, directory.as_fd()) {
        Ok(()) => Ok(()),
        Err(_) => context.overlay_path(older_key, path),
    }
}

/// The root of an overlay shows the metadata of the upper directory, never of the lower. So a new upper
/// directory, which has no attributes, gets those of the lower.
fn copy_root_metadata(lower: &Path, upper: &Path) -> Result<(), LinuxError> {
    if !xattrs::names(upper)?.is_empty() {
        return Ok(());
    }
    for (name, value) in xattrs::all(lower)? {
        rustix::fs::setxattr(upper, name.as_slice(), &value, rustix::fs::XattrFlags::empty())
            .map_err(LinuxError::system("setxattr", upper))?;
    }
    let metadata = rustix::fs::stat(lower).map_err(LinuxError::system("stat", lower))?;
    rustix::fs::chmod(upper, Mode::from_raw_mode(metadata.st_mode))
        .map_err(LinuxError::system("chmod", upper))?;
    let time = rustix::fs::Timespec { tv_sec: metadata.st_mtime, tv_nsec: metadata.st_mtime_nsec as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, upper, &times, AtFlags::empty())
        .map_err(LinuxError::system("utimensat", upper))
}

mod saving;
#[cfg(test)]
mod tests;
