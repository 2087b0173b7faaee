//! Loop devices: files as block devices, for the file systems that need one.
//!
//! Attaching finds a free device and then configures it. Another process may take the device in between; the
//! kernel then says EBUSY and the search starts again. Devices are set to *autoclear*: they detach their file
//! when the last mount or descriptor is gone, so a crash leaves none behind.

use super::error::LinuxError;
use super::mount_table;
use super::sys::{self, LoopInfo};
use rustix::fd::AsFd;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const CONTROL: &str = "/dev/loop-control";
/// Major device number of loop devices. Source: `Documentation/admin-guide/devices.txt`.
const LOOP_MAJOR: u32 = 7;
/// How often another process may win the race for a free device before we give up. Each loss means that
/// another process got one, so this many in a row mean that something is wrong.
const ATTEMPTS: usize = 256;

/// Options of an attachment. With all off, the device is writable, stays until [`LoopDevice::detach`], and
/// uses the page cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopOptions {
    /// The device refuses writes, and `file` need not be open for writing.
    pub read_only: bool,
    /// The device detaches the file when its last user is gone.
    pub autoclear: bool,
    /// The device bypasses the page cache of the backing file, so that bytes are not cached twice. The kernel
    /// silently ignores this if the file's own file system has no direct I/O. Implies blocks of 4096 bytes.
    pub direct_io: bool,
}

/// An attached loop device. Dropping it closes the descriptor: with `autoclear` that detaches the file,
/// unless it is mounted by then.
#[derive(Debug)]
pub struct LoopDevice {
    device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches the whole `file`. `image` is its path, for errors and for `losetup` to show.
    pub fn attach(file: &File, image: &Path, options: LoopOptions) -> Result<Self, LinuxError> {
        let control = open_control()?;
        for _ in 0..ATTEMPTS {
            let number = sys::loop_get_free(&control)
                .map_err(LinuxError::system("ioctl LOOP_CTL_GET_FREE", Path::new(CONTROL)))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open_node(&path, number, options.read_only)?;
            match sys::loop_configure(&device, file.as_fd(), block_size(options), info(image, options)) {
                Ok(()) => return Ok(Self { device, path }),
                Err(Errno::BUSY) => {}
                Err(error) => return Err(LinuxError::system("ioctl LOOP_CONFIGURE", image)(error)),
            }
        }
        Err(LinuxError::system("ioctl LOOP_CONFIGURE", image)(Errno::BUSY))
    }

    /// Opens the image and attaches it.
    pub fn attach_path(image: &Path, options: LoopOptions) -> Result<Self, LinuxError> {
        let file = File::options()
            .read(true)
            .write(!options.read_only)
            .open(image)
            .map_err(LinuxError::system("open", image))?;
        Self::attach(&file, image, options)
    }

    /// The device node, such as `/dev/loop3`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Grows the device to the current size of its file.
    pub fn set_capacity(&self) -> Result<(), LinuxError> {
        sys::loop_set_capacity(&self.device)
            .map_err(LinuxError::system("ioctl LOOP_SET_CAPACITY", &self.path))
    }

    /// Whether the kernel granted `direct_io`.
    pub fn is_direct(&self) -> Result<bool, LinuxError> {
        let status = sys::loop_status(&self.device);
        let status = status.map_err(LinuxError::system("ioctl LOOP_GET_STATUS64", &self.path))?;
        Ok(status.flags & sys::LO_FLAGS_DIRECT_IO != 0)
    }

    /// Detaches the file; if the device is mounted, the kernel does so after the unmount.
    pub fn detach(self) -> Result<(), LinuxError> {
        sys::loop_clear(&self.device).map_err(LinuxError::system("ioctl LOOP_CLR_FD", &self.path))
    }

    /// Opens a device that is attached already, for [`LoopDevice::set_capacity`].
    pub fn open(path: &Path) -> Result<Self, LinuxError> {
        let device = File::open(path).map_err(LinuxError::system("open", path))?;
        Ok(Self { device, path: path.to_path_buf() })
    }
}

fn open_control() -> Result<File, LinuxError> {
    let missing = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => LinuxError::LoopMissing { path: CONTROL.into(), source: error },
        std::io::ErrorKind::PermissionDenied => {
            LinuxError::NotPermitted { path: CONTROL.into(), source: error }
        }
        _ => LinuxError::system("open", Path::new(CONTROL))(error),
    };
    File::options().read(true).write(true).open(CONTROL).map_err(missing)
}

