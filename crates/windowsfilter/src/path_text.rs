//! Paths in JSON: as text if they are UTF-8, else as `{"bytes": "<hex>"}`. A Linux path may contain any
//! bytes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path in its JSON form.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { bytes: String },
}

impl Written {
    fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes { bytes: hex::encode(path.as_os_str().as_encoded_bytes()) },
        }
    }

    #[cfg(unix)]
    fn read(self) -> Result<PathBuf, String> {
        use std::os::unix::ffi::OsStringExt;
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Bytes { bytes } => {
                let bytes = hex::decode(bytes).map_err(|error| error.to_string())?;
                Ok(std::ffi::OsString::from_vec(bytes).into())
            }
        }
    }

    #[cfg(not(unix))]
    fn read(self) -> Result<PathBuf, String> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Bytes { .. } => Err("a path of another system".to_owned()),
        }
    }
}

/// For a field with an optional path.
pub(crate) mod option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Written::of).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        let written = Option::<Written>::deserialize(from)?;
        written.map(|path| path.read().map_err(serde::de::Error::custom)).transpose()
    }
}

/// For a field with a list of paths.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| Written::of(path)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        let written = Vec::<Written>::deserialize(from)?;
        written.into_iter().map(|path| path.read().map_err(serde::de::Error::custom)).collect()
    }
}
