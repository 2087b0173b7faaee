//! The destination of an export: a directory or a tar, under a temporary name until it is complete, or a
//! stream.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir, TempPath};
use windowsfilter::{Cancel, Digest, LayerStore};

use super::Format;
use crate::error::{Error, IoContext};
use crate::oci::Descriptor;

/// An export in progress. Dropped before [`Sink::finish`], it removes everything.
pub(super) struct Sink<'a> {
    kind: Kind<'a>,
    /// The directory to create the export in.
    parent: PathBuf,
    /// Blobs already written: two layers may be equal.
    written: HashSet<Digest>,
    cancel: Cancel,
}

enum Kind<'a> {
    Directory(TempDir),
    Archive(tar::Builder<BufWriter<Target<'a>>>),
}

/// The output of a tar.
enum Target<'a> {
    File(NamedTempFile),
    Stream(&'a mut dyn Write),
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

/// A blob whose digest and size are not known yet.
pub(super) struct Blob {
    pub(super) file: File,
    /// Its directory, for messages.
    pub(super) place: PathBuf,
    /// Its name, if it will become part of the export; a file without a name vanishes with this process.
    name: Option<TempPath>,
}

impl<'a> Sink<'a> {
    pub(super) fn create(path: &Path, format: Format, cancel: &Cancel) -> Result<Self, Error> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let mut builder = tempfile::Builder::new();
        builder.prefix(".export-");
        let kind = if format == Format::Oci {
            let dir = builder.tempdir_in(&parent).at("create a directory in", &parent)?;
            let blobs = dir.path().join("blobs/sha256");
            fs::create_dir_all(&blobs).at("create directory", &blobs)?;
            Kind::Directory(dir)
        } else {
            let file = builder.tempfile_in(&parent).at("create a file in", &parent)?;
            begin_archive(Target::File(file), &parent)?
        };
        Ok(Self { kind, parent, written: HashSet::new(), cancel: cancel.clone() })
    }

    /// Writes an archive to `stream`.
    pub(super) fn stream(stream: &'a mut dyn Write, cancel: &Cancel) -> Result<Self, Error> {
        let parent = PathBuf::from("-");
        let kind = begin_archive(Target::Stream(stream), &parent)?;
        Ok(Self { kind, parent, written: HashSet::new(), cancel: cancel.clone() })
    }

    /// A temporary file on the export's file system or, for a stream, on the store's.
    pub(super) fn temporary(&self, store: &LayerStore) -> Result<Blob, Error> {
        let create = "create a temporary file in";
        match &self.kind {
            Kind::Directory(dir) => {
                let file = NamedTempFile::new_in(dir.path()).at(create, dir.path())?;
                let (file, name) = file.into_parts();
                Ok(Blob { file, place: dir.path().to_owned(), name: Some(name) })
            }
            Kind::Archive(tar) if matches!(tar.get_ref().get_ref(), Target::Stream(_)) => {
                Ok(Blob { file: store.files().spool()?, place: store.root().to_owned(), name: None })
            }
            Kind::Archive(_) => {
                let file = tempfile::tempfile_in(&self.parent).at(create, &self.parent)?;
                Ok(Blob { file, place: self.parent.clone(), name: None })
            }
        }
    }

    /// Writes a small blob.
    pub(super) fn document(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        self.blob(&digest, size, &mut &*bytes, media_type)?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Writes the blob `digest` of `size` bytes, unless it is written already; reads `data` to its end in
    /// any case.
    pub(super) fn blob(
        &mut self,
        digest: &Digest,
        size: u64,
        data: &mut dyn Read,
        what: &str,
    ) -> Result<(), Error> {
        if self.written.insert(*digest) {
            return self.member(&format!("blobs/sha256/{}", digest.hex()), size, data, what);
        }
        io::copy(data, &mut io::sink()).map(drop).at("read", Path::new(what))
    }

    /// Like [`Self::blob`], from a file of [`Self::temporary`], which is moved into a directory.
    pub(super) fn finished_blob(
        &mut self,
        digest: &Digest,
        size: u64,
        blob: Blob,
        what: &str,
    ) -> Result<(), Error> {
        let Blob { mut file, place, name } = blob;
        let (Kind::Directory(dir), Some(name)) = (&self.kind, name) else {
            file.rewind().at("read a file in", &place)?;
            return self.blob(digest, size, &mut file, what);
        };
        if self.written.insert(*digest) {
            let path = dir.path().join("blobs/sha256").join(digest.hex());
            file.sync_all().at("sync", &name)?;
            name.persist_noclobber(&path).map_err(|e| e.error).at("rename to", &path)?;
            readable(&file, 0o644).at("make readable", &path)?;
        }
        Ok(())
    }

    /// Writes a file that is not a blob.
    pub(super) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.member(name, bytes.len() as u64, &mut &*bytes, name)
    }

    fn member(&mut self, name: &str, size: u64, data: &mut dyn Read, what: &str) -> Result<(), Error> {
        // Read at most one byte more than announced; the digest or the check below finds a wrong length.
        let mut data = data.take(size.saturating_add(1));
        let copied = match &mut self.kind {
            Kind::Directory(dir) => {
                let path = dir.path().join(name);
                let mut file = File::create_new(&path).at("create", &path)?;
                let copied = io::copy(&mut self.cancel.reader(&mut data), &mut file).at("write", &path)?;
                file.sync_all().at("sync", &path)?;
                copied
            }
            Kind::Archive(tar) => {
                let before = data.limit();
                let mut read = self.cancel.reader(&mut data);
                append(tar, header(tar::EntryType::Regular, 0o644, size), name, &mut read)
                    .at("write to", &self.parent)?;
                before - data.limit()
            }
        };
        if copied == size {
            Ok(())
        } else {
            Err(Error::SizeMismatch { what: what.into(), expected: size, actual: copied })
        }
    }

    /// Renames the export to its final name, unless that exists by now.
    pub(super) fn finish(self, path: &Path) -> Result<(), Error> {
        match self.kind {
            Kind::Directory(dir) => {
                sync_dir(&dir.path().join("blobs/sha256"))?;
                sync_dir(dir.path())?;
                // Windows cannot open a directory as a file, and has no modes.
                #[cfg(unix)]
                readable(&File::open(dir.path()).at("open", dir.path())?, 0o755)
                    .at("make readable", dir.path())?;
                publish_dir(dir, path)?;
            }
            Kind::Archive(tar) => {
                let buffered = tar.into_inner().at("write", path)?;
                let target =
                    buffered.into_inner().map_err(io::IntoInnerError::into_error).at("write", path)?;
                let file = match target {
                    Target::File(file) => file,
                    Target::Stream(stream) => return stream.flush().at("write", path),
                };
                file.as_file().sync_all().at("sync", path)?;
                readable(file.as_file(), 0o644).at("make readable", path)?;
                file.persist_noclobber(path).map_err(|e| e.error).at("rename to", path)?;
            }
        }
        sync_dir(&self.parent)
    }
}

