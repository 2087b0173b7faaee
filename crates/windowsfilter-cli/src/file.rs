//! Files that commands write for the user: a name has the whole new file, or still the old one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, IoContext};

/// A file being written. Dropped before [`OutputFile::finish`] it leaves nothing, and what had its name
/// untouched.
pub(crate) enum OutputFile {
    /// Takes its name when it is complete.
    New { file: NamedTempFile, path: PathBuf },
    /// A pipe or device, which has to be written itself.
    Special { file: File, path: PathBuf },
}

impl OutputFile {
    /// Begins to write `path`.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let before = match fs::metadata(path) {
            Ok(before) if !before.is_file() => {
                return Ok(Self::Special { file: File::create(path).at("create", path)?, path: path.into() });
            }
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at("create", path),
        };
        // A link stays one: its target is replaced.
        let path = if before.is_some() { path.canonicalize().at("create", path)? } else { path.to_owned() };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".windowsfilter-");
        // What any new file gets, less the umask; temporary files are for their owner only.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(dir).at("create", &path)?;
        if let Some(before) = before {
            file.as_file().set_permissions(before.permissions()).at("change the mode of", file.path())?;
        }
        Ok(Self::New { file, path })
    }

    /// Writes all of `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::New { file, path } => file.write_all(bytes).at("write", &*path),
            Self::Special { file, path } => file.write_all(bytes).at("write", &*path),
        }
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let Self::New { file, path } = self else { return Ok(()) };
        file.as_file().sync_all().at("sync", &path)?;
        file.persist(&path).map_err(|error| error.error).at("replace", path).map(drop)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_when_it_is_complete_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        for done in [false, true] {
            let mut file = OutputFile::create(&link).unwrap();
            file.write(b"new").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"old");
            if done {
                file.finish().unwrap();
            }
        }
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_device_is_written_and_stays() {
        let mut file = OutputFile::create(Path::new("/dev/null")).unwrap();
        file.write(b"x").unwrap();
        file.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(OutputFile::create(Path::new("/")).is_err());
    }
}