/// Opens the device node. Creates it first if the kernel does not maintain `/dev`, as in many containers.
fn open_node(path: &Path, number: u32, read_only: bool) -> Result<File, LinuxError> {
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    open_numbered(path, rustix::fs::makedev(LOOP_MAJOR, number), access)
}

fn open_numbered(path: &Path, device: rustix::fs::Dev, access: OFlags) -> Result<File, LinuxError> {
    let open = || rustix::fs::openat(CWD, path, access | OFlags::CLOEXEC, Mode::empty()).map(File::from);
    match open() {
        Err(Errno::NOENT) => {
            match rustix::fs::mknodat(CWD, path, FileType::BlockDevice, Mode::from_raw_mode(0o660), device) {
                Ok(()) | Err(Errno::EXIST) => open().map_err(LinuxError::system("open", path)),
                Err(error) => Err(LinuxError::system("mknodat", path)(error)),
            }
        }
        result => result.map_err(LinuxError::system("open", path)),
    }
}

/// Direct I/O needs blocks as large as those of the backing file; 0 keeps the kernel's 512.
fn block_size(options: LoopOptions) -> u32 {
    if options.direct_io { 4096 } else { 0 }
}

fn info(image: &Path, options: LoopOptions) -> LoopInfo {
    let mut info = LoopInfo::new();
    let flags = [
        (options.read_only, sys::LO_FLAGS_READ_ONLY),
        (options.autoclear, sys::LO_FLAGS_AUTOCLEAR),
        (options.direct_io, sys::LO_FLAGS_DIRECT_IO),
    ];
    info.flags = flags.into_iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, flag)| all | flag);
    let name = image.as_os_str().as_bytes();
    let length = name.len().min(info.file_name.len() - 1);
    info.file_name[..length].copy_from_slice(&name[..length]);
    info
}

/// The file attached to a loop device, by its current name (the kernel follows renames); `None` if the device
/// is free.
pub fn backing_file(device: &Path) -> Result<Option<PathBuf>, LinuxError> {
    let file = attribute(device, "backing_file")?;
    Ok(file.map(|text| std::ffi::OsStr::from_bytes(text.strip_suffix(b"\n").unwrap_or(&text)).into()))
}

/// An attribute of an attached loop device in sysfs; `None` if the device is free.
fn attribute(device: &Path, name: &str) -> Result<Option<Vec<u8>>, LinuxError> {
    let Some(device) = device.file_name() else { return Ok(None) };
    let attribute = Path::new("/sys/block").join(device).join("loop").join(name);
    match std::fs::read(&attribute) {
        Ok(text) => Ok(Some(text)),
        // Between two uses of a device the attribute exists but cannot be read.
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NODEV | Errno::NXIO)) =>
        {
            Ok(None)
        }
        Err(error) => Err(LinuxError::system("read", &attribute)(error)),
    }
}

/// A loop device that has a file attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its node, such as `/dev/loop3`.
    pub device: PathBuf,
    /// Its device number, major and minor, as in mount tables.
    pub number: (u32, u32),
}

/// The loop devices that have this very file attached, under any path and in any namespace: compares the
/// device and inode numbers that the kernel reports.
pub fn attachments(image: &Path) -> Result<Vec<Attachment>, LinuxError> {
    let wanted = std::fs::metadata(image).map_err(LinuxError::system("stat", image))?;
    let block = Path::new("/sys/block");
    let devices = std::fs::read_dir(block).map_err(LinuxError::system("opendir", block))?;
    let mut found = Vec::new();
    for device in devices {
        let name = device.map_err(LinuxError::system("readdir", block))?.file_name();
        // A free device has no `loop` directory.
        if !name.as_bytes().starts_with(b"loop") || !block.join(&name).join("loop").exists() {
            continue;
        }
        let Some(number) = device_number(&block.join(&name).join("dev"))? else { continue };
        let device = Path::new("/dev").join(&name);
        let is_it = |file: (u64, u64)| file == (wanted.dev(), wanted.ino());
        if attached_file(&device, number)?.is_some_and(is_it) {
            found.push(Attachment { device, number });
        }
    }
    found.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(found)
}

/// The device number in a file of sysfs, `7:3`.
fn device_number(path: &Path) -> Result<Option<(u32, u32)>, LinuxError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(mount_table::parse_device(text.trim_end().as_bytes())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LinuxError::system("read", path)(error)),
    }
}