/// Syncs the directory `dir`.
fn sync_dir(dir: &Path) -> Result<(), Error> {
    // Windows cannot sync a directory handle opened for reading, and NTFS journals its metadata.
    if cfg!(unix) {
        File::open(dir).and_then(|d| d.sync_all()).at("sync directory", dir)?;
    }
    Ok(())
}

fn begin_archive<'a>(target: Target<'a>, place: &Path) -> Result<Kind<'a>, Error> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, target));
    for dir in ["blobs/", "blobs/sha256/"] {
        let header = header(tar::EntryType::Directory, 0o755, 0);
        append(&mut tar, header, dir, &mut io::empty()).at("write to", place)?;
    }
    Ok(Kind::Archive(tar))
}

fn publish_dir(dir: TempDir, path: &Path) -> Result<(), Error> {
    // A rename replaces an empty directory but nothing else: check first.
    if path.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: path.to_owned() });
    }
    fs::rename(dir.path(), path).at("rename to", path)?;
    // It is no longer at its temporary path.
    let _ = dir.keep();
    Ok(())
}

/// Temporary files are accessible to the owner only; gives an export the mode of the usual umask.
fn readable(file: &File, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    #[cfg(not(unix))]
    let _ = (file, mode);
    Ok(())
}

/// A header without anything of this machine or moment.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    mut header: tar::Header,
    name: &str,
    data: &mut dyn Read,
) -> io::Result<()> {
    tar.append_data(&mut header, name, data)
}
