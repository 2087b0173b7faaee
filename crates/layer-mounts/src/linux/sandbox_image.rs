//! The file that holds what a sandbox changes: a sparse ext4 image with `upper/` and `work/` for overlayfs.
//!
//! Its size is the sandbox's size limit, enforced by ext4 itself. A new image is a copy of a template, which
//! `mkfs.ext4` makes once per size. Copies share the template's UUID; ext4 does not mind.
//!
//! The layout of the file system, and its reasons:
//! * `ea_inode`: extended attributes of up to 64 KiB, which ext4 otherwise refuses; copy-up must carry every
//!   one.
//! * inodes of 1024 bytes, one per 32 KiB: the attributes of an ordinary file then lie in its inode. NTFS'
//!   file records are as large. A dozen attributes of any size always fit, and so do a hundred that are
//!   short; if they do not fit, the change that needs the copy fails with ENOSPC and leaves the file as it
//!   was.
//! * `meta_bg` instead of `resize_inode`: reserves no room for growth in advance, so an image of 127 GB takes
//!   0.6 MB on disk instead of 5.5 MB, and it can still grow.
//! * a small journal, nothing reserved for root, nothing written before it is needed.

use super::e2fsprogs::Tool;
use super::error::LinuxError;
use super::in_use;
use super::loop_device::{Attachment, LoopDevice};
use super::mount_table::Mount;
use super::sandbox_mount::{Access, detached_storage};
use super::sparse_copy;
use crate::Cancel;
use crate::ext4::Superblock;
use crate::{MAXIMUM_SANDBOX_SIZE as MAXIMUM_SIZE, MINIMUM_SANDBOX_SIZE as MINIMUM_SIZE};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The directory of the image that holds the changes.
pub const UPPER: &str = "upper";
/// The directory of the image that overlayfs needs for itself.
pub const WORK: &str = "work";
/// Block size of the file system in bytes. Sizes are rounded up to it.
const BLOCK: u64 = 4096;
/// Bytes of an inode.
pub(super) const INODE: u64 = 1024;
/// The directory for making a template.
const MAKING: &str = "making";
/// Version of the templates' layout. Templates of other versions are not used.
const TEMPLATE_VERSION: u32 = 1;

/// Records a template: gets its final path and its image. Called under the templates' lock.
pub type RecordTemplate = fn(&Path, &File) -> Result<(), LinuxError>;

/// Makes the sandbox image `image`, which must not exist yet, of `size` bytes (rounded up to whole blocks),
/// and syncs it. `templates` is a directory for templates, created if missing; any number of processes may
/// share it. `record` is called before a new template is published. `cancel` ends the work.
pub fn create(
    templates: &Path,
    image: &Path,
    size: u64,
    (record, cancel): (RecordTemplate, &Cancel),
) -> Result<(), LinuxError> {
    let size = checked_size(size)?;
    let template_path = templates.join(format!("sandbox-v{TEMPLATE_VERSION}-{size}.img"));
    let template = open_or_make(&template_path, templates, size, (record, cancel))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let target: File = rustix::fs::openat(CWD, image, flags, Mode::from_raw_mode(0o600))
        .map_err(LinuxError::system("openat", image))?
        .into();
    let copied = sparse_copy::copy((&template, &template_path), (&target, image), cancel)
        .and_then(|_| target.sync_all().map_err(LinuxError::system("fsync", image)));
    copied.map_err(|first| {
        first.with_undo(std::fs::remove_file(image).map_err(LinuxError::system("unlink", image)))
    })
}

fn checked_size(size: u64) -> Result<u64, LinuxError> {
    if size < MINIMUM_SIZE {
        return Err(LinuxError::SandboxTooSmall { requested: size, minimum: MINIMUM_SIZE });
    }
    if size > MAXIMUM_SIZE {
        return Err(LinuxError::SandboxTooLarge { requested: size, maximum: MAXIMUM_SIZE });
    }
    Ok(size.next_multiple_of(BLOCK))
}

