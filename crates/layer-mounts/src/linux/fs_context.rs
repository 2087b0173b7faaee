//! Makes one mount: `fsopen`, `fsconfig`, `fsmount`, `move_mount`, and the kernel's own messages if it
//! refuses.
//!
//! The old `mount(2)` passes all options in one page, so 125 device paths do not fit; here each path takes a
//! call of its own. A string may be at most 255 bytes, so longer paths are passed as `/proc/self/fd/N` of a
//! descriptor kept open meanwhile. [`FsContext::mount`] returns a *detached* mount: it has no place in the
//! tree yet and vanishes with its descriptor. That makes private mounts safe, and failed ones easy to undo.

use super::error::LinuxError;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest string `fsconfig` takes, in bytes: the kernel copies at most 256 with the final NUL.
const STRING_MAX: usize = 255;

/// A file system context, see `fsopen(2)`.
pub(super) struct FsContext {
    fd: OwnedFd,
    file_system: &'static str,
    /// The image or directory to mount, for errors.
    subject: PathBuf,
    /// Descriptors that parameters refer to.
    kept_open: Vec<OwnedFd>,
}

impl FsContext {
    /// Begins a mount of `subject` (an image or a directory) as the given file system.
    pub(super) fn open(file_system: &'static str, subject: &Path) -> Result<Self, LinuxError> {
        let fd =
            rustix::mount::fsopen(file_system, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| match error {
                Errno::NODEV => LinuxError::FileSystemMissing { file_system, source: error.into() },
                Errno::PERM => LinuxError::NotPermitted { path: subject.to_path_buf(), source: error.into() },
                _ => LinuxError::system("fsopen", subject)(error),
            })?;
        Ok(Self { fd, file_system, subject: subject.to_path_buf(), kept_open: Vec::new() })
    }

    pub(super) fn flag(&self, key: &str) -> Result<(), LinuxError> {
        rustix::mount::fsconfig_set_flag(self.fd.as_fd(), key).map_err(|error| self.refused(key, error))
    }

    pub(super) fn string(&self, key: &str, value: &str) -> Result<(), LinuxError> {
        rustix::mount::fsconfig_set_string(self.fd.as_fd(), key, value)
            .map_err(|error| self.refused(&format!("{key}={value}"), error))
    }

    /// A parameter whose value is a path the kernel will open.
    pub(super) fn path(&mut self, key: &str, path: &Path) -> Result<(), LinuxError> {
        let fits = path.as_os_str().len() <= STRING_MAX;
        let result = if fits {
            rustix::mount::fsconfig_set_string(self.fd.as_fd(), key, path)
        } else {
            let name = self.descriptor_name(path)?;
            rustix::mount::fsconfig_set_string(self.fd.as_fd(), key, name.as_str())
        };
        result.map_err(|error| self.refused(&format!("{key}={}", path.display()), error))
    }

    /// Like [`FsContext::path`] for overlayfs, where `:`, `,` and `\` in strings have a meaning.
    pub(super) fn overlay_path(&mut self, key: &str, path: &Path) -> Result<(), LinuxError> {
        if !path.as_os_str().as_bytes().iter().any(|byte| b":,\\".contains(byte)) {
            return self.path(key, path);
        }
        let name = self.descriptor_name(path)?;
        rustix::mount::fsconfig_set_string(self.fd.as_fd(), key, name.as_str())
            .map_err(|error| self.refused(&format!("{key}={}", path.display()), error))
    }

    /// A parameter whose value is an open directory. Old kernels refuse it.
    pub(super) fn descriptor(&self, key: &str, directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
        rustix::mount::fsconfig_set_fd(self.fd.as_fd(), key, directory)
    }

    /// Makes the file system and a detached mount of it.
    pub(super) fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, LinuxError> {
        rustix::mount::fsconfig_create(self.fd.as_fd()).map_err(|error| self.refused("create", error))?;
        rustix::mount::fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|error| self.failed("fsmount".into(), error))
    }

    /// A short name for a path, good for as long as this context lives.
    fn descriptor_name(&mut self, path: &Path) -> Result<String, LinuxError> {
        let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(LinuxError::system("openat", path))?;
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        self.kept_open.push(fd);
        Ok(name)
    }

    fn refused(&self, parameter: &str, error: Errno) -> LinuxError {
        self.failed(format!("fsconfig {parameter}"), error)
    }

    fn failed(&self, call: String, error: Errno) -> LinuxError {
        LinuxError::Mount {
            file_system: self.file_system,
            call,
            path: self.subject.clone(),
            log: self.kernel_log(),
            source: error.into(),
        }
    }

    /// The kernel's messages about this mount. Each read returns one message: a letter for its level, a
    /// space, the text.
    fn kernel_log(&self) -> Vec<String> {
        let mut messages = Vec::new();
        let mut buffer = [0_u8; 4096];
        while let Ok(length @ 1..) = rustix::io::read(&self.fd, &mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            let text = text.trim();
            messages.push(
                text.split_once(' ').filter(|(level, _)| level.len() == 1).map_or(text, |x| x.1).into(),
            );
        }
        messages
    }
}

/// Puts a detached mount at its place.
pub(super) fn attach(mount: BorrowedFd<'_>, target: &Path) -> Result<(), LinuxError> {
    rustix::mount::move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(LinuxError::system("move_mount", target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_file_system_is_reported_as_missing() {
        let error = FsContext::open("nosuchfs", Path::new("/x")).err().unwrap();
        assert!(matches!(error, LinuxError::FileSystemMissing { file_system: "nosuchfs", .. }), "{error}");
    }

    #[test]
    fn a_refused_parameter_carries_what_the_kernel_says_about_it() {
        let context = FsContext::open("ext4", Path::new("/x")).unwrap();
        let LinuxError::Mount { call, log, .. } = context.string("no_such_option", "1").unwrap_err() else {
            panic!("another error")
        };
        assert_eq!(call, "fsconfig no_such_option=1");
        assert_eq!(log, ["ext4: Unknown parameter 'no_such_option'"]);
    }
}
