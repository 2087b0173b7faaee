//! What the hard links of a layer lead to while a client unpacks it by itself.
//!
//! BuildKit unpacks each layer into a directory that has nothing of the parents, entry by entry, and makes a
//! hard link with link(2). In Windows layers links lead to files of lower layers, to entries that come later
//! in the tar, and to names in another case: there link(2) finds nothing, and the build would end. So an
//! empty file stands in each place that a link leads to, before the client begins. An entry of that name
//! replaces it; what is left goes with all the rest.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};

use wclayer::tar::{Reader, type_flag};

use crate::error::{Error, IoContext};
use crate::stop::Stop;

/// Bytes of the tar that are read at a time.
const BUFFER: usize = 1 << 20;
/// Where a layer's files are, and what BuildKit cuts off names and targets. It leaves out all others.
const FILES: &[u8] = b"Files/";

/// Makes an empty file below `dir`, which is empty and which only this writes to, for each target of the hard
/// links in `tar`.
///
/// # Errors
/// A tar that cannot be read; a name that the file system of the store cannot hold; a full disk;
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

/// The path of a link's target below `Files`; `None` if it leads out of there, which finds nothing anyway.
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
        // Another link leads there, or to something below it, or to what is on the way: of such a layer one
        // of both is replaced between them, and no directory can stand for both times.
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
