//! Names in JSON documents. Windows names are sequences of arbitrary 16-bit units, Linux names of arbitrary
//! bytes, but JSON strings are text. A name that is not valid UTF-8 is written as `{"bytes": "<base64>"}`
//! instead of a string, so that different names stay different.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A name or path that is serialized to JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JsonName(Vec<u8>);

impl JsonName {
    /// The name itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Vec<u8>>> From<T> for JsonName {
    fn from(name: T) -> Self {
        Self(name.into())
    }
}

impl JsonName {
    /// The name of a path on this machine.
    pub fn of_path(path: &Path) -> Self {
        Self(path.as_os_str().as_encoded_bytes().to_vec())
    }
}

impl Serialize for JsonName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

/// Serializes a field that is a path: `#[serde(serialize_with = "windowsfilter::serialize_path")]`.
///
/// # Errors
/// Those of `serializer`.
pub fn serialize_path<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serialize(path.as_ref().as_os_str().as_encoded_bytes(), serializer)
}

fn serialize<S: Serializer>(name: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(name) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry("bytes", &STANDARD.encode(name))?;
            map.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_string_and_anything_else_its_bytes() {
        let json = |name: &[u8]| serde_json::to_string(&JsonName::from(name)).unwrap();
        assert_eq!(json("gr\u{fc}n\n".as_bytes()), "\"gr\u{fc}n\\n\"");
        assert_eq!(json(b"a\xff"), r#"{"bytes":"Yf8="}"#);
        // Half of a surrogate pair, which Windows names may contain.
        assert_eq!(json(b"\xed\xa0\x80"), r#"{"bytes":"7aCA"}"#);
        assert_ne!(json(b"a\xfe"), json(b"a\xff"));
    }
}
