//! Reading the upper directory of an overlay: what a sandbox changed.
//!
//! Its names come from whatever ran in the sandbox, so nothing here follows a link, leaves the directory, crosses a mount,
//! opens anything but directories and regular files, or trusts a depth: the walk keeps a stack of its own, works with
//! descriptors relative to the directory (a path may be longer than `PATH_MAX`), and holds a bounded number of them.
//!
//! How overlayfs writes changes down: `Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque directories". It
//! needs privileges to see (`trusted.*`); a walk without them sees no opaque directories, so it must not be tried.

use super::error::LinuxError;
use super::xattrs;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest path of an entry, in bytes. Windows ends at 32,767 UTF-16 units, each at most three bytes in UTF-8, so no
/// longer path can be committed; the limit also bounds what a hostile tree can cost.
pub const PATH_MAX_BYTES: usize = 32_767 * 3;
/// Directories kept open during a walk; those further up are found again through `..`.
const OPEN_DIRECTORIES: usize = 32;
/// Bytes of path handed to the kernel at a time, below its `PATH_MAX` of 4096.
const PATH_PIECE: usize = 3000;

const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const WHITEOUT: &[u8] = b"trusted.overlay.whiteout";
/// Attributes that say: the truth about this entry is elsewhere. This store mounts overlays without them.
const FOREIGN: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpperKind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
    },
    /// A directory.
    Directory {
        /// Whether it hides all entries of the lower directory of the same name.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points to, as it was written.
        target: Vec<u8>,
    },
    /// The name is deleted.
    Whiteout,
    /// A device, fifo or socket.
    Other {
        /// Type and permissions, `st_mode`.
        mode: u32,
    },
}

/// One entry of an upper directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpperEntry {
    /// Path relative to the upper directory, `/` between names; empty for the directory itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: UpperKind,
    /// Last modification: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Inode number: entries with the same one are hard links of one file.
    pub inode: u64,
    /// How many names the file has.
    pub links: u64,
    /// Extended attributes with their full names, sorted, without those of overlayfs itself.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An upper directory, open for reading.
#[derive(Debug)]
pub struct UpperDirectory {
    fd: OwnedFd,
    /// Where it is, for errors.
    path: PathBuf,
}

impl UpperDirectory {
    /// Opens the directory at this path.
    pub fn open(path: &Path) -> Result<Self, LinuxError> {
        Self::open_at(rustix::fs::CWD, path, path)
    }

    /// Opens the directory `name` of another, such as a detached mount. `path` is for errors.
    pub fn open_at(directory: BorrowedFd<'_>, name: &Path, path: &Path) -> Result<Self, LinuxError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(LinuxError::system("openat", path))?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// The directory itself, as an entry with an empty path.
    pub fn root(&self) -> Result<UpperEntry, LinuxError> {
        let (status, xattrs) = self.status(self.fd.as_fd(), &[])?;
        self.entry(&[], self.fd.as_fd(), &status, xattrs, false)
    }

    /// All entries: each directory before what is in it, the entries of a directory in the order of their names' bytes.
    /// Ends after the first error.
    pub fn walk(&self) -> Result<UpperWalk<'_>, LinuxError> {
        let mut walk = UpperWalk { upper: self, stack: Vec::new(), path: Vec::new() };
        let root = self.fd.try_clone().map_err(LinuxError::system("dup", &self.path))?;
        let (status, xattrs) = self.status(root.as_fd(), &[])?;
        walk.push(root, &status, has_xattr_whiteouts(&xattrs))?;
        Ok(walk)
    }

    /// Opens a regular file of the directory for reading.
    pub fn open_file(&self, path: &[u8]) -> Result<File, LinuxError> {
        let error_path = || self.path.join(OsStr::from_bytes(path));
        let (directory, name) = self.parent_of(path)?;
        let directory = directory.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
        // Without blocking, as it might be a fifo by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = beneath(directory, name, flags).map_err(LinuxError::system("openat2", &error_path()))?;
        let status = statx(fd.as_fd()).map_err(LinuxError::system("statx", &error_path()))?;
        if file_type(&status) != FileType::RegularFile {
            return Err(LinuxError::NotAFile { path: error_path() });
        }
        Ok(fd.into())
    }

