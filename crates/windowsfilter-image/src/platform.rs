//! Selects an image of an index by platform: `windows/amd64:10.0.20348`.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::json::equal_fold;

/// Operating system, architecture and, optionally, the version of Windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `windows`, in lower case.
    pub os: String,
    /// `amd64`, in Go's spelling.
    pub architecture: String,
    /// The first numbers of the version: `10.0.20348` matches all its updates.
    pub os_version: Option<String>,
}

impl Platform {
    pub(crate) fn accepts(&self, other: &crate::oci::PlatformFields) -> bool {
        let version = other.os_version.as_deref().unwrap_or("");
        self.os == os(&other.os)
            && self.architecture == architecture(&other.architecture)
            && self.os_version.as_deref().is_none_or(|wanted| {
                version.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    }
}

/// Whether an image's OS is Windows. Docker compares with `EqualFold` (moby `image/image.go`, `CheckOS`).
pub(crate) fn is_windows(name: &str) -> bool {
    equal_fold("windows", name)
}

/// Go's name of an operating system. Source: containerd/platforms `database.go`, `normalizeOS`.
fn os(name: &str) -> String {
    match name.to_lowercase() {
        name if is_windows(&name) => "windows".to_owned(),
        name if name == "macos" => "darwin".to_owned(),
        name => name,
    }
}

/// Go's name of an architecture. Source: containerd/platforms `database.go`, `normalizeArch`.
fn architecture(name: &str) -> String {
    let name = name.to_lowercase();
    let known = match name.as_str() {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" => "386",
        "armhf" | "armel" => "arm",
        _ => return name,
    };
    known.to_owned()
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (platform, version) = text.split_once(':').map_or((text, None), |(p, v)| (p, Some(v)));
        let parts: Vec<&str> = platform.split('/').collect();
        match parts.as_slice() {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() && version != Some("") => {
                Ok(Self {
                    os: self::os(os),
                    architecture: self::architecture(architecture),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::PlatformFields;

    #[test]
    fn systems_and_architectures_have_many_spellings() {
        let fields = |os: &str, architecture: &str| PlatformFields {
            os: os.into(),
            architecture: architecture.into(),
            os_version: Some("10.0.20348.5".into()),
            ..PlatformFields::default()
        };
        for wanted in ["windows/amd64", "Windows/AMD64:10.0.20348", "WINDOWS/x86_64", "windows/x86-64"] {
            let wanted: Platform = wanted.parse().unwrap();
            assert_eq!((&wanted.os[..], &wanted.architecture[..]), ("windows", "amd64"));
            for (os, architecture) in
                [("Windows", "amd64"), ("windows", "X86_64"), ("window\u{17f}", "x86-64")]
            {
                assert!(wanted.accepts(&fields(os, architecture)), "{os}/{architecture}");
            }
            assert!(
                !wanted.accepts(&fields("linux", "amd64")) && !wanted.accepts(&fields("windows", "aarch64"))
            );
        }
        assert!("windows/aarch64".parse::<Platform>().unwrap().accepts(&fields("windows", "ARM64")));
    }
}