fn open_or_make(
    template: &Path,
    templates: &Path,
    size: u64,
    (record, cancel): (RecordTemplate, &Cancel),
) -> Result<File, LinuxError> {
    match File::open(template) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.map_err(LinuxError::system("open", template)),
    }
    std::fs::create_dir_all(templates).map_err(LinuxError::system("mkdir", templates))?;
    let lock_path = templates.join("lock");
    let lock = open_lock(&lock_path)?;
    // The lock belongs to the open file description, so it can be taken through a duplicate.
    let waiting = lock.try_clone().map_err(LinuxError::system("dup", &lock_path))?;
    cancel.wait(move || waiting.lock()).map_err(LinuxError::system("flock", &lock_path))?;
    // The previous holder of the lock may have made the template, or died meanwhile. The lock ends with its
    // descriptor.
    if !template.exists() {
        make_template(template, templates, size, (record, cancel))?;
    }
    File::open(template).map_err(LinuxError::system("open", template))
}

/// Makes a template under a temporary name and renames it, so that it is always complete under its final
/// name.
fn make_template(
    template: &Path,
    templates: &Path,
    size: u64,
    (record, cancel): (RecordTemplate, &Cancel),
) -> Result<(), LinuxError> {
    let folder = Making::begin(templates)?;
    let root = folder.0.join("root");
    for name in ["", UPPER, WORK] {
        let directory = root.join(name);
        std::fs::create_dir(&directory).map_err(LinuxError::system("mkdir", &directory))?;
    }
    let image = folder.0.join("image");
    let file = File::options().read(true).write(true).create_new(true).open(&image);
    let file = file.map_err(LinuxError::system("open", &image))?;
    file.set_len(size).map_err(LinuxError::system("ftruncate", &image))?;
    make_file_system(&image, &root, size, cancel)?;
    file.sync_all().map_err(LinuxError::system("fsync", &image))?;
    record(template, &file)?;
    std::fs::rename(&image, template).map_err(LinuxError::system("rename", template))?;
    let folder = File::open(templates).map_err(LinuxError::system("open", templates))?;
    folder.sync_all().map_err(LinuxError::system("fsync", templates))
}

/// The directory for making a template, under the templates' lock. Dropping this removes it.
struct Making(PathBuf);

impl Making {
    fn begin(templates: &Path) -> Result<Self, LinuxError> {
        let making = templates.join(MAKING);
        remove_making(&making)?;
        std::fs::create_dir(&making).map_err(LinuxError::system("mkdir", &making))?;
        Ok(Self(making))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Err(error) = remove_making(&self.0) {
            tracing::warn!("{error}; cleanup will try again");
        }
    }
}

fn remove_making(making: &Path) -> Result<(), LinuxError> {
    match crate::remove_tree(making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LinuxError::system("rmdir", making)(error))
        }
        _ => Ok(()),
    }
}

/// Opens the templates' lock file; only its owner has access.
fn open_lock(path: &Path) -> Result<File, LinuxError> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(path).map_err(LinuxError::system("open", path))
}

/// Takes the lock that every maker of a template needs; `None` if another process has it.
pub fn try_lock_templates(templates: &Path) -> Result<Option<File>, LinuxError> {
    let lock_path = templates.join("lock");
    let lock = open_lock(&lock_path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(LinuxError::system("flock", &lock_path)(error)),
    }
}

/// The unfinished template of a process that died, together with the lock that keeps others from making one;
/// `None` if there is none, or a process is making one now.
pub fn unfinished_template(templates: &Path) -> Result<Option<UnfinishedTemplate>, LinuxError> {
    let making = templates.join(MAKING);
    if !making.exists() {
        return Ok(None);
    }
    let lock = try_lock_templates(templates)?.filter(|_| making.exists());
    Ok(lock.map(|lock| UnfinishedTemplate { path: making, _lock: lock }))
}

/// An abandoned template. No other process can begin one while this is held.
#[derive(Debug)]
pub struct UnfinishedTemplate {
    /// Where it is.
    pub path: PathBuf,
    _lock: File,
}

impl UnfinishedTemplate {
    /// Removes it.
    pub fn remove(self) -> Result<(), LinuxError> {
        remove_making(&self.path)
    }
}

