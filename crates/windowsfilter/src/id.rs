//! Names of layers and sandboxes.
//!
//! An ID becomes a directory name under `layers/`, so it is checked once, here, and every path in the crate
//! is built from a [`LayerId`]. The original uses `filepath.Base(id)` in some places and the raw ID in others
//! (`windows.go`, `dir` and `Remove`), so that one ID can mean two directories.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Suffix of a layer that is being written. Never visible; [`crate::Driver::cleanup`] removes it.
pub(crate) const IMPORTING: &str = "-importing";
/// Suffix of a layer that is being removed. Never visible; [`crate::Driver::cleanup`] removes it.
pub(crate) const REMOVING: &str = "-removing";

/// Prefix of the IDs that `windowsfilter serve` creates for containerd: of sandboxes, and of layers being
/// imported.
const SERVERS: &str = "containerd-";

/// Longest ID in bytes: leaves room for our suffixes within Linux' `NAME_MAX` of 255.
const MAX_LEN: usize = 200;

/// A validated layer or sandbox ID: one path component on Linux and on Windows alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String);

impl LayerId {
    /// Checks `id`. It may have at most 200 letters, digits, `_`, `.` and `-`, and must start with a letter,
    /// digit or `_`. Names that Windows reserves (`CON`, `nul.txt`, a trailing dot) and our own suffixes
    /// `-importing` and `-removing` are refused.
    ///
    /// # Errors
    /// [`Error::InvalidId`] with the reason.
    pub fn new(id: impl Into<String>) -> Result<Self, Error> {
        let id = id.into();
        match problem(&id) {
            None => Ok(Self(id)),
            Some(reason) => Err(Error::InvalidId { id: id.chars().take(80).collect(), reason }),
        }
    }

    /// Checks the ID of a new layer or sandbox like [`LayerId::new`]. Also refuses the IDs of the server for
    /// containerd, which would treat the layer as one of its own.
    ///
    /// # Errors
    /// [`Error::InvalidId`] with the reason.
    pub fn of_new(id: impl Into<String>) -> Result<Self, Error> {
        let id = Self::new(id)?;
        if id.servers_part().is_some() {
            let reason = "IDs that begin with containerd- are those of `windowsfilter serve`";
            return Err(Error::InvalidId { id: id.0.chars().take(80).collect(), reason });
        }
        Ok(id)
    }

    /// The ID of a layer or sandbox that the server for containerd calls `part`.
    ///
    /// # Errors
    /// [`Error::InvalidId`].
    pub fn of_server(part: &str) -> Result<Self, Error> {
        Self::new(format!("{SERVERS}{part}"))
    }

    /// The server for containerd's own name for this; `None` if the ID is not the server's. The prefix
    /// matches in any case: on Windows such IDs are one name.
    pub fn servers_part(&self) -> Option<&str> {
        let (start, part) = self.0.split_at_checked(SERVERS.len())?;
        start.eq_ignore_ascii_case(SERVERS).then_some(part)
    }

    /// The ID for messages: one that looks like a digest is cut to 12 digits.
    pub fn short(&self) -> &str {
        let id = self.as_str();
        if id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) { &id[..12] } else { id }
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn problem(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        return Some("it is empty");
    }
    if id.len() > MAX_LEN {
        return Some("it is longer than 200 bytes");
    }
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Some("only letters, digits, '_', '.' and '-' may be in it");
    }
    if matches!(id.as_bytes()[0], b'.' | b'-') {
        return Some("it must start with a letter, a digit or '_'");
    }
    if id.ends_with(IMPORTING) || id.ends_with(REMOVING) {
        return Some("the endings -importing and -removing are the store's own");
    }
    wclayer::name::windows_problem(id.as_bytes())
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LayerId {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl TryFrom<String> for LayerId {
    type Error = Error;

    fn try_from(s: String) -> Result<Self, Error> {
        Self::new(s)
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_path_component_on_linux_and_windows() {
        for id in ["a", "7d41", "_x", "base.1", "X-init", &"f".repeat(200)] {
            assert_eq!(LayerId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn ids_that_could_leave_the_root_or_mean_something_else_are_refused() {
        let long = "f".repeat(201);
        for id in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a\nb",
            "a b",
            "é",
            "-x",
            ".x",
            "CON",
            "nul.txt",
            "a.",
            "x-importing",
            "x-removing",
            "a:b",
            "a\0",
            &long,
        ] {
            assert!(matches!(LayerId::new(id), Err(Error::InvalidId { .. })), "{id:?}");
        }
    }

    #[test]
    fn new_things_do_not_get_ids_of_the_server() {
        for id in ["containerd-default-7", "containerd-x", "Containerd-default-7", "CONTAINERD-"] {
            let error = LayerId::of_new(id).unwrap_err();
            assert!(error.to_string().contains("windowsfilter serve"), "{error}");
            LayerId::new(id).unwrap();
        }
        for id in ["containerd", "containerds-x", "my-containerd-default-7", "a"] {
            assert_eq!(LayerId::of_new(id).unwrap().as_str(), id);
        }
        assert!(LayerId::of_new("a/b").is_err());
        assert_eq!(LayerId::of_server("default-7").unwrap().servers_part(), Some("default-7"));
    }

    proptest::proptest! {
        #[test]
        fn no_id_escapes_the_root(text in ".*") {
            if let Ok(id) = LayerId::new(text) {
                let path = std::path::Path::new("/root/layers").join(id.as_str());
                proptest::prop_assert_eq!(path.parent(), Some(std::path::Path::new("/root/layers")));
                proptest::prop_assert_eq!(path.components().count(), 4);
            }
        }
    }
}
