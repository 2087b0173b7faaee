//! Targets for the hard links of a layer that a client unpacks by itself.
//!
//! BuildKit unpacks each layer, entry by entry, into a directory without the parents' files, and creates
//! hard links with link(2). Links in Windows layers may lead to files of lower layers, to later entries of
//! the tar, or to names in another case: link(2) fails for these, and the build with it. So this creates an
//! empty file at each link's target before the client starts. An entry of that name replaces it; the rest
//! is discarded with the directory.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};

use wclayer::tar::{Reader, type_flag};

use crate::error::{Error, IoContext};
use crate::stop::Stop;

/// Read buffer for the tar, bytes.
const BUFFER: usize = 1 << 20;
/// Prefix of a layer's files, which BuildKit strips from names and targets. It skips all other entries.
const FILES: &[u8] = b"Files/";

/// Creates an empty file below `dir` for each hard link target in `tar`. `dir` is empty, and nothing else
/// writes to it.
///
/// # Errors
/// The tar cannot be read; the store's file system cannot hold a name; the disk is full;
/// [`Error::Abandoned`].
pub(super) fn place(tar: File, dir: &Path, stop: &Stop) -> Result<(), Error> {
    let mut tar = Reader::new(BufReader::with_capacity(BUFFER, tar));
    while let Some(header) = tar.next().map_err(windowsfilter::Error::from)? {
        stop.check()?;
        if header.type_flag == type_flag::LINK
            && header.name.starts_with(FILES)
            && let Some(target) = target(&header.link_name)
        {
            place_one(&dir.join(target))?;
        }
    }
    Ok(())
}

/// A link target's path below `Files`; `None` if it leads out of there, where link(2) fails anyway.
fn target(link: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let link = Path::new(std::ffi::OsStr::from_bytes(link.strip_prefix(FILES).unwrap_or(link)));
    let mut path = PathBuf::new();
    for component in link.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (path.file_name().is_some()).then_some(path)
}

fn place_one(path: &Path) -> Result<(), Error> {
    let created = match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
            parent.and_then(|()| File::create_new(path))
        }
        other => other,
    };
    match created {
        // Another link has this target, or one below or above it. A layer can have both only if it replaces
        // one by the other in between, and one placeholder cannot serve both.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
            ) =>
        {
            Ok(())
        }
        other => other.map(drop).at("create", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_path_below_files_or_none() {
        for (link, path) in [
            (&b"Files/Windows/a.dll"[..], Some("Windows/a.dll")),
            (b"a", Some("a")),
            (b"Files//x/./y", Some("x/y")),
            (b"/etc/passwd", Some("etc/passwd")),
            (b"Files/Files/x", Some("Files/x")),
            (b"Files/../../etc/passwd", None),
            (b"Files/", None),
            (b"", None),
        ] {
            assert_eq!(target(link).as_deref(), path.map(Path::new), "{}", link.escape_ascii());
        }
    }

    #[test]
    fn places_that_exclude_each_other_are_no_error() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/b", "a/b", "a", "a/b/c", "d/e/f"] {
            place_one(&dir.path().join(path)).unwrap();
        }
        assert!(dir.path().join("a/b").is_file() && dir.path().join("d/e/f").is_file());
        assert!(place_one(&dir.path().join("n".repeat(256))).is_err());
    }
}