fn make_file_system(image: &Path, root: &Path, size: u64, cancel: &Cancel) -> Result<(), LinuxError> {
    let journal = format!("size={}", journal_mebibytes(size));
    let mut command = Tool::new("mkfs.ext4", image);
    let inode = INODE.to_string();
    command.arguments(&["-q", "-F", "-b", "4096", "-I", &inode, "-i", "32768", "-m", "0", "-J", &journal]);
    command.arguments(&["-O", "ea_inode,meta_bg,^resize_inode,metadata_csum,64bit"]);
    command.arguments(&["-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", "-d"]);
    command.path(root).run(&[0], cancel)
}

/// The smallest journal with which a sandbox of that size is fast: snapshots copy the journal, and its blocks
/// are never given back.
fn journal_mebibytes(size: u64) -> u64 {
    match size >> 20 {
        ..128 => 4,
        128..1024 => 16,
        _ => 64,
    }
}

/// The result of [`expand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The sandbox has its new size.
    Done,
    /// Nothing has changed: this process may not grow the image in place. Use [`expand_copy`].
    NeedsCopy,
}

/// Makes the sandbox larger, mounted or not: `new_size` in bytes, rounded up to whole blocks. The same size
/// changes nothing, a smaller one is refused. The kernel does it, so a crash does no harm, but it requires
/// `CAP_SYS_RESOURCE` (root usually has it). Without that, a mounted sandbox stays as it is and the error is
/// [`LinuxError::GrowNotPermitted`].
pub fn expand(image: &Path, new_size: u64) -> Result<Growth, LinuxError> {
    let new_size = checked_size(new_size)?;
    let file =
        File::options().read(true).write(true).open(image).map_err(LinuxError::system("open", image))?;
    let length = file.metadata().map_err(LinuxError::system("fstat", image))?.len();
    // If growing was interrupted, the file is longer than its file system.
    let superblock = Superblock::read(&file).map_err(LinuxError::system("read", image))?;
    let current = superblock.size().unwrap_or(length);
    if new_size < current {
        return Err(LinuxError::SandboxShrink { path: image.to_path_buf(), current, requested: new_size });
    }
    if new_size == current {
        return Ok(Growth::Done);
    }
    match in_use::mounted_at(image)? {
        Some((attached, mount)) => {
            expand_mounted(&file, image, (&attached, &mount), (length, new_size)).map(|()| Growth::Done)
        }
        None => expand_unmounted(&file, image, (length, new_size)),
    }
}

/// Mounts the image privately and lets the kernel grow it.
fn expand_unmounted(file: &File, image: &Path, (length, new_size): (u64, u64)) -> Result<Growth, LinuxError> {
    // Before any change: it may be in use where this process does not see it, as in another namespace.
    in_use::wait_for_image(image)?;
    file.set_len(new_size).map_err(LinuxError::system("ftruncate", image))?;
    let grown = match detached_storage(image, Access::Write) {
        Err(error @ LinuxError::ImageAttached { .. }) => Err(error),
        // If the file system is damaged, e2fsck reports more. If mounting is not permitted, growing a copy
        // needs no mount.
        Err(_) => Ok(Growth::NeedsCopy),
        Ok(mount) => grow(&mount, image, new_size),
    };
    in_use::wait_for_image(image)?;
    match grown {
        Ok(Growth::NeedsCopy) => {
            file.set_len(length).map_err(LinuxError::system("ftruncate", image)).map(|()| Growth::NeedsCopy)
        }
        Ok(Growth::Done) => {
            file.sync_all().map_err(LinuxError::system("fsync", image)).map(|()| Growth::Done)
        }
        Err(error) => Err(error),
    }
}

fn grow(mount: &OwnedFd, image: &Path, new_size: u64) -> Result<Growth, LinuxError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::openat(mount, ".", flags, Mode::empty()).map_err(LinuxError::system("openat", image))?;
    match rustix::fs::ext4_ioc_resize_fs(&directory, new_size / BLOCK) {
        Ok(()) => {
            rustix::fs::syncfs(&directory).map_err(LinuxError::system("syncfs", image)).map(|()| Growth::Done)
        }
        Err(Errno::PERM) => Ok(Growth::NeedsCopy),
        Err(error) => Err(LinuxError::system("ioctl EXT4_IOC_RESIZE_FS", image)(error)),
    }
}

