//! Removes a directory with everything in it, but never the content of mounts in it, which belongs to others.

use std::fs;
use std::io;
use std::path::Path;

/// Removes the directory `dir` and everything in it. Links are removed, not followed.
///
/// # Errors
/// If something is mounted in it, or on it, the error names the place. Entries removed before that are gone.
#[cfg(target_os = "linux")]
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    linux::empty(CWD, dir, dir)?;
    Ok(rustix::fs::unlinkat(CWD, dir, AtFlags::REMOVEDIR)?)
}

/// Removes the directory `dir` and everything in it; we make no mounts in directories on these systems.
///
/// # Errors
/// Those of [`fs::remove_dir_all`].
#[cfg(not(target_os = "linux"))]
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    fs::remove_dir_all(dir)
}

/// Removes the file or directory at `path`.
pub fn remove_any(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { remove_tree(path) } else { fs::remove_file(path) }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::io;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use rustix::fd::{BorrowedFd, OwnedFd};
    use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
    use rustix::io::Errno;

    /// Removes everything in the directory `name` of `parent`, whose path is `path`.
    pub(super) fn empty(parent: BorrowedFd<'_>, name: &Path, path: &Path) -> io::Result<()> {
        let dir = open(parent, name, path)?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            if name == Path::new(".") || name == Path::new("..") {
                continue;
            }
            remove(&dir, name, entry.file_type(), &path.join(name))?;
        }
        Ok(())
    }

    fn remove(dir: &OwnedFd, name: &Path, kind: FileType, path: &Path) -> io::Result<()> {
        let is_directory = kind == FileType::Directory;
        let removed = if is_directory {
            empty(rustix::fd::AsFd::as_fd(dir), name, path)?;
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
        } else {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
        };
        match removed {
            // Some file systems do not report the type of an entry.
            Err(Errno::ISDIR) if !is_directory => remove(dir, name, FileType::Directory, path),
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::BUSY) => Err(mounted(path)),
            other => Ok(other?),
        }
    }

    /// Opens a directory, unless something is mounted on it.
    fn open(parent: BorrowedFd<'_>, name: &Path, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The caller's path may cross mounts up to its last name.
        let (holder, last) = match (name.parent(), name.file_name()) {
            (Some(above), Some(last)) if !above.as_os_str().is_empty() => (
                Some(rustix::fs::openat(parent, above, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
                Path::new(last),
            ),
            _ => (None, name),
        };
        let parent = holder.as_ref().map_or(parent, rustix::fd::AsFd::as_fd);
        match rustix::fs::openat2(parent, last, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
            Err(Errno::XDEV) => Err(mounted(path)),
            other => Ok(other?),
        }
    }

    fn mounted(path: &Path) -> io::Error {
        io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("something is mounted at {}: unmount it first", path.display()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_with_its_links_but_not_with_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::write(tree.join("a/b/file"), b"x").unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), b"x").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        remove_any(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        assert_eq!(remove_any(&tree).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
