//! Loop devices: files as block devices, for the file systems that need one.
//!
//! A device is found free and then configured, two steps between which another process may take it; the kernel then says
//! EBUSY and the search starts again. Devices are set to *autoclear*: they let go of their file when the last mount or
//! descriptor is gone, so a crash leaves none behind.

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
use std::time::{Duration, Instant};

const CONTROL: &str = "/dev/loop-control";
/// Major device number of loop devices. Source: `Documentation/admin-guide/devices.txt`.
const LOOP_MAJOR: u32 = 7;
/// How often another process may win the race for a free device before we give up. Each loss is someone else's gain, so
/// this many in a row mean that something is wrong.
const ATTEMPTS: usize = 256;
/// How long a device without a mount, which is to go by itself, may take to let go of its file. A moment mostly; on a busy machine, whoever
/// looks through all devices keeps it as long as the look takes.
const DETACH_TIMEOUT: Duration = Duration::from_secs(10);

/// How a file is attached. Everything off: writable, kept until [`LoopDevice::detach`], through the page cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopOptions {
    /// The device refuses writes, and `file` need not be open for writing.
    pub read_only: bool,
    /// The device lets go of the file when its last user is gone.
    pub autoclear: bool,
    /// Bytes do not go through the page cache of the backing file, so they are not cached twice. The kernel silently
    /// ignores it where the file's own file system has no direct I/O. Implies blocks of 4096 bytes.
    pub direct_io: bool,
}

/// An attached loop device. Dropping it closes the descriptor: with `autoclear` that detaches the file, unless it is
/// mounted by then.
#[derive(Debug)]
pub struct LoopDevice {
    device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches `file` from its first to its last byte. `image` is its path, for errors and for `losetup` to show.
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

    /// Makes the device as large as its file has become.
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

    /// Detaches the file; if the device is mounted, when it no longer is.
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

/// Opens the device node, making it first where `/dev` is not kept by the kernel, as in many containers.
fn open_node(path: &Path, number: u32, read_only: bool) -> Result<File, LinuxError> {
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let open = || rustix::fs::openat(CWD, path, access | OFlags::CLOEXEC, Mode::empty()).map(File::from);
    match open() {
        Err(Errno::NOENT) => {
            let device = rustix::fs::makedev(LOOP_MAJOR, number);
            match rustix::fs::mknodat(CWD, path, FileType::BlockDevice, Mode::from_raw_mode(0o660), device) {
                Ok(()) | Err(Errno::EXIST) => open().map_err(LinuxError::system("open", path)),
                Err(error) => Err(LinuxError::system("mknodat", path)(error)),
            }
        }
        result => result.map_err(LinuxError::system("open", path)),
    }
}

/// Direct I/O needs blocks as large as those of the file below; 0 leaves the kernel's 512.
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

/// Whether a device lets go of its file when nobody has it open any more; `None` if it is free.
fn goes_by_itself(device: &Path) -> Result<Option<bool>, LinuxError> {
    Ok(attribute(device, "autoclear")?.map(|text| text == b"1\n"))
}

/// The file a loop device is attached to, as the kernel names it now (it follows renames), or `None` if it is free.
pub fn backing_file(device: &Path) -> Result<Option<PathBuf>, LinuxError> {
    let file = attribute(device, "backing_file")?;
    Ok(file.map(|text| std::ffi::OsStr::from_bytes(text.strip_suffix(b"\n").unwrap_or(&text)).into()))
}

/// What sysfs says of an attached loop device; `None` if it is free.
fn attribute(device: &Path, name: &str) -> Result<Option<Vec<u8>>, LinuxError> {
    let Some(device) = device.file_name() else { return Ok(None) };
    let attribute = Path::new("/sys/block").join(device).join("loop").join(name);
    match std::fs::read(&attribute) {
        Ok(text) => Ok(Some(text)),
        // Between two uses of a device the attribute is there but cannot be read.
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NODEV | Errno::NXIO)) =>
        {
            Ok(None)
        }
        Err(error) => Err(LinuxError::system("read", &attribute)(error)),
    }
}

/// The loop devices that have this very file attached, whatever it was called then.
pub fn attached_to(image: &Path) -> Result<Vec<PathBuf>, LinuxError> {
    let wanted = std::fs::metadata(image).map_err(LinuxError::system("stat", image))?;
    let block = Path::new("/sys/block");
    let devices = std::fs::read_dir(block).map_err(LinuxError::system("opendir", block))?;
    let mut found = Vec::new();
    for device in devices {
        let name = device.map_err(LinuxError::system("readdir", block))?.file_name();
        if !name.as_bytes().starts_with(b"loop") {
            continue;
        }
        let device = Path::new("/dev").join(&name);
        let same = |file: PathBuf| {
            std::fs::metadata(file).is_ok_and(|file| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()))
        };
        if backing_file(&device)?.is_some_and(same) {
            found.push(device);
        }
    }
    found.sort();
    Ok(found)
}

/// Waits until no loop device has this file attached. The kernel lets go of it a moment after its file system was
/// unmounted, as soon as nobody (such as a search for a free device) looks at the loop device. An image that is mounted,
/// or attached to stay, or still attached after ten seconds, is an error.
pub fn wait_until_detached(image: &Path) -> Result<(), LinuxError> {
    let start = Instant::now();
    while let Some(device) = attached_to(image)?.into_iter().next() {
        let is_mounted = mount_table::read()?.iter().any(|mount| mount.source == device);
        // One that let go in the meantime says nothing; the next look finds it free.
        let stays = goes_by_itself(&device)? == Some(false);
        let is_over = is_mounted || stays || start.elapsed() > DETACH_TIMEOUT;
        // Or it let go, and what was just said is about the next file that it was attached to.
        if is_over && attached_to(image)?.contains(&device) {
            return Err(LinuxError::ImageAttached { path: image.to_path_buf(), device });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

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
        assert_eq!(attached_to(&image).unwrap(), [device.path()]);
        let writable = File::options().write(true).open(device.path());
        assert!(
            writable.and_then(|mut file| file.write_all(&[0; 512])).is_err(),
            "a read-only device was written to"
        );
        drop(device);
        wait_until_detached(&image).unwrap();
    }

    #[test]
    fn a_renamed_file_is_still_found_attached() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), 1 << 20);
        let options = LoopOptions { read_only: true, autoclear: true, direct_io: false };
        let device = LoopDevice::attach_path(&image, options).unwrap();
        let renamed = folder.path().join("renamed");
        std::fs::rename(&image, &renamed).unwrap();
        assert_eq!(attached_to(&renamed).unwrap(), [device.path()]);
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
        assert_eq!(attached_to(&image).unwrap(), std::slice::from_ref(&path));
        assert!(matches!(wait_until_detached(&image), Err(LinuxError::ImageAttached { .. })));
        LoopDevice::open(&path).unwrap().detach().unwrap();
        wait_until_detached(&image).unwrap();
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
        assert_eq!(attached_to(&image).unwrap().len(), 12);
    }

    #[test]
    fn a_missing_image_is_named() {
        let error =
            LoopDevice::attach_path(Path::new("/nonexistent/image"), LoopOptions::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/image"), "{error}");
    }
}
