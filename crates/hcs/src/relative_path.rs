//! Names inside a directory tree, checked once when they are made.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error};

/// Longest path in UTF-16 units: the limit of a `UNICODE_STRING`.
const MAX_LENGTH: usize = 32_767;

/// A path below the root of a [`Tree`](crate::Tree): UTF-16, elements separated by backslashes, none of them
/// empty, `.` or `..`, without colons, which would name a stream. Empty is the root itself.
///
/// Source: `cleanGoStringRelativePath` and `ntRelativePath` in hcsshim `internal/safefile/safeopen.go`; dots
/// are refused here, since Windows does not resolve them relative to a handle.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelativePath(Vec<u16>);

impl RelativePath {
    /// Checks `path`.
    ///
    /// # Errors
    /// [`Code::INVALID_NAME`] with the reason in the text.
    pub fn new(path: &[u16]) -> Result<Self, Error> {
        let refuse = |text: &str| Error {
            call: "open relative",
            arguments: String::from_utf16_lossy(path),
            code: Code::INVALID_NAME,
            text: text.to_owned(),
        };
        if path.is_empty() {
            return Ok(Self(Vec::new()));
        }
        if path.len() > MAX_LENGTH {
            return Err(refuse("the path is longer than 32,767 characters"));
        }
        let has = |character: char| path.iter().any(|&unit| u32::from(unit) == u32::from(character));
        if has(':') || has('/') || has('\0') {
            return Err(refuse("a name has a colon, a slash or a zero in it"));
        }
        let dots: [&[u16]; 3] = [&[], &[b'.' as u16], &[b'.' as u16; 2]];
        if path.split(|&unit| unit == BACKSLASH).any(|element| dots.contains(&element)) {
            return Err(refuse("an element of the path is empty or made of dots"));
        }
        Ok(Self(path.to_owned()))
    }

    /// Like [`RelativePath::new`], from text.
    ///
    /// # Errors
    /// Those of [`RelativePath::new`].
    pub fn from_text(path: &str) -> Result<Self, Error> {
        Self::new(&path.encode_utf16().collect::<Vec<_>>())
    }

    /// UTF-16 units, without a zero at the end.
    pub fn units(&self) -> &[u16] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole path below `directory`.
    pub fn below(&self, directory: &Path) -> PathBuf {
        self.0
            .split(|&unit| unit == BACKSLASH)
            .fold(directory.to_owned(), |path, element| path.join(os_string(element)))
    }

    /// The directory it is in, and its name there; `None` for the root.
    pub fn split(&self) -> Option<(Self, Self)> {
        match self.0.iter().rposition(|&unit| unit == BACKSLASH) {
            _ if self.0.is_empty() => None,
            None => Some((Self(Vec::new()), self.clone())),
            Some(end) => Some((Self(self.0[..end].to_owned()), Self(self.0[end + 1..].to_owned()))),
        }
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// Those of [`RelativePath::new`].
    pub fn join(&self, name: &[u16]) -> Result<Self, Error> {
        let separator: &[u16] = if self.0.is_empty() { &[] } else { &[BACKSLASH] };
        Self::new(&[&self.0, separator, name].concat())
    }
}

#[cfg(windows)]
fn os_string(units: &[u16]) -> OsString {
    std::os::windows::ffi::OsStringExt::from_wide(units)
}

/// Other systems have no files with such names.
#[cfg(not(windows))]
fn os_string(units: &[u16]) -> OsString {
    String::from_utf16_lossy(units).into()
}

const BACKSLASH: u16 = b'\\' as u16;
const COLON: u16 = b':' as u16;

/// The name of an alternate stream of a file or directory, without colons and without its type.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Vec<u16>);

/// The type of every alternate stream that holds data, and the end of its full name.
const DATA_TYPE: &str = ":$DATA";

impl StreamName {
    /// Checks `name`, which may be followed by its type.
    ///
    /// # Errors
    /// [`Code::INVALID_NAME`] if it is not the name of an alternate stream.
    pub fn new(name: &[u16]) -> Result<Self, Error> {
        let data_type: Vec<u16> = DATA_TYPE.encode_utf16().collect();
        let split = name.len().saturating_sub(data_type.len());
        let has_type = String::from_utf16_lossy(&name[split..]).eq_ignore_ascii_case(DATA_TYPE);
        let bare = if has_type { &name[..split] } else { name };
        let forbidden = |unit: &u16| [BACKSLASH, COLON, u16::from(b'/'), 0].contains(unit);
        if bare.is_empty() || bare.len() > MAX_LENGTH || bare.iter().any(forbidden) {
            return Err(Error {
                text: "no stream has such a name".to_owned(),
                ..Error::new("open stream", String::from_utf16_lossy(name), Code::INVALID_NAME)
            });
        }
        Ok(Self(bare.to_owned()))
    }

    /// UTF-16 units, without a zero at the end.
    pub fn units(&self) -> &[u16] {
        &self.0
    }

    /// The stream of `file` as a path for `NtCreateFile`.
    pub fn of(&self, file: &RelativePath) -> Vec<u16> {
        [&file.0[..], &[COLON], &self.0].concat()
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf16_lossy(&self.0))
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf16_lossy(&self.0))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf16_lossy(&self.0))
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf16_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_or_name_a_stream_are_refused() {
        for path in [r"\a", r"a\", r"a\\b", "..", r"a\..\b", ".", "a:b", "a/b", "a\0"] {
            assert_eq!(RelativePath::from_text(path).unwrap_err().code, Code::INVALID_NAME, "{path:?}");
        }
        assert!(RelativePath::new(&vec![b'a' as u16; 32_768]).is_err());
    }

    #[test]
    fn a_stream_has_a_name_of_its_own_and_no_path() {
        let new = |name: &str| StreamName::new(&name.encode_utf16().collect::<Vec<_>>());
        let file = RelativePath::from_text(r"Files\a").unwrap();
        for name in ["Zone.Identifier", "Zone.Identifier:$DATA", "Zone.Identifier:$data"] {
            let path = new(name).unwrap().of(&file);
            assert_eq!(String::from_utf16_lossy(&path), r"Files\a:Zone.Identifier");
        }
        for name in ["", ":$DATA", "a:b", "a:$INDEX_ALLOCATION", r"a\b", "a/b", "a\0"] {
            assert_eq!(new(name).unwrap_err().code, Code::INVALID_NAME, "{name:?}");
        }
    }

    #[test]
    fn a_path_is_its_directory_and_its_name() {
        let path = RelativePath::from_text(r"Files\a\b").unwrap();
        let (parent, name) = path.split().unwrap();
        assert_eq!((parent.to_string(), name.to_string()), (r"Files\a".into(), "b".into()));
        assert_eq!(parent.join(name.units()).unwrap(), path);
        let root = RelativePath::from_text("").unwrap();
        assert!(root.is_root() && root.split().is_none());
        assert_eq!(root.join(name.units()).unwrap().to_string(), "b");
    }

    #[test]
    fn what_is_no_proper_utf_16_is_kept() {
        let path = RelativePath::new(&[0xd800, b'x' as u16]).unwrap();
        assert_eq!(path.units(), [0xd800, b'x' as u16]);
    }
}
