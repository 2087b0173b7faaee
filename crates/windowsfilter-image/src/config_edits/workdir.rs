//! Working directories of containers.

/// The directory that `requested` means for an image whose working directory is `current`, as Docker writes
/// it: with a drive in upper case and backslashes. A path from the root without a drive is on `C:`, whatever
/// drive the image's directory is on. Source: moby `daemon/builder/dockerfile/dispatchers_windows.go`,
/// `normalizeWorkdirWindows`.
pub(super) fn resolve(current: &str, requested: &str) -> Result<String, &'static str> {
    if requested.trim().is_empty() {
        return Err("expected the path of a directory");
    }
    let (current, requested) = (current.replace('/', "\\"), requested.replace('/', "\\"));
    if requested.starts_with(r"\\") {
        return Err("a container has no network path as its working directory");
    }
    let (drive, path) = match split_drive(&requested) {
        // Alone, a drive means its current directory.
        Some((_, rest)) if !rest.starts_with('\\') => {
            return Err("a path with a drive has to begin at its root, as in C:\\app");
        }
        Some((drive, rest)) => (drive, rest.to_owned()),
        None if requested.starts_with('\\') => ('C', requested.clone()),
        None => {
            let (drive, below) = split_drive(&current).unwrap_or(('C', &current));
            (drive, format!("{below}\\{requested}"))
        }
    };
    if path.contains(':') {
        return Err("no name on Windows has a colon");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('\\') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    Ok(format!("{drive}:\\{}", parts.join("\\")))
}

/// The drive, in upper case, and the rest.
fn split_drive(path: &str) -> Option<(char, &str)> {
    let drive = path.chars().next().filter(char::is_ascii_alphabetic)?;
    path[1..].strip_prefix(':').map(|rest| (drive.to_ascii_uppercase(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples in moby's source, and what else users write.
    #[test]
    fn directories_are_resolved_as_docker_resolves_them() {
        for (current, requested, expected) in [
            ("", "foo", r"C:\foo"),
            ("", r"\foo", r"C:\foo"),
            ("", "/foo", r"C:\foo"),
            ("", r"C:\foo", r"C:\foo"),
            (r"C:\foo", "bar", r"C:\foo\bar"),
            ("C:/foo", "bar", r"C:\foo\bar"),
            (r"C:\foo", r"\bar", r"C:\bar"),
            ("/foo", "c:/bar", r"C:\bar"),
            (r"C:\foo", r"..\bar\.", r"C:\bar"),
            (r"C:\", r"..\..", r"C:\"),
            (r"D:\data", "in/put", r"D:\data\in\put"),
            (r"D:\data", "/", r"C:\"),
            (r"D:\foo", r"\bar", r"C:\bar"),
            ("", "c:/", r"C:\"),
        ] {
            assert_eq!(resolve(current, requested).unwrap(), expected, "{current} {requested}");
        }
        for bad in ["", " ", r"\\server\share", "C:foo", "c:", "ab:c"] {
            assert!(resolve(r"C:\", bad).is_err(), "{bad:?}");
        }
    }
}
