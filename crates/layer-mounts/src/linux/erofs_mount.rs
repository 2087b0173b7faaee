//! Mounts an index with the tars that it points into.
//!
//! Since Linux 6.12 EROFS mounts straight from files: no loop devices, nothing to clean up. Older kernels
//! (ENOTBLK), and files on a file system EROFS cannot read pages from, such as tmpfs (EINVAL), get a
//! read-only loop device for the index and for every tar; these detach themselves when the view is unmounted.
//!
//! A store that lies on overlayfs gets loop devices as well: the kernel allows two file systems stacked on
//! each other, and store, view and sandbox would be three. Loop devices do not count.
//!
//! EROFS' `directio` is not used: it keeps file data from being cached twice (for the view and for the tar),
//! but a cold read took 25 to 40% longer.

use super::error::LinuxError;
use super::fs_context::{FsContext, attach};
use super::loop_device::{LoopDevice, LoopOptions};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::path::{Path, PathBuf};

/// `OVERLAYFS_SUPER_MAGIC` of `linux/magic.h`.
const OVERLAYFS_MAGIC: u32 = 0x794c_7630;

/// How the kernel reads the index and the tars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Files if the kernel supports it, else loop devices.
    Auto,
    /// The files themselves.
    Files,
    /// A loop device for each file.
    LoopDevices,
}

/// Mounts the index read-only at `target`, with its tars in the order of its device table.
pub fn mount_index(index: &Path, devices: &[PathBuf], target: &Path) -> Result<(), LinuxError> {
    mount_index_with(index, devices, target, Backing::Auto)
}

/// Like [`mount_index`], with a choice of the backing.
pub fn mount_index_with(
    index: &Path,
    devices: &[PathBuf],
    target: &Path,
    backing: Backing,
) -> Result<(), LinuxError> {
    attach(detached_index(index, devices, backing)?.as_fd(), target)
}

/// Makes a detached mount of the index: it is used through its descriptor and ends with it.
pub fn detached_index(index: &Path, devices: &[PathBuf], backing: Backing) -> Result<OwnedFd, LinuxError> {
    for path in std::iter::once(index).chain(devices.iter().map(PathBuf::as_path)) {
        let metadata = std::fs::metadata(path).map_err(LinuxError::system("stat", path))?;
        if !metadata.is_file() {
            return Err(LinuxError::NotAFile { path: path.to_path_buf() });
        }
    }
    match backing {
        Backing::Files => mount_files(index, devices),
        Backing::LoopDevices => mount_loop_devices(index, devices),
        Backing::Auto if is_on_overlayfs(index)? => mount_loop_devices(index, devices),
        Backing::Auto => mount_files(index, devices).or_else(|file_backed| {
            let needs_devices = [Errno::NOTBLK, Errno::INVAL].map(|error| Some(error.raw_os_error()));
            if !needs_devices.contains(&file_backed.raw_os_error()) {
                return Err(file_backed);
            }
            mount_loop_devices(index, devices).map_err(|loop_backed| LinuxError::BothBackings {
                file_backed: Box::new(file_backed),
                loop_backed: Box::new(loop_backed),
            })
        }),
    }
}

fn is_on_overlayfs(index: &Path) -> Result<bool, LinuxError> {
    let file_system = rustix::fs::statfs(index).map_err(LinuxError::system("statfs", index))?;
    // The kernel's magic numbers have 32 bits; the field is wider and signed on most machines.
    Ok(file_system.f_type as u32 == OVERLAYFS_MAGIC)
}

fn mount_files(index: &Path, devices: &[PathBuf]) -> Result<OwnedFd, LinuxError> {
    mount(&mut FsContext::open("erofs", index)?, index, devices)
}

fn mount_loop_devices(index: &Path, devices: &[PathBuf]) -> Result<OwnedFd, LinuxError> {
    let mut context = FsContext::open("erofs", index)?;
    let options = LoopOptions { read_only: true, autoclear: true, direct_io: false };
    let attached = |path: &Path| LoopDevice::attach_path(path, options);
    let index = attached(index)?;
    let devices = devices.iter().map(|path| attached(path)).collect::<Result<Vec<_>, _>>()?;
    let paths: Vec<_> = devices.iter().map(|device| device.path().to_path_buf()).collect();
    // Once mounted, the kernel holds the devices; before, dropping ours detaches them.
    mount(&mut context, index.path(), &paths)
}

