//! On Windows, names are opened by path. Only administrators can write in Docker's data root, so only they
//! could put a link there in between.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::windows::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::{Facts, Type};

/// `FILE_ATTRIBUTE_REPARSE_POINT` of `winnt.h`.
const REPARSE_POINT: u32 = 0x400;

/// A directory.
pub(in super::super) struct Place {
    path: PathBuf,
}

impl Place {
    /// Opens a directory that the user named; it may be reached through links.
    pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Opens a subdirectory; a link is an error.
    pub(in super::super) fn subdirectory(&self, name: &OsStr) -> io::Result<Self> {
        match self.facts(name)?.kind {
            Type::Directory => Ok(Self { path: self.path.join(name) }),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Its path, for messages.
    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    pub(in super::super) fn facts(&self, name: &OsStr) -> io::Result<Facts> {
        single(name)?;
        let path = self.path.join(name);
        let metadata = fs::symlink_metadata(&path)?;
        let kind = match metadata.file_type() {
            _ if metadata.file_attributes() & REPARSE_POINT != 0 => Type::Link,
            kind if kind.is_dir() => Type::Directory,
            kind if kind.is_file() => Type::File,
            _ => Type::Other,
        };
        let shared = if kind == Type::File { shared(&path) } else { None };
        Ok(Facts { kind, bytes: metadata.len(), shared })
    }

    /// Opens a regular file, as checked by [`Place::facts`].
    pub(super) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        single(name)?;
        File::open(self.path.join(name))
    }

    /// Iterates over its names.
    pub(in super::super) fn names(&self) -> io::Result<Names> {
        fs::read_dir(&self.path).map(Names)
    }
}

/// Volume and file number of a file with several names. A file that cannot be opened counts under each
/// name.
fn shared(path: &Path) -> Option<(u64, u64)> {
    let handle = winapi_util::Handle::from_path(path).ok()?;
    let facts = winapi_util::file::information(&handle).ok()?;
    (facts.number_of_links() > 1).then(|| (facts.volume_serial_number(), facts.file_index()))
}

/// The names in a directory.
pub(in super::super) struct Names(fs::ReadDir);

impl Iterator for Names {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|entry| entry.map(|entry| entry.file_name()))
    }
}

/// Names come from listings and from files; only listings guarantee a single component.
fn single(name: &OsStr) -> io::Result<()> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => Ok(()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}
