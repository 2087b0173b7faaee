//! Reads the upper directory of an overlay, which has the changes of a sandbox.
//!
//! Its names come from untrusted programs in the sandbox, so nothing here follows a link, leaves the
//! directory, crosses a mount, opens anything but directories and regular files, or trusts a depth. The walk
//! keeps a stack of its own, works with descriptors relative to the directory (a path may be longer than
//! `PATH_MAX`), and holds a bounded number of them.
//!
//! The format of changes: `Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque directories".
//! Reading the attributes (`trusted.*`) needs privileges: a walk without them would miss opaque directories,
//! so do not try it.

use super::error::LinuxError;
use super::xattrs;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest path of an entry, in bytes. Windows' limit is 32,767 UTF-16 units, each at most three bytes in
/// UTF-8, so no longer path can be committed; the limit also bounds what a hostile tree can cost.
pub const PATH_MAX_BYTES: usize = 32_767 * 3;
/// Deepest nesting of directories: four times the default limit of a layer. The cost of each entry grows with
/// its depth.
pub const DEPTH_MAX: usize = 4096;
/// Most bytes of wanted attributes of one entry. As much as ext4 holds: some 250 attributes of 64 KiB.
pub const ATTRIBUTES_MAX: usize = 16 << 20;
/// Directories kept open during a walk; those further up are found again through `..`.
const OPEN_DIRECTORIES: usize = 32;
/// Bytes of path handed to the kernel at a time, below its `PATH_MAX` of 4096.
const PATH_PIECE: usize = 3000;

const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const WHITEOUT: &[u8] = b"trusted.overlay.whiteout";
/// Attributes that refer to data elsewhere. This store mounts overlays without them.
const FOREIGN: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];

/// The kind of an entry.
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
        /// Its text.
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
    /// Its kind.
    pub kind: UpperKind,
    /// Last modification: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Inode number: entries with the same one are hard links of one file.
    pub inode: u64,
    /// How many names the file has.
    pub links: u64,
    /// The extended attributes that are wanted, with their full names, sorted, without those of overlayfs
    /// itself.
    pub xattrs: Vec<Attribute>,
    /// The names of the other attributes, and the lengths of their values.
    pub others: Vec<(Vec<u8>, usize)>,
}

/// Full name and value of an extended attribute.
pub type Attribute = (Vec<u8>, Vec<u8>);
/// Whether an attribute of this full name is wanted. Programs in a sandbox may set any number of others, of
/// any size.
pub type Wanted = fn(&[u8]) -> bool;

