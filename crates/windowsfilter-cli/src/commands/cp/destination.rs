//! Directories to write into, so that no name and no link can lead elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, IoContext};
use crate::human;

/// A directory that is held open: files go into it even if its path leads elsewhere by then.
pub(super) struct Directory {
    #[cfg(unix)]
    handle: rustix::fd::OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// The path of `name` in it, for messages.
    pub(super) fn path(&self, name: &[u8]) -> PathBuf {
        self.path.join(human::name(name))
    }
}

/// A file being copied. It takes its name when it is complete; dropped before, it leaves what had that name.
pub(super) struct NewFile<'a> {
    pub(super) file: File,
    directory: &'a Directory,
    /// Its temporary name.
    temporary: String,
    name: Vec<u8>,
}

impl NewFile<'_> {
    /// Gives it its name; a file or link that was called so before is replaced.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.directory.rename(&self.temporary, &self.name)
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        // Gone already, if it has its name.
        self.directory.remove(&self.temporary);
    }
}

/// A name that no other copy gives a file, in this process or another.
fn temporary_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!(".windowsfilter-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Refuses a name that is not one path component.
fn check(name: &[u8]) -> Result<(), Error> {
    let separator = |b: &u8| matches!(b, b'/' | 0) || (cfg!(windows) && matches!(b, b'\\' | b':'));
    if matches!(name, b"" | b"." | b"..") || name.iter().any(separator) {
        return Err(Error::UnsafeName { name: human::name(name) });
    }
    Ok(())
}

#[cfg(unix)]
mod unix {
    use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
    use rustix::io::Errno;

    use super::*;

    const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
    const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

    impl Directory {
        /// Opens a directory that the user named; links in its path are the user's.
        pub(in super::super) fn open(path: &Path) -> Result<Self, Error> {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let handle = fs::open(path, flags, Mode::empty()).at("open", path)?;
            Ok(Self { handle, path: path.to_owned() })
        }

        /// The directory `name` in this one, made if there is none.
        pub(in super::super) fn subdirectory(&self, name: &[u8]) -> Result<Self, Error> {
            check(name)?;
            let path = self.path(name);
            match fs::mkdirat(&self.handle, name, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e).at("create directory", path),
            }
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match fs::openat(&self.handle, name, flags, Mode::empty()) {
                Ok(handle) => Ok(Self { handle, path }),
                Err(Errno::LOOP | Errno::NOTDIR) => Err(Error::NotADirectory { path }),
                Err(e) => Err(e).at("open", path),
            }
        }

        /// A new file that will be called `name`.
        pub(in super::super) fn file(&self, name: &[u8]) -> Result<NewFile<'_>, Error> {
            self.is_taken(name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            loop {
                let temporary = temporary_name();
                match fs::openat(&self.handle, &temporary, flags, FILE_MODE) {
                    // Of a process that was killed.
                    Err(Errno::EXIST) => {}
                    other => {
                        let file = other.at("create", self.path(name))?.into();
                        return Ok(NewFile { file, directory: self, temporary, name: name.to_vec() });
                    }
                }
            }
        }

        pub(super) fn rename(&self, from: &str, to: &[u8]) -> Result<(), Error> {
            fs::renameat(&self.handle, from, &self.handle, to).at("replace", self.path(to))
        }

        pub(super) fn remove(&self, name: &str) {
            _ = fs::unlinkat(&self.handle, name, AtFlags::empty());
        }

        /// A new symbolic link `name`.
        pub(in super::super) fn link(&self, name: &[u8], target: &[u8]) -> Result<(), Error> {
            self.make_room(name)?;
            fs::symlinkat(target, &self.handle, name).at("create link", self.path(name))
        }

        fn make_room(&self, name: &[u8]) -> Result<(), Error> {
            if !self.is_taken(name)? {
                return Ok(());
            }
            match fs::unlinkat(&self.handle, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e).at("replace", self.path(name)),
            }
        }

        /// Whether something has this name; refuses to replace what is no file or link.
        fn is_taken(&self, name: &[u8]) -> Result<bool, Error> {
            check(name)?;
            // `cp X /dev/null` by root would leave the machine without it.
            let old = fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW);
            match old.map(|old| FileType::from_raw_mode(old.st_mode)) {
                Err(Errno::NOENT) => Ok(false),
                Err(e) => Err(e).at("replace", self.path(name)),
                Ok(FileType::RegularFile | FileType::Symlink) => Ok(true),
                Ok(_) => Err(Error::NotReplaced { path: self.path(name) }),
            }
        }
    }
}