    /// The directory of a path, and the last name. Long paths are walked a piece at a time.
    fn parent_of<'a>(&self, path: &'a [u8]) -> Result<(Option<OwnedFd>, &'a [u8]), LinuxError> {
        let mut directory: Option<OwnedFd> = None;
        let mut rest = path;
        while let Some(slash) = last_slash(rest) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let from = directory.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let next = beneath(from, &rest[..slash], flags)
                .map_err(LinuxError::system("openat2", &self.path.join(OsStr::from_bytes(path))))?;
            directory = Some(next);
            rest = &rest[slash + 1..];
        }
        Ok((directory, rest))
    }

    fn status(&self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<(Statx, Vec<xattrs::Attribute>), LinuxError> {
        let status = statx(fd)
            .map_err(|error| LinuxError::system("statx", &self.path.join(OsStr::from_bytes(path)))(error))?;
        // The descriptor of a link or device cannot be asked for attributes; its name in /proc can, and leads to the
        // very inode without following a link any further.
        let attributes = xattrs::all(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())));
        let attributes = attributes.map_err(|error| self.renamed(error, path))?;
        Ok((status, attributes))
    }

    /// Puts the entry's path into an error about its name in `/proc`.
    fn renamed(&self, error: LinuxError, path: &[u8]) -> LinuxError {
        match error {
            LinuxError::System { call, source, .. } => {
                LinuxError::System { call, path: self.path.join(OsStr::from_bytes(path)), source }
            }
            other => other,
        }
    }

    fn entry(
        &self,
        path: &[u8],
        fd: BorrowedFd<'_>,
        status: &Statx,
        mut xattrs: Vec<xattrs::Attribute>,
        in_xattr_whiteouts: bool,
    ) -> Result<UpperEntry, LinuxError> {
        let foreign = FOREIGN.iter().find(|name| get(&xattrs, name.as_bytes()).is_some());
        if let Some(attribute) = foreign {
            return Err(LinuxError::ForeignOverlay { path: OsStr::from_bytes(path).into(), attribute });
        }
        let kind = self.kind(path, fd, status, &xattrs, in_xattr_whiteouts)?;
        xattrs.retain(|(name, _)| !name.starts_with(OVERLAY_PREFIX));
        Ok(UpperEntry {
            path: path.to_vec(),
            kind,
            mtime: (status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec),
            inode: status.stx_ino,
            links: u64::from(status.stx_nlink),
            xattrs,
        })
    }

    fn kind(
        &self,
        path: &[u8],
        fd: BorrowedFd<'_>,
        status: &Statx,
        xattrs: &[xattrs::Attribute],
        in_xattr_whiteouts: bool,
    ) -> Result<UpperKind, LinuxError> {
        let size = status.stx_size;
        Ok(match file_type(status) {
            FileType::RegularFile if in_xattr_whiteouts && size == 0 && get(xattrs, WHITEOUT).is_some() => {
                UpperKind::Whiteout
            }
            FileType::RegularFile => UpperKind::File { size },
            FileType::Directory => UpperKind::Directory { opaque: get(xattrs, OPAQUE) == Some(b"y") },
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(fd, "", Vec::new()).map_err(|error| {
                    LinuxError::system("readlinkat", &self.path.join(OsStr::from_bytes(path)))(error)
                })?;
                UpperKind::Symlink { target: target.into_bytes() }
            }
            FileType::CharacterDevice if (status.stx_rdev_major, status.stx_rdev_minor) == (0, 0) => {
                UpperKind::Whiteout
            }
            _ => UpperKind::Other { mode: u32::from(status.stx_mode) },
        })
    }
}

/// `trusted.overlay.opaque` of `x` says that whiteouts in the directory may be empty files with an attribute.
fn has_xattr_whiteouts(xattrs: &[xattrs::Attribute]) -> bool {
    get(xattrs, OPAQUE) == Some(b"x")
}

fn get<'a>(xattrs: &'a [xattrs::Attribute], name: &[u8]) -> Option<&'a [u8]> {
    xattrs.iter().find(|attribute| attribute.0 == name).map(|attribute| attribute.1.as_slice())
}

/// Opens something below a directory; no link, mount or `..` on the way is followed.
fn beneath(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
            // The kernel was interrupted by a rename elsewhere and could not be sure.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// `statx(2)` of a descriptor: unlike `fstat(2)` its fields are the same on every machine.
fn statx(fd: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

fn file_type(status: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(status.stx_mode))
}

fn identity(status: &Statx) -> (u32, u32, u64) {
    (status.stx_dev_major, status.stx_dev_minor, status.stx_ino)
}

/// The last slash of the part of a path that the kernel takes at once.
fn last_slash(path: &[u8]) -> Option<usize> {
    path[..path.len().min(PATH_PIECE)].iter().rposition(|&byte| byte == b'/')
}

/// One directory on the way from the root to the current entry.
#[derive(Debug)]
struct Level {
    /// Closed when many levels follow.
    fd: Option<OwnedFd>,
    /// Device and inode, to recognise it when it is opened again.
    identity: (u32, u32, u64),
    /// The names still to come, the next one last.
    names: Vec<Vec<u8>>,
    /// Length of the walk's path up to this directory.
    path_length: usize,
    xattr_whiteouts: bool,
}

/// The iterator of [`UpperDirectory::walk`].
#[derive(Debug)]
pub struct UpperWalk<'a> {
    upper: &'a UpperDirectory,
    stack: Vec<Level>,
    path: Vec<u8>,
}

