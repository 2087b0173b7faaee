//! The part of containerd's configuration that makes it use this server.
//!
//! All versions share the tables; they differ in the file format's number and in features that older
//! versions lack.

use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;

use crate::error::Error;

/// A containerd version that supports proxy differs: 1.7.4 or newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |reason| Error::ContainerdVersion { version: text.chars().take(40).collect(), reason };
        let mut numbers = text.trim_start_matches('v').split('.').map(str::parse::<u32>);
        let mut next = || numbers.next().transpose().map_err(|_| refused("expected a number as in 2.1"));
        let major = next()?.ok_or_else(|| refused("expected a number as in 2.1"))?;
        let minor = next()?.ok_or_else(|| refused("expected a number as in 2.1"))?;
        match (major, minor, next()?) {
            (0, ..) | (1, 0..7, _) | (1, 7, Some(0..4)) => Err(refused(
                "before 1.7.4 it accepts no differ of another process, and its own drops all Windows metadata",
            )),
            (1, 8.., _) | (3.., ..) => Err(refused("there is no such version that this program knows")),
            _ => Ok(Self { major, minor }),
        }
    }
}

impl Version {
    const V2_0: Self = Self { major: 2, minor: 0 };
    const V2_2: Self = Self { major: 2, minor: 2 };
    const V2_3: Self = Self { major: 2, minor: 3 };
    const V2_4: Self = Self { major: 2, minor: 4 };

    /// The configuration file's format version.
    fn format(self) -> u32 {
        match self {
            version if version < Self::V2_0 => 2,
            version if version < Self::V2_3 => 3,
            _ => 4,
        }
    }

    /// Whether it can unpack an image's layers in parallel.
    fn is_parallel(self) -> bool {
        self >= Self::V2_2
    }

    /// Whether parallel unpacking also works for layers it neither downloads nor unpacks.
    fn knows_staged_layers(self) -> bool {
        self >= Self::V2_4
    }
}

/// The server that a containerd is configured for.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// Its socket.
    pub socket: &'a Path,
    /// Its layer store.
    pub root: &'a Path,
    /// Whether containerd skips layers that the store already has.
    pub skip_existing: bool,
}

/// The configuration that containerd `version` needs to use this server.
pub fn configuration(version: Version, server: &Configured<'_>) -> String {
    let quoted = |path: &Path| toml_string(&path.display().to_string());
    let (socket, root) = (quoted(server.socket), quoted(server.root));
    let side_by_side = version.is_parallel() && (!server.skip_existing || version.knows_staged_layers());
    let mut text = format!(
        r#"version = {format}

[proxy_plugins.windowsfilter]
  type = "snapshot"
  address = {socket}
  platform = "windows/amd64"
{capabilities}  [proxy_plugins.windowsfilter.exports]
    # Where Kubernetes looks for what images take.
    root = {root}

[proxy_plugins.windowsfilter-diff]
  type = "diff"
  address = {socket}
  # Without it, this differ would be asked for Linux layers too.
  platform = "windows/amd64"

# Unpacking by clients, `ctr snapshots diff` and commits. The first differ that does not say "not mine" is used.
[plugins."io.containerd.service.v1.diff-service"]
  default = ["windowsfilter-diff", "walking"]
"#,
        format = version.format(),
        capabilities = if side_by_side { "  capabilities = [\"rebase\"]\n" } else { "" },
    );
    text += "\n# `ctr images pull` and `import`. This list replaces the default one, so Linux is repeated.\n";
    text += "[plugins.\"io.containerd.transfer.v1.local\"]\n";
    if side_by_side {
        text += "  # Layers of an image that is pulled are unpacked side by side. `import` takes one after the other.\n";
        text += "  max_concurrent_unpacks = 4\n";
    } else if version.is_parallel() {
        text += "  # Layers are unpacked one after the other: side by side, this containerd downloads those that the store has.\n";
    }
    let mut platforms = vec![("linux/amd64", "overlayfs", "walking"), WINDOWS];
    if version >= Version::V2_3 {
        // containerd counts images with these features, such as windows/server, as another platform.
        platforms.push(("windows(+win32k)/amd64", WINDOWS.1, WINDOWS.2));
    }
    for (platform, snapshotter, differ) in platforms {
        text += "  [[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n";
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    platform = \"{platform}\"");
        let _ = writeln!(text, "    snapshotter = \"{snapshotter}\"");
        let _ = writeln!(text, "    differ = \"{differ}\"");
    }
    text
}

