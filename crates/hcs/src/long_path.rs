//! Paths longer than 260 characters: Windows takes them with a prefix.
//!
//! Source: hcsshim `internal/longpath/longpath.go`, moby `pkg/longpath`.

/// The prefix of a path that Windows takes as it is.
const PREFIX: &str = r"\\?\";

/// An absolute path in its long form; what has a prefix already stays.
pub fn add_prefix(path: &str) -> String {
    if path.starts_with(PREFIX) || path.starts_with(r"\\.\") {
        return path.to_owned();
    }
    // Behind the prefix nothing is translated any more.
    let path = path.replace('/', r"\");
    match path.strip_prefix(r"\\") {
        Some(share) => format!(r"{PREFIX}UNC\{share}"),
        None => format!("{PREFIX}{path}"),
    }
}

/// The path as it is without the prefix, which functions of the compute service do not all take.
pub fn strip_prefix(path: &str) -> String {
    match path.strip_prefix(PREFIX) {
        Some(rest) => match rest.strip_prefix(r"UNC\") {
            Some(share) => format!(r"\\{share}"),
            // A volume or device has no other name.
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
}