impl Iterator for UpperWalk<'_> {
    type Item = Result<UpperEntry, LinuxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.advance().transpose();
        if matches!(result, Some(Err(_))) {
            self.stack.clear();
        }
        result
    }
}

impl UpperWalk<'_> {
    fn advance(&mut self) -> Result<Option<UpperEntry>, LinuxError> {
        while let Some(level) = self.stack.last_mut() {
            match level.names.pop() {
                Some(name) => return self.visit(&name).map(Some),
                None => self.pop()?,
            }
        }
        Ok(None)
    }

    /// Reads one entry of the innermost directory; if it is a directory, it becomes the innermost.
    fn visit(&mut self, name: &[u8]) -> Result<UpperEntry, LinuxError> {
        let Some(level) = self.stack.last() else { return Err(self.moved()) };
        let xattr_whiteouts = level.xattr_whiteouts;
        self.path.truncate(level.path_length);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        if self.path.len() > PATH_MAX_BYTES {
            let prefix = OsStr::from_bytes(&self.path[..PATH_MAX_BYTES.min(200)]).into();
            return Err(LinuxError::PathTooLong { prefix, length: self.path.len(), limit: PATH_MAX_BYTES });
        }
        let Some(directory) = &level.fd else { return Err(self.moved()) };
        let fd = beneath(directory.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
            .map_err(|error| LinuxError::system("openat2", &self.full_path())(error))?;
        let (status, xattrs) = self.upper.status(fd.as_fd(), &self.path)?;
        let whiteouts_inside = has_xattr_whiteouts(&xattrs);
        let entry = self.upper.entry(&self.path, fd.as_fd(), &status, xattrs, xattr_whiteouts)?;
        if matches!(entry.kind, UpperKind::Directory { .. }) {
            self.push(fd, &status, whiteouts_inside)?;
        }
        Ok(entry)
    }

    /// Makes a directory the innermost one. `directory` may be a descriptor that cannot read.
    fn push(&mut self, directory: OwnedFd, status: &Statx, xattr_whiteouts: bool) -> Result<(), LinuxError> {
        let names = self.names(directory.as_fd())?;
        self.stack.push(Level {
            fd: Some(directory),
            identity: identity(status),
            names,
            path_length: self.path.len(),
            xattr_whiteouts,
        });
        // The root stays open: there is no way back to it that may be used.
        if let Some(far) = self.stack.len().checked_sub(OPEN_DIRECTORIES + 1).filter(|&far| far > 0) {
            self.stack[far].fd = None;
        }
        Ok(())
    }

    /// Leaves the innermost directory. If the one above was closed meanwhile it is opened again, and must be the same.
    fn pop(&mut self) -> Result<(), LinuxError> {
        let Some(left) = self.stack.pop() else { return Ok(()) };
        let Some(parent) = self.stack.last().filter(|parent| parent.fd.is_none()) else { return Ok(()) };
        self.path.truncate(parent.path_length);
        let fd = left.fd.ok_or_else(|| self.moved())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let up = rustix::fs::openat(&fd, "..", flags, Mode::empty())
            .map_err(|error| LinuxError::system("openat", &self.full_path())(error))?;
        let status = statx(up.as_fd()).map_err(|e| LinuxError::system("statx", &self.full_path())(e))?;
        if identity(&status) != parent.identity {
            return Err(self.moved());
        }
        if let Some(parent) = self.stack.last_mut() {
            parent.fd = Some(up);
        }
        Ok(())
    }

    /// The names of a directory, the last first.
    fn names(&self, directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, LinuxError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())
            .map_err(|error| LinuxError::system("openat", &self.full_path())(error))?;
        let mut names = Vec::new();
        for entry in Dir::new(readable).map_err(|e| LinuxError::system("fdopendir", &self.full_path())(e))? {
            let entry = entry.map_err(|error| LinuxError::system("getdents64", &self.full_path())(error))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    fn full_path(&self) -> PathBuf {
        self.upper.path.join(OsStr::from_bytes(&self.path))
    }

    fn moved(&self) -> LinuxError {
        LinuxError::Moved { path: OsStr::from_bytes(&self.path).into() }
    }
}

#[cfg(test)]
mod tests;