#[cfg(windows)]
mod windows {
    use std::fs;
    use std::os::windows::fs::FileTypeExt;

    use super::*;

    impl Directory {
        /// Opens a directory that the user named.
        pub(in super::super) fn open(path: &Path) -> Result<Self, Error> {
            Ok(Self { path: path.canonicalize().at("open", path)? })
        }

        /// The directory `name` in this one, made if there is none.
        pub(in super::super) fn subdirectory(&self, name: &[u8]) -> Result<Self, Error> {
            check(name)?;
            let path = self.path(name);
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).at("create directory", path),
            }
            let is_directory = fs::symlink_metadata(&path).at("open", &path)?.is_dir();
            if is_directory { Ok(Self { path }) } else { Err(Error::NotADirectory { path }) }
        }

        /// A new file that will be called `name`.
        pub(in super::super) fn file(&self, name: &[u8]) -> Result<NewFile<'_>, Error> {
            check(name)?;
            let path = self.path(name);
            match fs::symlink_metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).at("replace", path),
                Ok(found) if found.is_file() || found.file_type().is_symlink_file() => {}
                Ok(_) => return Err(Error::NotReplaced { path }),
            }
            loop {
                let temporary = temporary_name();
                match File::create_new(self.path.join(&temporary)) {
                    // Of a process that was killed.
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                    other => {
                        let file = other.at("create", path)?;
                        return Ok(NewFile { file, directory: self, temporary, name: name.to_vec() });
                    }
                }
            }
        }

        pub(super) fn rename(&self, from: &str, to: &[u8]) -> Result<(), Error> {
            fs::rename(self.path.join(from), self.path(to)).at("replace", self.path(to))
        }

        pub(super) fn remove(&self, name: &str) {
            _ = fs::remove_file(self.path.join(name));
        }

        /// Links need a privilege on Windows.
        pub(in super::super) fn link(&self, name: &[u8], _target: &[u8]) -> Result<(), Error> {
            Err(std::io::Error::from(std::io::ErrorKind::Unsupported)).at("create link", self.path(name))
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_that_are_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let to = Directory::open(dir.path()).unwrap();
        for name in [&b""[..], b".", b"..", b"a/b", b"/etc/passwd", b"a\0b"] {
            assert!(matches!(to.file(name), Err(Error::UnsafeName { .. })));
            assert!(matches!(to.subdirectory(name), Err(Error::UnsafeName { .. })));
            assert!(matches!(to.link(name, b"x"), Err(Error::UnsafeName { .. })));
        }
    }

    #[test]
    fn links_at_the_destination_are_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "old").unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        symlink(outside.join("precious"), inside.join("file")).unwrap();
        symlink(&outside, inside.join("directory")).unwrap();

        let to = Directory::open(&inside).unwrap();
        for done in [false, true] {
            let mut new = to.file(b"file").unwrap();
            new.file.write_all(b"new").unwrap();
            assert_eq!(fs::read(inside.join("file")).unwrap(), b"old");
            if done {
                new.finish().unwrap();
            }
        }
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"old");
        assert_eq!(fs::read(inside.join("file")).unwrap(), b"new");
        assert!(matches!(to.subdirectory(b"directory"), Err(Error::NotADirectory { .. })));
        to.link(b"directory", b"file").unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, inside.join("pipe"), 0o600.into()).unwrap();
        fs::create_dir(inside.join("full")).unwrap();
        for name in [&b"pipe"[..], b"full"] {
            assert!(matches!(to.file(name), Err(Error::NotReplaced { .. })));
            assert!(matches!(to.link(name, b"x"), Err(Error::NotReplaced { .. })));
        }
        assert_eq!(fs::read_link(inside.join("directory")).unwrap(), Path::new("file"));
    }
}
