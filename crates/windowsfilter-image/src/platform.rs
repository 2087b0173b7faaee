//! Which of an index' images is meant: `windows/amd64:10.0.20348`.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Operating system, architecture and, if it matters, the version of Windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `windows`, in lower case.
    pub os: String,
    /// `amd64`, as Go names it.
    pub architecture: String,
    /// The first numbers of the version: `10.0.20348` stands for every update of it.
    pub os_version: Option<String>,
}

impl Platform {
    pub(crate) fn accepts(&self, other: &crate::oci::PlatformFields) -> bool {
        let version = other.os_version.as_deref().unwrap_or("");
        self.os == other.os
            && self.architecture == other.architecture
            && self.os_version.as_deref().is_none_or(|wanted| {
                version.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (platform, version) = text.split_once(':').map_or((text, None), |(p, v)| (p, Some(v)));
        let parts: Vec<&str> = platform.split('/').collect();
        match parts.as_slice() {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() && version != Some("") => {
                Ok(Self {
                    os: os.to_ascii_lowercase(),
                    architecture: architecture.to_ascii_lowercase(),
                    os_version: version.map(str::to_owned),
                })
            }
            _ => Err(Error::InvalidPlatform { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.os_version.as_ref().map_or(Ok(()), |version| write!(f, ":{version}"))
    }
}