/// An upper directory, open for reading.
#[derive(Debug)]
pub struct UpperDirectory {
    fd: Arc<OwnedFd>,
    /// Where it is, for errors.
    path: PathBuf,
    /// The directory of the file that was opened last, and its path: entries are mostly opened in order.
    last: RefCell<Option<(Vec<u8>, Arc<OwnedFd>)>>,
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
        Ok(Self { fd: Arc::new(fd), path: path.to_path_buf(), last: RefCell::default() })
    }

    /// The directory itself, as an entry with an empty path.
    pub fn root(&self, wanted: Wanted) -> Result<UpperEntry, LinuxError> {
        let (status, xattrs, others) = self.status(self.fd.as_fd(), &[], wanted)?;
        Ok(UpperEntry { others, ..self.entry(&[], self.fd.as_fd(), &status, xattrs, false)? })
    }

    /// All entries: each directory before its entries, which are in byte order of their names. Ends after the
    /// first error. More than `most` entries are an error.
    pub fn walk(&self, wanted: Wanted, most: Option<u64>) -> Result<UpperWalk<'_>, LinuxError> {
        let mut walk = UpperWalk { upper: self, wanted, most, met: 0, stack: Vec::new(), path: Vec::new() };
        let root = self.fd.try_clone().map_err(LinuxError::system("dup", &self.path))?;
        let (status, xattrs, _) = self.status(root.as_fd(), &[], |_| false)?;
        walk.push(root, &status, has_xattr_whiteouts(&xattrs))?;
        Ok(walk)
    }

    /// The wanted attributes of an entry, like [`UpperEntry::xattrs`].
    pub fn attributes(&self, path: &[u8], wanted: Wanted) -> Result<Vec<Attribute>, LinuxError> {
        let (mut xattrs, _) = if path.is_empty() {
            self.xattrs(self.fd.as_fd(), path, wanted)?
        } else {
            let (directory, name) = self.parent_of(path)?;
            let fd = beneath(directory.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
                .map_err(|error| LinuxError::system("openat2", &self.full_path(path))(error))?;
            self.xattrs(fd.as_fd(), path, wanted)?
        };
        xattrs.retain(|(name, _)| !name.starts_with(OVERLAY_PREFIX));
        Ok(xattrs)
    }

    /// Opens a regular file of the directory for reading.
    pub fn open_file(&self, path: &[u8]) -> Result<File, LinuxError> {
        let error_path = || self.full_path(path);
        let (directory, name) = self.parent_of(path)?;
        // Without blocking, as it might be a fifo by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd =
            beneath(directory.as_fd(), name, flags).map_err(LinuxError::system("openat2", &error_path()))?;
        let status = statx(fd.as_fd()).map_err(LinuxError::system("statx", &error_path()))?;
        if file_type(&status) != FileType::RegularFile {
            return Err(LinuxError::NotAFile { path: error_path() });
        }
        Ok(fd.into())
    }

    fn full_path(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// The directory of a path, and the last name. Long paths are walked piece by piece, from the directory
    /// that was opened last if it is on the way.
    fn parent_of<'a>(&self, path: &'a [u8]) -> Result<(Arc<OwnedFd>, &'a [u8]), LinuxError> {
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else {
            return Ok((Arc::clone(&self.fd), path));
        };
        let (above, name) = (&path[..slash], &path[slash + 1..]);
        let mut last = self.last.borrow_mut();
        let (mut directory, mut rest) = match last.take() {
            Some((known, fd)) if below(above, &known).is_some() => {
                (fd, below(above, &known).unwrap_or_default())
            }
            _ => (Arc::clone(&self.fd), above),
        };
        while !rest.is_empty() {
            let end =
                if rest.len() > PATH_PIECE { last_slash(rest).unwrap_or(rest.len()) } else { rest.len() };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let next = beneath(directory.as_fd(), &rest[..end], flags)
                .map_err(|error| LinuxError::system("openat2", &self.full_path(path))(error))?;
            directory = Arc::new(next);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        *last = Some((above.to_vec(), Arc::clone(&directory)));
        Ok((directory, name))
    }

    fn status(
        &self,
        fd: BorrowedFd<'_>,
        path: &[u8],
        wanted: Wanted,
    ) -> Result<(Statx, Vec<Attribute>, Vec<xattrs::Other>), LinuxError> {
        let status = statx(fd).map_err(|error| LinuxError::system("statx", &self.full_path(path))(error))?;
        let (xattrs, others) = self.xattrs(fd, path, wanted)?;
        Ok((status, xattrs, others))
    }

    /// The wanted attributes, and those of overlayfs.
    fn xattrs(
        &self,
        fd: BorrowedFd<'_>,
        path: &[u8],
        wanted: Wanted,
    ) -> Result<(Vec<Attribute>, Vec<xattrs::Other>), LinuxError> {
        // Attributes cannot be read through the descriptor of a link or device. They can through its name in
        // /proc, which leads to this very inode and follows no further link.
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let wanted = |name: &[u8]| name.starts_with(OVERLAY_PREFIX) || wanted(name);
        xattrs::selected(Path::new(&name), wanted, ATTRIBUTES_MAX).map_err(|error| self.renamed(error, path))
    }

    /// Puts the entry's path into an error about its name in `/proc`.
    fn renamed(&self, error: LinuxError, path: &[u8]) -> LinuxError {
        match error {
            LinuxError::System { call, source, .. } => {
                LinuxError::System { call, path: self.full_path(path), source }
            }
            LinuxError::AttributesTooLarge { limit, .. } => {
                LinuxError::AttributesTooLarge { path: OsStr::from_bytes(path).into(), limit }
            }
            other => other,
        }
    }

    fn entry(
        &self,
        path: &[u8],
        fd: BorrowedFd<'_>,
        status: &Statx,
        mut xattrs: Vec<Attribute>,
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
            others: Vec::new(),
        })
    }

    fn kind(
        &self,
        path: &[u8],
        fd: BorrowedFd<'_>,
        status: &Statx,
        xattrs: &[Attribute],
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
                let target = rustix::fs::readlinkat(fd, "", Vec::new())
                    .map_err(|error| LinuxError::system("readlinkat", &self.full_path(path))(error))?;
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
fn has_xattr_whiteouts(xattrs: &[Attribute]) -> bool {
    get(xattrs, OPAQUE) == Some(b"x")
}

fn get<'a>(xattrs: &'a [Attribute], name: &[u8]) -> Option<&'a [u8]> {
    xattrs.iter().find(|attribute| attribute.0 == name).map(|attribute| attribute.1.as_slice())
}

