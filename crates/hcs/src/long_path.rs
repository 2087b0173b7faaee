//! Paths that begin with `\\?\`: those longer than 260 characters, and volumes.
//!
//! Source: hcsshim `internal/longpath/longpath.go`, moby `pkg/longpath`.

/// The prefix of a path that Windows uses literally.
const PREFIX: &str = r"\\?\";

/// The names of the compute service's functions that get a layer's path with the prefix.
///
/// hcsshim passes to these three the name of the directory that it has opened through `longpath.LongAbs`
/// (`internal/wclayer/importlayer.go`, `baselayerwriter.go`, `internal/safefile/safeopen.go`), since without
/// it they fail for trees below long paths (hcsshim 357aec7e5). It passes plain paths to all others.
const WITH_PREFIX: [&str; 3] = ["ImportLayer", "ProcessBaseImage", "ProcessUtilityImage"];

/// Converts an absolute path of a layer for the function `call` of the compute service.
pub fn for_layer_function(call: &str, path: &str) -> String {
    if WITH_PREFIX.contains(&call) { add_prefix(path) } else { strip_prefix(path) }
}

/// Start of a volume's name, as the service and Windows return it: `\\?\Volume{GUID}`.
const VOLUME: &str = r"\\?\Volume{";

/// Converts a path so that it can be opened as a directory: a volume's name without a backslash at its end is
/// the device, and with one the root directory. Other paths stay.
pub fn directory(path: &str) -> String {
    let is_volume = path.get(..VOLUME.len()).is_some_and(|start| start.eq_ignore_ascii_case(VOLUME));
    if is_volume && path.ends_with('}') { format!(r"{path}\") } else { path.to_owned() }
}

/// An absolute path in its long form; a path with a prefix stays.
pub fn add_prefix(path: &str) -> String {
    if path.starts_with(PREFIX) || path.starts_with(r"\\.\") {
        return path.to_owned();
    }
    // Windows does not translate slashes behind the prefix.
    let path = path.replace('/', r"\");
    match path.strip_prefix(r"\\") {
        Some(share) => format!(r"{PREFIX}UNC\{share}"),
        None => format!("{PREFIX}{path}"),
    }
}

/// The path without the prefix, which not all functions of the compute service accept.
pub fn strip_prefix(path: &str) -> String {
    match path.strip_prefix(PREFIX) {
        Some(rest) => match rest.strip_prefix(r"UNC\") {
            Some(share) => format!(r"\\{share}"),
            // A volume or device has no name without the prefix.
            None if rest.as_bytes().get(1) != Some(&b':') => path.to_owned(),
            None => rest.to_owned(),
        },
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drives_and_shares_get_their_prefix_once() {
        for (path, long) in [
            (r"C:\docker\a", r"\\?\C:\docker\a"),
            ("C:/docker/a", r"\\?\C:\docker\a"),
            (r"\\server\share\a", r"\\?\UNC\server\share\a"),
            (r"\\?\C:\a", r"\\?\C:\a"),
            (r"\\.\pipe\a", r"\\.\pipe\a"),
        ] {
            assert_eq!(add_prefix(path), long);
        }
    }

    #[test]
    fn a_prefix_that_can_go_goes() {
        for (long, path) in [
            (r"\\?\C:\docker\a", r"C:\docker\a"),
            (r"\\?\UNC\server\share", r"\\server\share"),
            (r"\\?\Volume{1}\", r"\\?\Volume{1}\"),
            (r"C:\a", r"C:\a"),
        ] {
            assert_eq!(strip_prefix(long), path);
        }
    }

    #[test]
    fn three_functions_are_given_long_paths_and_the_others_plain_ones() {
        for (call, path, given) in [
            ("ImportLayer", r"C:\docker\a", r"\\?\C:\docker\a"),
            ("ProcessBaseImage", r"\\?\C:\docker\a", r"\\?\C:\docker\a"),
            ("ProcessUtilityImage", r"\\server\a\UtilityVM", r"\\?\UNC\server\a\UtilityVM"),
            ("ExportLayer", r"\\?\C:\docker\a", r"C:\docker\a"),
            ("PrepareLayer", r"C:\docker\a", r"C:\docker\a"),
        ] {
            assert_eq!(for_layer_function(call, path), given, "{call}");
        }
    }

    #[test]
    fn the_root_of_a_volume_ends_in_a_backslash() {
        for (path, root) in [
            (
                r"\\?\Volume{1c31fe35-0000-0000-0000-100000000000}",
                r"\\?\Volume{1c31fe35-0000-0000-0000-100000000000}\",
            ),
            (r"\\?\volume{1}\", r"\\?\volume{1}\"),
            (r"\\?\Volume{1}\Files", r"\\?\Volume{1}\Files"),
            (r"C:\docker\a", r"C:\docker\a"),
            ("/tmp/ä", "/tmp/ä"),
        ] {
            assert_eq!(directory(path), root);
        }
    }
}
