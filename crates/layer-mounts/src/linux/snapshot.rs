//! Reads a sandbox's changes at one point in time, in use or not.
//!
//! A sandbox in use is *frozen* while its image is copied: ext4 then has everything in the image and makes
//! writers wait. The copy shares blocks with the original if the file system supports that. It has no name,
//! so it is gone when the view is closed or the program dies. A sandbox not in use is mounted as it is, after
//! replaying its journal. Both mounts are private: they appear in no directory and end with their descriptor.
//!
//! If the program is killed while a sandbox is frozen, the next snapshot of it finds it frozen and thaws it
//! at its end.

use super::error::LinuxError;
use super::in_use;
use super::sandbox_image::UPPER;
use super::sandbox_mount::{Access, detached_storage, detached_storage_of};
use super::sparse_copy;
use super::sys;
use super::upper::UpperDirectory;
use crate::Cancel;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The changes of a sandbox at one moment. Dropping this unmounts it and deletes the copy.
#[derive(Debug)]
pub struct SandboxView {
    image: PathBuf,
    upper: UpperDirectory,
    mount: OwnedFd,
    /// Whether the image itself is attached, not a copy.
    original: bool,
}

impl SandboxView {
    /// Opens the changes of the sandbox in this image. The caller keeps others from mounting, unmounting or
    /// opening the same sandbox meanwhile; processes in it may go on. A copy lies in the image's directory;
    /// `cancel` ends copying.
    pub fn open(image: &Path, cancel: &Cancel) -> Result<Self, LinuxError> {
        match in_use::mounted_at(image)? {
            Some((_, storage)) => Self::new(image, mount_copy(image, &storage.mount_point, cancel)?, false),
            None => Self::new(image, detached_storage(image, Access::ReadAfterReplay)?, true),
        }
    }

    fn new(image: &Path, mount: OwnedFd, original: bool) -> Result<Self, LinuxError> {
        let upper = UpperDirectory::open_at(mount.as_fd(), Path::new(UPPER), &image.join(UPPER))?;
        Ok(Self { image: image.to_path_buf(), upper, mount, original })
    }

    /// The upper directory.
    #[must_use]
    pub fn upper(&self) -> &UpperDirectory {
        &self.upper
    }

    /// Ends the view and waits until the image is free again. An error means that a file opened from it is
    /// still open.
    pub fn close(self) -> Result<(), LinuxError> {
        let Self { image, upper, mount, original } = self;
        drop(upper);
        drop(mount);
        if original { in_use::wait_for_image(&image) } else { Ok(()) }
    }
}

/// Copies the image of a mounted sandbox and mounts the copy.
fn mount_copy(image: &Path, storage: &Path, cancel: &Cancel) -> Result<OwnedFd, LinuxError> {
    let folder = image.parent().unwrap_or(Path::new("/"));
    let copy = tempfile::tempfile_in(folder).map_err(LinuxError::system("open O_TMPFILE", folder))?;
    let source = File::open(image).map_err(LinuxError::system("open", image))?;
    let frozen = Frozen::new(storage)?;
    let copied = sparse_copy::copy((&source, image), (&copy, image), cancel);
    let thawed = frozen.thaw();
    match (copied, thawed) {
        (Ok(_), Ok(())) => detached_storage_of(&copy, image, Access::Read),
        (Ok(_), Err(error)) => Err(error),
        (Err(first), thawed) => Err(first.with_undo(thawed)),
    }
}

/// Thaws a mounted sandbox whose snapshot was killed. No other snapshot of it may be running.
pub fn thaw_abandoned(storage: &Path) -> Result<(), LinuxError> {
    let directory = File::open(storage).map_err(LinuxError::system("open", storage))?;
    match sys::thaw(&directory) {
        Ok(()) => {
            tracing::warn!("{} was left frozen by a program that died", storage.display());
            Ok(())
        }
        // It was not frozen.
        Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(LinuxError::system("ioctl FITHAW", storage)(error)),
    }
}

/// A frozen file system. [`Frozen::thaw`] thaws it, or the drop in a panic.
struct Frozen<'a> {
    directory: File,
    path: &'a Path,
    thawed: bool,
}