/// Opens something below a directory; no link, mount or `..` on the way is followed.
fn beneath(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
            // A rename elsewhere interfered with the lookup: try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// `statx(2)` of a descriptor: unlike with `fstat(2)`, its fields are the same on every machine.
fn statx(fd: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

fn file_type(status: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(status.stx_mode))
}

fn identity(status: &Statx) -> (u32, u32, u64) {
    (status.stx_dev_major, status.stx_dev_minor, status.stx_ino)
}

/// The last slash in the part of a path that is passed to the kernel at once.
fn last_slash(path: &[u8]) -> Option<usize> {
    path[..path.len().min(PATH_PIECE)].iter().rposition(|&byte| byte == b'/')
}

/// The rest of `path` below the directory `above`; empty if they are equal.
fn below<'a>(path: &'a [u8], above: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(above)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

/// One directory on the way from the root to the current entry.
#[derive(Debug)]
struct Level {
    /// `None` while it is closed because many levels follow.
    fd: Option<OwnedFd>,
    /// Device and inode, to recognise it when it is opened again.
    identity: (u32, u32, u64),
    /// The remaining names, the next one last.
    names: Vec<Vec<u8>>,
    /// Length of the walk's path up to this directory.
    path_length: usize,
    xattr_whiteouts: bool,
}

/// The iterator of [`UpperDirectory::walk`].
#[derive(Debug)]
pub struct UpperWalk<'a> {
    upper: &'a UpperDirectory,
    wanted: Wanted,
    most: Option<u64>,
    /// Names read so far, in all directories.
    met: u64,
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
        if self.stack.len() > DEPTH_MAX {
            let prefix = OsStr::from_bytes(&self.path[..self.path.len().min(200)]).into();
            return Err(LinuxError::TooDeep { prefix, limit: DEPTH_MAX });
        }
        let Some(directory) = &level.fd else { return Err(self.moved()) };
        let fd = beneath(directory.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
            .map_err(|error| LinuxError::system("openat2", &self.full_path())(error))?;
        let (status, xattrs, others) = self.upper.status(fd.as_fd(), &self.path, self.wanted)?;
        let whiteouts_inside = has_xattr_whiteouts(&xattrs);
        let entry = self.upper.entry(&self.path, fd.as_fd(), &status, xattrs, xattr_whiteouts)?;
        let entry = UpperEntry { others, ..entry };
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
        // The root stays open: the walk must not go back to it through `..`.
        if let Some(far) = self.stack.len().checked_sub(OPEN_DIRECTORIES + 1).filter(|&far| far > 0) {
            self.stack[far].fd = None;
        }
        Ok(())
    }

    /// Leaves the innermost directory. If the one above was closed meanwhile it is opened again, and must be
    /// the same.
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
    fn names(&mut self, directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, LinuxError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(directory, ".", flags, Mode::empty())
            .map_err(|error| LinuxError::system("openat", &self.full_path())(error))?;
        let mut names = Vec::new();
        for entry in Dir::new(readable).map_err(|e| LinuxError::system("fdopendir", &self.full_path())(e))? {
            let entry = entry.map_err(|error| LinuxError::system("getdents64", &self.full_path())(error))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.met += 1;
            if let Some(limit) = self.most.filter(|&most| self.met > most) {
                return Err(LinuxError::TooManyNames { path: OsStr::from_bytes(&self.path).into(), limit });
            }
            names.push(name.to_vec());
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    fn full_path(&self) -> PathBuf {
        self.upper.full_path(&self.path)
    }

    fn moved(&self) -> LinuxError {
        LinuxError::Moved { path: OsStr::from_bytes(&self.path).into() }
    }
}

#[cfg(test)]
mod tests;
