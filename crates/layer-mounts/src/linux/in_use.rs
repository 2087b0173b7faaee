//! Asks the kernel whether an image is in use: in any mount namespace or container, under any path, and also
//! if it is unmounted but a process still has a file of it open.
//!
//! * A *sandbox's image* carries a `flock` on the open file description that the loop device got. The device
//!   keeps the description, so the lock lasts exactly as long as the attachment. The kernel also reports the
//!   device and inode number of attached files: that finds images which another program has attached without
//!   the lock.
//! * A *view's index* is opened by EROFS itself, by its path, so no lock of ours lives with the mount. But
//!   the kernel grants a write lease only on a file that nobody else has open. EROFS, or its loop device, has
//!   the index open as long as it is mounted.
//!
//! For the reasons and the alternatives see `docs/decisions/0010-in-use.md`.

use super::error::{Holder, LinuxError};
use super::loop_device::Attachment;
use super::mount_table::Mount;
use super::{holders, loop_device, mount_table, sys};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for holders that are not visible. They mostly last a moment: a program that inspects all
/// loop devices keeps one attached meanwhile, and a child of any thread has every file open between `fork`
/// and `exec`.
const UNSEEN_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for holders that we can name: they may be about to end.
const SEEN_PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait before searching for holders: the search takes longer than most waits.
const LOOK_AFTER: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(1);

/// Locks an open image for its attachment to a loop device; waits a little for the previous attachment. The
/// lock belongs to the open file description.
///
/// # Errors
/// [`LinuxError::ImageAttached`], which names the holders.
pub(super) fn claim(file: &File, image: &Path) -> Result<(), LinuxError> {
    wait(image, || {
        if !try_lock(file, FlockOperation::NonBlockingLockExclusive, image)? {
            return Ok(false);
        }
        if loop_device::attachments(image)?.is_empty() {
            return Ok(true);
        }
        unlock(file, image).map(|()| false)
    })
}

/// The holders of an attached image; `None` if it is free.
pub fn of_image(image: &Path) -> Result<Option<Vec<Holder>>, LinuxError> {
    if is_free(image)? { Ok(None) } else { holders_of_image(image).map(Some) }
}

/// Waits a little until the image is free.
///
/// # Errors
/// [`LinuxError::ImageAttached`], which names the holders.
pub fn wait_for_image(image: &Path) -> Result<(), LinuxError> {
    wait(image, || is_free(image))
}

fn wait(image: &Path, mut is_done: impl FnMut() -> Result<bool, LinuxError>) -> Result<(), LinuxError> {
    let start = Instant::now();
    let mut looked = false;
    loop {
        if is_done()? {
            return Ok(());
        }
        let elapsed = start.elapsed();
        if elapsed > UNSEEN_PATIENCE || !looked && elapsed > LOOK_AFTER || elapsed > SEEN_PATIENCE {
            looked = true;
            let holders = holders_of_image(image)?;
            let is_ours = |holder: &Holder| matches!(holder, Holder::Mount { .. });
            let is_seen = |holder: &Holder| !matches!(holder, Holder::Device { .. });
            let is_over = elapsed > UNSEEN_PATIENCE
                || holders.iter().any(is_ours)
                || elapsed > SEEN_PATIENCE && holders.iter().any(is_seen);
            // Unless it was released during the search.
            if is_over && !is_done()? {
                return Err(LinuxError::ImageAttached { path: image.to_path_buf(), holders });
            }
            if is_over {
                return Ok(());
            }
        }
        std::thread::sleep(if elapsed > LOOK_AFTER { 20 * PAUSE } else { PAUSE });
    }
}

fn is_free(image: &Path) -> Result<bool, LinuxError> {
    let file = File::open(image).map_err(LinuxError::system("open", image))?;
    // Shared, so that two processes that check at once do not take each other for users.
    if !try_lock(&file, FlockOperation::NonBlockingLockShared, image)? {
        return Ok(false);
    }
    Ok(loop_device::attachments(image)?.is_empty())
}

fn try_lock(file: &File, how: FlockOperation, image: &Path) -> Result<bool, LinuxError> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, how)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(LinuxError::system("flock", image)(error)),
    }
}

fn unlock(file: &File, image: &Path) -> Result<(), LinuxError> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::Unlock))
        .map_err(LinuxError::system("flock", image))
}

/// The image's loop device and its mount in this mount namespace, if it is mounted.
pub(super) fn mounted_at(image: &Path) -> Result<Option<(Attachment, Mount)>, LinuxError> {
    let attachments = loop_device::attachments(image)?;
    if attachments.is_empty() {
        return Ok(None);
    }
    let mounts = mount_table::read()?;
    let mounted = |attached: Attachment| {
        let mount = mounts.iter().find(|mount| mount.device == attached.number)?;
        Some((attached, mount.clone()))
    };
    Ok(attachments.into_iter().find_map(mounted))
}

fn holders_of_image(image: &Path) -> Result<Vec<Holder>, LinuxError> {
    let attachments = loop_device::attachments(image)?;
    let numbers: Vec<_> = attachments.iter().map(|attachment| attachment.number).collect();
    let found = holders::of_devices(&numbers);
    if found.is_empty() {
        return Ok(attachments
            .into_iter()
            .map(|attached| Holder::Device { path: attached.device })
            .collect());
    }
    Ok(found)
}