/// Device and inode number of the file attached to a device; `None` if it is free by now.
fn attached_file(device: &Path, (major, minor): (u32, u32)) -> Result<Option<(u64, u64)>, LinuxError> {
    let number = rustix::fs::makedev(major, minor);
    let node = open_numbered(device, number, OFlags::RDONLY).ok();
    let Some(node) = node.filter(|node| rustix::fs::fstat(node).is_ok_and(|node| node.st_rdev == number))
    else {
        // `/dev` lacks the device and we may not create it. The path is better than nothing, and the lock
        // still protects the image.
        let file = backing_file(device)?.and_then(|file| std::fs::metadata(file).ok());
        return Ok(file.map(|file| (file.dev(), file.ino())));
    };
    match sys::loop_status(&node) {
        Ok(status) => Ok(Some((status.device, status.inode))),
        Err(Errno::NXIO | Errno::NODEV) => Ok(None),
        Err(error) => Err(LinuxError::system("ioctl LOOP_GET_STATUS64", device)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::in_use;
    use std::io::{Read, Write};

    fn devices_of(image: &Path) -> Vec<PathBuf> {
        attachments(image).unwrap().into_iter().map(|attachment| attachment.device).collect()
    }

    fn image(folder: &Path, length: u64) -> PathBuf {
        let path = folder.join("image");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"first bytes").unwrap();
        file.set_len(length).unwrap();
        path
    }

    #[test]
    fn an_attached_device_shows_the_file_until_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), 1 << 20);
        let options = LoopOptions { read_only: true, autoclear: true, direct_io: false };
        let device = LoopDevice::attach_path(&image, options).unwrap();
        let mut bytes = [0; 11];
        File::open(device.path()).unwrap().read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"first bytes");
        assert_eq!(backing_file(device.path()).unwrap(), Some(image.clone()));
        assert_eq!(devices_of(&image), [device.path()]);
        let writable = File::options().write(true).open(device.path());
        assert!(
            writable.and_then(|mut file| file.write_all(&[0; 512])).is_err(),
            "a read-only device was written to"
        );
        drop(device);
        in_use::wait_for_image(&image).unwrap();
    }

    #[test]
    fn a_renamed_file_is_still_found_attached() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), 1 << 20);
        let options = LoopOptions { read_only: true, autoclear: true, direct_io: false };
        let device = LoopDevice::attach_path(&image, options).unwrap();
        let renamed = folder.path().join("renamed");
        std::fs::rename(&image, &renamed).unwrap();
        assert_eq!(devices_of(&renamed), [device.path()]);
    }

    #[test]
    fn a_device_grows_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), 1 << 20);
        let device =
            LoopDevice::attach_path(&image, LoopOptions { autoclear: true, ..Default::default() }).unwrap();
        let bytes = || std::io::Seek::seek(&mut &device.device, std::io::SeekFrom::End(0)).unwrap();
        assert_eq!(bytes(), 1 << 20);
        File::options().write(true).open(&image).unwrap().set_len(3 << 20).unwrap();
        device.set_capacity().unwrap();
        assert_eq!(bytes(), 3 << 20);
    }

    #[test]
    fn a_device_without_autoclear_stays_until_detached() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), 1 << 20);
        let device = LoopDevice::attach_path(&image, LoopOptions::default()).unwrap();
        let path = device.path().to_path_buf();
        drop(device);
        assert_eq!(devices_of(&image), std::slice::from_ref(&path));
        assert!(in_use::of_image(&image).unwrap().is_some());
        LoopDevice::open(&path).unwrap().detach().unwrap();
        in_use::wait_for_image(&image).unwrap();
    }

    #[test]
    fn threads_that_attach_at_once_get_different_devices() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), 1 << 20);
        let options = LoopOptions { read_only: true, autoclear: true, direct_io: false };
        let devices: Vec<LoopDevice> = std::thread::scope(|scope| {
            let attach = || LoopDevice::attach_path(&image, options).unwrap();
            let threads: Vec<_> = (0..12).map(|_| scope.spawn(attach)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut paths: Vec<_> = devices.iter().map(|device| device.path().to_path_buf()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 12);
        assert_eq!(devices_of(&image).len(), 12);
    }

    #[test]
    fn a_missing_image_is_named() {
        let error =
            LoopDevice::attach_path(Path::new("/nonexistent/image"), LoopOptions::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/image"), "{error}");
    }
}
