//! Directories below the given one, read without following a link or blocking on a pipe.

#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};

#[cfg(not(unix))]
pub(super) use other::{Names, Place};
#[cfg(unix)]
pub(super) use unix::{Names, Place};

/// File types, by what matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Directory,
    File,
    /// A link or other reparse point, which is never followed.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// A file's metadata, read without opening it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) kind: Type,
    /// Disk usage, bytes: at most its length, less if it has holes.
    pub(super) bytes: u64,
    /// Volume and file number, if the file has several names.
    pub(super) shared: Option<(u64, u64)>,
}

impl Place {
    /// Reads a small file; `None` if it does not exist.
    ///
    /// The reason: it is a link, too long, or unreadable.
    pub(super) fn read(&self, name: &OsStr, limit: u64) -> Result<Option<Vec<u8>>, String> {
        let kind = match self.facts(name) {
            Ok(facts) => facts.kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        match kind {
            Type::File => {}
            Type::Link => return Err("it is a link, which is not followed".to_owned()),
            Type::Directory | Type::Other => return Err("it is not a file".to_owned()),
        }
        let file = self.open_file(name).map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
        if content.len() as u64 > limit {
            return Err(format!("it is longer than {limit} bytes"));
        }
        Ok(Some(content))
    }

    /// Whether a file of this name and type exists.
    pub(super) fn has(&self, name: &str, kind: Type) -> bool {
        self.facts(name.as_ref()).is_ok_and(|facts| facts.kind == kind)
    }

    /// The directory's names, sorted, at most `limit`, and whether there are more.
    pub(super) fn list(&self, limit: usize) -> io::Result<(Vec<OsString>, bool)> {
        let mut names = Vec::new();
        for name in self.names()? {
            let name = name?;
            if names.len() == limit {
                return Ok((names, true));
            }
            names.push(name);
        }
        names.sort();
        Ok((names, false))
    }
}