impl<'a> Frozen<'a> {
    fn new(path: &'a Path) -> Result<Self, LinuxError> {
        let directory = File::open(path).map_err(LinuxError::system("open", path))?;
        let unsaved = |error: Errno| LinuxError::Unsaved { path: path.to_path_buf(), source: error.into() };
        // Write most of the data before freezing, so that writers wait less.
        rustix::fs::syncfs(&directory).map_err(unsaved)?;
        match sys::freeze(&directory) {
            // Left frozen by a program that was killed. It is consistent, and we have to thaw it.
            Ok(()) | Err(Errno::BUSY) => Ok(Self { directory, path, thawed: false }),
            Err(error) => Err(LinuxError::system("ioctl FIFREEZE", path)(error)),
        }
    }

    fn thaw(mut self) -> Result<(), LinuxError> {
        self.thawed = true;
        sys::thaw(&self.directory).map_err(LinuxError::system("ioctl FITHAW", self.path))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if !self.thawed {
            // Only reached while unwinding, where the error cannot be reported.
            let _ = sys::thaw(&self.directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::sandbox_mount::mount_storage;
    use crate::linux::test_support::{Mounted, no_record};
    use crate::linux::{loop_device, mount_table, sandbox_image};
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};
    use tempfile::TempDir;

    struct Store(TempDir);

    impl Store {
        fn new() -> Self {
            let store = Self(tempfile::tempdir().unwrap());
            sandbox_image::create(
                &store.0.path().join("templates"),
                &store.image(),
                1 << 30,
                (no_record, &Cancel::default()),
            )
            .unwrap();
            store
        }
        fn image(&self) -> PathBuf {
            self.0.path().join("sandbox.img")
        }
        fn mount(&self) -> Mounted {
            let target = self.0.path().join("storage");
            std::fs::create_dir_all(&target).unwrap();
            mount_storage(&self.image(), &target).unwrap();
            Mounted(target)
        }
        fn files(&self) -> usize {
            std::fs::read_dir(self.0.path()).unwrap().count()
        }
        /// Loop devices on files of this directory, those without a name included.
        fn loop_devices(&self) -> Vec<PathBuf> {
            let folder = self.0.path().canonicalize().unwrap();
            let blocks = std::fs::read_dir("/sys/block").unwrap();
            let devices = blocks.map(|block| Path::new("/dev").join(block.unwrap().file_name()));
            let is_ours = |device: &PathBuf| {
                let file = loop_device::backing_file(device).unwrap();
                file.is_some_and(|file| file.starts_with(&folder))
            };
            devices.filter(is_ours).collect()
        }
        /// The number of mounts of these devices in the mount table. Other tests mount other devices at the
        /// same time.
        fn mounts(&self) -> usize {
            let devices = self.loop_devices();
            mount_table::read().unwrap().iter().filter(|mount| devices.contains(&mount.source)).count()
        }
    }

    fn names(view: &SandboxView) -> Vec<String> {
        let entries = view.upper().walk(|_| false, None).unwrap().map(Result::unwrap);
        entries.map(|entry| String::from_utf8(entry.path).unwrap()).collect()
    }

    fn read(view: &SandboxView, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        view.upper().open_file(name.as_bytes()).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_sandbox_in_use_is_seen_as_it_was_at_the_moment_of_opening() {
        let store = Store::new();
        let mounted = store.mount();
        std::fs::write(mounted.0.join("upper/before"), vec![5; 3 << 20]).unwrap();
        let start = Instant::now();
        let view = SandboxView::open(&store.image(), &Cancel::default()).unwrap();
        eprintln!("view of a mounted sandbox with 3 MiB: {:?}", start.elapsed());
        std::fs::write(mounted.0.join("upper/after"), b"1").unwrap();
        std::fs::write(mounted.0.join("upper/before"), b"changed").unwrap();
        assert_eq!(names(&view), ["before"]);
        assert!(read(&view, "before") == vec![5; 3 << 20]);
        view.close().unwrap();
        assert_eq!(std::fs::read(mounted.0.join("upper/before")).unwrap(), b"changed");
    }

    #[test]
    fn a_view_leaves_no_file_mount_or_loop_device_behind() {
        let store = Store::new();
        let mounted = store.mount();
        let before = (store.files(), store.loop_devices(), store.mounts());
        assert_eq!((before.1.len(), before.2), (1, 1), "of the sandbox itself");
        let view = SandboxView::open(&store.image(), &Cancel::default()).unwrap();
        assert_eq!(store.loop_devices().len(), 2, "the copy has one, too");
        assert_eq!((store.files(), store.mounts()), (before.0, before.2), "neither can be seen");
        drop(view);
        // The kernel releases the copy a moment after its file system is unmounted.
        let start = Instant::now();
        while store.loop_devices() != before.1 && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!((store.files(), store.loop_devices(), store.mounts()), before);
        drop(mounted);
        in_use::wait_for_image(&store.image()).unwrap();
        assert_eq!((store.loop_devices(), store.mounts()), (Vec::new(), 0));
    }

    #[test]
    fn a_sandbox_not_in_use_is_read_in_place_and_free_again_after_closing() {
        let store = Store::new();
        std::fs::write(store.mount().0.join("upper/x"), b"text").unwrap();
        let view = SandboxView::open(&store.image(), &Cancel::default()).unwrap();
        assert_eq!(names(&view), ["x"]);
        assert_eq!(read(&view, "x"), b"text");
        assert_eq!(loop_device::attachments(&store.image()).unwrap().len(), 1);
        view.close().unwrap();
        drop(store.mount());
    }

    #[test]
    fn a_sandbox_whose_machine_crashed_shows_what_its_journal_holds() {
        let store = Store::new();
        let mounted = store.mount();
        std::fs::write(mounted.0.join("upper/synced"), b"1").unwrap();
        File::open(mounted.0.join("upper")).unwrap().sync_all().unwrap();
        File::open(mounted.0.join("upper/synced")).unwrap().sync_all().unwrap();
        // The image after a power cut: as it is now, including the journal.
        let crashed = store.0.path().join("crashed.img");
        let (source, target) = (File::open(store.image()).unwrap(), File::create_new(&crashed).unwrap());
        sparse_copy::copy((&source, &store.image()), (&target, &crashed), &Cancel::default()).unwrap();
        let view = SandboxView::open(&crashed, &Cancel::default()).unwrap();
        assert_eq!(names(&view), ["synced"]);
        assert_eq!(read(&view, "synced"), b"1");
    }

    #[test]
    fn writers_go_on_after_a_view_was_opened_or_failed_to_open() {
        let store = Store::new();
        let mounted = store.mount();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut count = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    std::fs::write(mounted.0.join("upper/x"), count.to_le_bytes()).unwrap();
                    count += 1;
                }
                count
            });
            for _ in 0..5 {
                SandboxView::open(&store.image(), &Cancel::default()).unwrap().close().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            assert!(writer.join().unwrap() > 0);
        });
        let missing = mount_copy(&store.0.path().join("missing.img"), &mounted.0, &Cancel::default());
        assert!(missing.is_err());
        std::fs::write(mounted.0.join("upper/y"), b"not frozen").unwrap();
    }

    #[test]
    fn a_sandbox_that_a_killed_program_left_frozen_is_thawed() {
        let store = Store::new();
        let mounted = store.mount();
        std::fs::write(mounted.0.join("upper/x"), b"1").unwrap();
        sys::freeze(File::open(&mounted.0).unwrap()).unwrap();
        let view = SandboxView::open(&store.image(), &Cancel::default()).unwrap();
        assert_eq!(names(&view), ["x"]);
        std::fs::write(mounted.0.join("upper/y"), b"not frozen").unwrap();
    }

    #[test]
    fn a_panic_thaws() {
        let store = Store::new();
        let mounted = store.mount();
        let result = std::panic::catch_unwind(|| {
            let _frozen = Frozen::new(&mounted.0).unwrap();
            panic!("on purpose");
        });
        assert!(result.is_err());
        std::fs::write(mounted.0.join("upper/x"), b"not frozen").unwrap();
    }

    #[test]
    fn a_file_left_open_is_reported_when_closing() {
        let store = Store::new();
        std::fs::write(store.mount().0.join("upper/x"), b"text").unwrap();
        let view = SandboxView::open(&store.image(), &Cancel::default()).unwrap();
        let open = view.upper().open_file(b"x").unwrap();
        assert!(matches!(view.close(), Err(LinuxError::ImageAttached { .. })));
        drop(open);
        in_use::wait_for_image(&store.image()).unwrap();
    }
}