/// The holders that have the index of a view mounted or open; `None` if it is free. On file systems without
/// leases only visible holders count.
pub fn of_index(index: &Path) -> Result<Option<Vec<Holder>>, LinuxError> {
    let file = match File::open(index) {
        // A missing index was never mounted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(LinuxError::system("open", index))?,
    };
    match sys::try_write_lease(&file) {
        Ok(()) => Ok(None),
        Err(Errno::AGAIN) => Ok(Some(holders_of_index(index)?)),
        // No leases here (NFS, FUSE), or not for us: rely on the visible holders.
        Err(Errno::INVAL | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOLCK) => {
            Ok(Some(holders_of_index(index)?).filter(|holders| !holders.is_empty()))
        }
        Err(error) => Err(LinuxError::system("fcntl F_SETLEASE", index)(error)),
    }
}

/// Waits a little until nobody has the index of a view mounted or open. Returns the remaining holders.
pub fn wait_for_index(index: &Path) -> Result<Option<Vec<Holder>>, LinuxError> {
    let start = Instant::now();
    loop {
        match of_index(index)? {
            Some(_) if start.elapsed() < SEEN_PATIENCE => std::thread::sleep(20 * PAUSE),
            other => return Ok(other),
        }
    }
}

fn holders_of_index(index: &Path) -> Result<Vec<Holder>, LinuxError> {
    let numbers: Vec<_> =
        loop_device::attachments(index)?.into_iter().map(|attachment| attachment.number).collect();
    let is_source = |source: &Path| same_file(source, index);
    let mut found = holders::mounts_of(|mount| {
        mount.file_system == "erofs" && (numbers.contains(&mount.device) || is_source(&mount.source))
    });
    if found.is_empty() {
        let us = std::process::id();
        found = holders::of_file(index);
        found.retain(|holder| !matches!(holder, Holder::Process { pid, .. } if *pid == us));
    }
    Ok(found)
}

/// For messages only: in another namespace the path may lead to another file.
fn same_file(path: &Path, index: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((identity(path), identity(index)), (Ok(a), Ok(b)) if a == b)
}

/// The text ` by x, y` for holders; without any, it says that they are not visible.
pub fn text(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return " by a process or mount that cannot be seen from here".to_owned();
    }
    super::error::HolderList(holders).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::erofs_mount::{Backing, mount_index_with};
    use crate::linux::test_support::{Layers, Mounted};
    use std::path::PathBuf;
    use std::process::Command;

    /// A loop device attached by another program; detached when dropped.
    struct ByHand(PathBuf);

    impl ByHand {
        fn attach(image: &Path) -> Self {
            let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            Self(String::from_utf8(output.stdout).unwrap().trim_end().into())
        }
    }

    impl Drop for ByHand {
        fn drop(&mut self) {
            Command::new("losetup").arg("--detach").arg(&self.0).status().unwrap();
        }
    }

    fn image(folder: &Path) -> PathBuf {
        let path = folder.join("sandbox.img");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        path
    }

    /// Attached as by older versions and other programs: without the lock, and through another name.
    #[test]
    fn an_image_that_another_program_has_attached_is_in_use_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let other = folder.path().join("other");
        std::fs::hard_link(&image, &other).unwrap();
        assert_eq!(of_image(&image).unwrap(), None);
        let device = ByHand::attach(&image);
        let holder = Holder::Device { path: device.0.clone() };
        assert_eq!(of_image(&other).unwrap(), Some(vec![holder]));
        drop(device);
        wait_for_image(&other).unwrap();
    }

    /// Checking holds a shared lock for a moment, which does not disturb other checks.
    #[test]
    fn a_claim_is_refused_to_others_until_its_last_descriptor_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let file = File::open(&image).unwrap();
        claim(&file, &image).unwrap();
        let copy = file.try_clone().unwrap();
        drop(file);
        assert!(!is_free(&image).unwrap());
        drop(copy);
        let asking = File::open(&image).unwrap();
        assert!(try_lock(&asking, FlockOperation::NonBlockingLockShared, &image).unwrap());
        assert!(is_free(&image).unwrap());
    }

    #[test]
    fn an_index_is_in_use_as_long_as_its_view_lives_mounted_or_not() {
        for backing in [Backing::Auto, Backing::LoopDevices] {
            let layers = Layers::new(2);
            let other = layers.folder("names").join("other");
            std::fs::hard_link(layers.index(), &other).unwrap();
            assert_eq!(of_index(&other).unwrap(), None);
            let view = Mounted(layers.folder("view"));
            mount_index_with(&layers.index(), &layers.tars(), &view.0, backing).unwrap();
            let holder = Holder::Mount { mount_point: view.0.canonicalize().unwrap() };
            assert_eq!(of_index(&other).unwrap(), Some(vec![holder]));
            let open = File::open(view.0.join("Files/layer-0.txt")).unwrap();
            mount_table::detach(&view.0).unwrap();
            assert!(of_index(&other).unwrap().is_some(), "somebody still reads it");
            drop(open);
            let start = Instant::now();
            while of_index(&other).unwrap().is_some() && start.elapsed() < UNSEEN_PATIENCE {}
            assert_eq!(of_index(&other).unwrap(), None);
        }
    }

    #[test]
    fn an_index_that_was_never_made_is_in_nobodys_use() {
        assert_eq!(of_index(Path::new("/nonexistent/chain.erofs")).unwrap(), None);
    }
}