/// Platform, snapshotter and differ.
const WINDOWS: (&str, &str, &str) = ("windows/amd64", "windowsfilter", "windowsfilter-diff");

/// A basic string of TOML.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Writing to a string cannot fail.
            c if c.is_control() => drop(write!(quoted, "\\U{:08X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: &str, skip_existing: bool) -> String {
        let (socket, root) = (Path::new("/run/w.sock"), Path::new("/var/lib/windowsfilter"));
        configuration(version.parse().unwrap(), &Configured { socket, root, skip_existing })
    }

    fn printed(version: &str) -> String {
        of(version, false)
    }

    #[test]
    fn layers_that_are_skipped_are_unpacked_side_by_side_only_by_versions_that_can_skip_them_so() {
        for (version, side_by_side) in
            [("1.7", false), ("2.1", false), ("2.2", false), ("2.3", false), ("2.4", true)]
        {
            let text = of(version, true);
            assert_eq!(text.contains("rebase"), side_by_side, "{version}");
            assert_eq!(text.contains("max_concurrent_unpacks"), side_by_side, "{version}");
            assert_eq!(
                text.contains("Layers are unpacked one after the other"),
                matches!(version, "2.2" | "2.3"),
                "{version}"
            );
        }
    }

    #[test]
    fn images_with_features_have_a_platform_of_their_own_where_containerd_sees_it_so() {
        for (version, own) in [("1.7", 0), ("2.2", 0), ("2.3", 1), ("2.4", 1)] {
            assert_eq!(
                printed(version).matches("platform = \"windows(+win32k)/amd64\"").count(),
                own,
                "{version}"
            );
        }
        assert!(printed("1.7").contains("root = \"/var/lib/windowsfilter\""));
    }

    #[test]
    fn each_version_gets_its_format_and_only_what_it_knows() {
        for (version, format, rebase) in [
            ("1.7", 2, false),
            ("1.7.24", 2, false),
            ("2.0", 3, false),
            ("2.1.9", 3, false),
            ("v2.2", 3, true),
            ("2.3", 4, true),
            ("2.9", 4, true),
        ] {
            let text = printed(version);
            assert!(text.starts_with(&format!("version = {format}\n")), "{version}: {text}");
            assert_eq!(text.contains("rebase"), rebase, "{version}");
            assert_eq!(text.contains("max_concurrent_unpacks"), rebase, "{version}");
            assert_eq!(text.matches("platform = \"windows/amd64\"").count(), 3, "{version}");
        }
    }

    #[test]
    fn versions_that_cannot_work_are_refused_with_the_reason() {
        for version in ["1.6", "1.6.20", "1.7.3", "0.2", "1.8", "3.0", "2", "", "latest"] {
            assert!(version.parse::<Version>().is_err(), "{version}");
        }
        let error = "1.6".parse::<Version>().unwrap_err().to_string();
        assert!(error.contains("1.7.4"), "{error}");
    }

    #[test]
    fn a_socket_path_is_quoted() {
        let server =
            Configured { socket: Path::new("/run/a\"b\\c\n"), root: Path::new("/r"), skip_existing: false };
        let text = configuration("2.1".parse().unwrap(), &server);
        assert!(text.contains(r#"address = "/run/a\"b\\c\U0000000A""#), "{text}");
    }
}