fn mount(context: &mut FsContext, source: &Path, devices: &[PathBuf]) -> Result<OwnedFd, LinuxError> {
    context.flag("ro")?;
    context.path("source", source)?;
    for device in devices {
        context.path("device", device)?;
    }
    context.mount(
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOATIME,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_support::{Layers, Mounted};
    use crate::linux::{in_use, loop_device, mount_table};
    use std::time::Instant;

    fn mounted(layers: &Layers, backing: Backing) -> Mounted {
        let target = layers.folder("view");
        mount_index_with(&layers.index(), &layers.tars(), &target, backing).unwrap();
        Mounted(target)
    }

    fn assert_shows_all(view: &Path, layers: &Layers) {
        for number in 0..layers.count() {
            let text = std::fs::read(view.join(format!("Files/layer-{number}.txt"))).unwrap();
            assert_eq!(text, Layers::text(number));
        }
    }

    #[test]
    fn a_view_of_one_tar_shows_its_files_read_only() {
        let layers = Layers::new(1);
        let view = mounted(&layers, Backing::Auto);
        assert_shows_all(&view.0, &layers);
        let error = std::fs::write(view.0.join("Files/new"), b"").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let mount = mount_table::at(&view.0).unwrap().unwrap();
        assert_eq!(mount.file_system, "erofs");
        let source = loop_device::backing_file(&mount.source).unwrap().unwrap_or(mount.source);
        assert_eq!(source, layers.index());
        for option in ["ro", "nosuid", "nodev", "noatime"] {
            assert!(mount.options.split(',').any(|x| x == option), "{option} is not in {}", mount.options);
        }
    }

    /// Whether this kernel mounts these files directly; tries it.
    fn kernel_mounts_files(layers: &Layers) -> bool {
        detached_index(&layers.index(), &layers.tars(), Backing::Files).is_ok()
    }

    #[test]
    fn files_of_130_tars_are_mounted_without_loop_devices_where_the_kernel_can() {
        let layers = Layers::new(130);
        let start = Instant::now();
        let view = mounted(&layers, Backing::Auto);
        eprintln!("130 devices from files: {:?}", start.elapsed());
        let loop_devices = loop_device::attachments(&layers.index()).unwrap();
        assert_eq!(loop_devices.is_empty(), kernel_mounts_files(&layers));
        assert_shows_all(&view.0, &layers);
    }

    #[test]
    fn loop_devices_show_the_same_and_are_gone_after_unmounting() {
        let layers = Layers::new(9);
        let start = Instant::now();
        let view = mounted(&layers, Backing::LoopDevices);
        eprintln!("9 loop devices: {:?}", start.elapsed());
        assert_shows_all(&view.0, &layers);
        assert_eq!(loop_device::attachments(&layers.tars()[8]).unwrap().len(), 1);
        drop(view);
        for file in layers.tars().into_iter().chain([layers.index()]) {
            in_use::wait_for_image(&file).unwrap();
        }
    }

    #[test]
    fn memory_file_systems_fall_back_to_loop_devices() {
        let layers = Layers::new_in(Path::new("/dev/shm"), 3);
        let view = mounted(&layers, Backing::Auto);
        let loop_devices = loop_device::attachments(&layers.index()).unwrap();
        assert_eq!(loop_devices.is_empty(), kernel_mounts_files(&layers));
        assert_shows_all(&view.0, &layers);
    }

    #[test]
    fn paths_longer_than_the_kernel_takes_as_a_string_work() {
        let parent = tempfile::tempdir().unwrap();
        let layers = Layers::new_in(&Layers::deep_folder(&parent), 2);
        assert!(layers.index().as_os_str().len() > 255);
        let view = mounted(&layers, Backing::Auto);
        assert_shows_all(&view.0, &layers);
    }

    #[test]
    fn a_missing_tar_is_named_and_nothing_is_mounted() {
        let layers = Layers::new(3);
        std::fs::remove_file(&layers.tars()[1]).unwrap();
        let target = layers.folder("view");
        let error = mount_index(&layers.index(), &layers.tars(), &target).unwrap_err();
        assert!(error.to_string().contains("layer-1.tar"), "{error}");
        assert_eq!(mount_table::at(&target).unwrap(), None);
    }

    #[test]
    fn a_damaged_index_tells_how_both_ways_failed_and_leaves_no_loop_device() {
        let layers = Layers::new(2);
        std::fs::write(layers.index(), vec![0_u8; 8192]).unwrap();
        let error = mount_index(&layers.index(), &layers.tars(), &layers.folder("view")).unwrap_err();
        assert!(matches!(error, LinuxError::BothBackings { .. }), "{error}");
        assert!(error.to_string().contains("index.erofs"), "{error}");
        in_use::wait_for_image(&layers.index()).unwrap();
    }

    #[test]
    fn too_few_tars_are_refused() {
        let layers = Layers::new(2);
        assert!(mount_index(&layers.index(), &layers.tars()[..1], &layers.folder("view")).is_err());
    }
}
