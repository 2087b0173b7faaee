//! On Unix, a directory stays open and names are looked up in it, so that no component can become a link in
//! between.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};

use super::{Facts, Type};

/// Bytes of a block in `st_blocks`, independent of the file system's block size (POSIX `sys/stat.h`,
/// Linux).
const BLOCK: u64 = 512;

/// A directory, open for reading.
pub(in super::super) struct Place {
    handle: OwnedFd,
    path: PathBuf,
}

impl Place {
    /// Opens a directory that the user named; it may be reached through links.
    pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { handle: open(path, flags, Mode::empty())?, path: path.to_owned() })
    }

    /// Opens a subdirectory; a link is an error.
    pub(in super::super) fn subdirectory(&self, name: &OsStr) -> io::Result<Self> {
        single(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(&self.handle, name.as_bytes(), flags, Mode::empty())?;
        Ok(Self { handle, path: self.path.join(name) })
    }

    /// Its path, for messages.
    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    pub(in super::super) fn facts(&self, name: &OsStr) -> io::Result<Facts> {
        single(name)?;
        let stat = statat(&self.handle, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Type::Directory,
            FileType::RegularFile => Type::File,
            FileType::Symlink => Type::Link,
            _ => Type::Other,
        };
        // Neither is ever negative, but a damaged file system must not cause a panic.
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK);
        let shared = kind == Type::File && stat.st_nlink > 1;
        Ok(Facts { kind, bytes: length.min(allocated), shared: shared.then_some((stat.st_dev, stat.st_ino)) })
    }

    /// Opens a regular file, as checked by [`Place::facts`]. Does not block if it has become a pipe.
    pub(super) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        single(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.handle, name.as_bytes(), flags, Mode::empty())?))
    }

    /// Iterates over its names.
    pub(in super::super) fn names(&self) -> io::Result<Names> {
        Ok(Names(Dir::read_from(&self.handle)?))
    }
}

/// The names in a directory.
pub(in super::super) struct Names(Dir);

impl Iterator for Names {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Err(error) => return Some(Err(error.into())),
                Ok(entry) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => return Some(Ok(OsStr::from_bytes(name).to_owned())),
                },
            }
        }
    }
}

/// Names come from listings and from files; only listings guarantee a single component.
fn single(name: &OsStr) -> io::Result<()> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(io::ErrorKind::NotFound.into()),
        bytes if bytes.contains(&b'/') || bytes.contains(&0) => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(()),
    }
}