/// Fills the empty file `copy` with a larger copy of the sandbox in `image`, which must not be in use. The
/// caller then replaces the image with it. It works on a copy because the tools that grow an ext4 leave it
/// damaged if they are killed, as `cancel` does.
pub fn expand_copy(image: &Path, copy: &Path, new_size: u64, cancel: &Cancel) -> Result<(), LinuxError> {
    let new_size = checked_size(new_size)?;
    let source = File::open(image).map_err(LinuxError::system("open", image))?;
    in_use::claim(&source, image)?;
    let target =
        File::options().read(true).write(true).open(copy).map_err(LinuxError::system("open", copy))?;
    sparse_copy::copy((&source, image), (&target, copy), cancel)?;
    // resize2fs insists on a check; this one also replays the journal after a crash. 1 means: errors were
    // corrected.
    Tool { subject: image, ..Tool::new("e2fsck", copy) }.arguments(&["-f", "-p"]).run(&[0, 1], cancel)?;
    target.set_len(new_size).map_err(LinuxError::system("ftruncate", copy))?;
    Tool { subject: image, ..Tool::new("resize2fs", copy) }.run(&[0], cancel)?;
    // resize2fs may report success although it could not write everything.
    Tool { subject: image, ..Tool::new("e2fsck", copy) }.arguments(&["-f", "-n"]).run(&[0], cancel)
}

fn expand_mounted(
    file: &File,
    image: &Path,
    (attached, mount): (&Attachment, &Mount),
    (current, new_size): (u64, u64),
) -> Result<(), LinuxError> {
    let device = LoopDevice::open(&attached.device)?;
    let directory = File::open(&mount.mount_point).map_err(LinuxError::system("open", &mount.mount_point))?;
    file.set_len(new_size).map_err(LinuxError::system("ftruncate", image))?;
    device.set_capacity()?;
    match rustix::fs::ext4_ioc_resize_fs(&directory, new_size / BLOCK) {
        Ok(()) => Ok(()),
        // Refused before any change. After any other error the file system may have grown in part, and the
        // file must keep its new size.
        Err(error @ Errno::PERM) => {
            let first = LinuxError::GrowNotPermitted { path: image.to_path_buf(), source: error.into() };
            let undone = undo_growth(first, file, image, current);
            device.set_capacity()?;
            Err(undone)
        }
        Err(error) => Err(LinuxError::system("ioctl EXT4_IOC_RESIZE_FS", image)(error)),
    }
}

/// Runs e2fsck on the metadata of an image that is not mounted; changes nothing. An image that was not
/// unmounted cleanly, or whose disk failed while it was mounted, is only consistent after the next mount has
/// replayed its journal, so it is skipped.
///
/// # Errors
/// [`LinuxError::ToolFailed`] with e2fsck's output; [`LinuxError::ToolMissing`].
pub fn check_file_system(image: &Path, cancel: &Cancel) -> Result<(), LinuxError> {
    let is_for_the_next_mount = |file: File| {
        let superblock = Superblock::read(&file)?;
        Ok(superblock.needs_recovery() || superblock.journal_has_error(&file)?)
    };
    if File::open(image).and_then(is_for_the_next_mount).map_err(LinuxError::system("read", image))? {
        return Ok(());
    }
    let mut tool = Tool::new("e2fsck", image);
    let output = tool.arguments(&["-f", "-n"]).complete(cancel)?;
    // For a wrong checksum of a group descriptor e2fsck only says that it is ignored, and exits with success.
    let is_ignored = |line: &[u8]| line.ends_with(b"IGNORED.");
    let is_sound = output.status.success() && !output.stdout.split(|&byte| byte == b'\n').any(is_ignored);
    if is_sound { Ok(()) } else { Err(tool.failed(&output)) }
}

fn undo_growth(first: LinuxError, file: &File, image: &Path, length: u64) -> LinuxError {
    first.with_undo(file.set_len(length).map_err(LinuxError::system("ftruncate", image)))
}

#[cfg(test)]
mod tests;
