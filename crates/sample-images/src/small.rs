//! Small layers, entry by entry, for tests: tars like those of a Windows export.
//!
//! Nothing here returns an error: an entry that cannot be written is a bug in the test, and panics.

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT};
use wclayer::backup_stream::{self, REPARSE_DATA};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{BackupSource, EntryKind, FileInfo, LayerEntry, LayerTarError, Writer};
use wclayer::reparse;
use wclayer::security::SecurityDescriptor;
use wclayer::tar::type_flag;

/// Default time of everything in a layer: 2020-09-13 12:26:40.1234567.
pub const TIME: FileTime = FileTime(132_444_736_001_234_567);

/// The attributes of a file whose four times are equal.
#[must_use]
pub fn info(attributes: u32, time: FileTime) -> FileInfo {
    FileInfo {
        attributes,
        creation_time: time,
        last_access_time: time,
        last_write_time: time,
        change_time: time,
    }
}

/// A layer that is being written.
#[derive(Debug)]
pub struct SmallLayer {
    tar: Writer<Vec<u8>>,
    time: FileTime,
    security: Option<Vec<u8>>,
    /// The entry that streams belong to.
    last: Option<LayerEntry>,
}

impl Default for SmallLayer {
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
fn done<T>(result: Result<T, LayerTarError>, name: &[u8]) -> T {
    result.unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(name)))
}

impl SmallLayer {
    /// An empty layer, without `Files`, which every layer needs first.
    #[must_use]
    pub fn new() -> Self {
        Self { tar: Writer::new(Vec::new()), time: TIME, security: None, last: None }
    }

    /// Switches an empty layer to an extended tar, which keeps what Windows' own would lose
    /// ([`Writer::extended`]).
    #[must_use]
    pub fn extended(self) -> Self {
        Self { tar: Writer::extended(Vec::new()), ..self }
    }

    /// A base layer: a file and a directory with a file.
    #[must_use]
    pub fn base() -> Self {
        Self::new()
            .dir("Files")
            .dir("Files/Windows")
            .file("Files/Windows/notepad.exe", b"MZ notepad")
            .file("Files/readme.txt", b"read me")
    }

    /// Sets the time of the following entries.
    #[must_use]
    pub fn at(self, time: FileTime) -> Self {
        Self { time, ..self }
    }

    /// Sets the security descriptor of the following entries.
    ///
    /// # Panics
    /// If it is malformed.
    #[must_use]
    #[track_caller]
    pub fn with_sddl(self, sddl: &str) -> Self {
        let descriptor =
            SecurityDescriptor::from_sddl(sddl).unwrap_or_else(|error| panic!("{sddl}: {error}"));
        let bytes = descriptor.to_bytes().unwrap_or_else(|error| panic!("{sddl}: {error}"));
        Self { security: Some(bytes), ..self }
    }

    /// An entry as the methods below write it, for a test to change and pass to [`Self::put`].
    #[must_use]
    pub fn entry(&self, name: impl AsRef<[u8]>, attributes: u32) -> LayerEntry {
        let mut entry = LayerEntry::new(name.as_ref().to_vec(), info(attributes, self.time));
        entry.security.clone_from(&self.security);
        entry
    }

    /// Writes an entry with this content.
    ///
    /// # Panics
    /// If no layer can have it. The same holds for the following methods.
    #[must_use]
    #[track_caller]
    pub fn put(mut self, entry: LayerEntry, content: &[u8]) -> Self {
        let entry = LayerEntry { size: content.len() as u64, ..entry };
        done(self.tar.write_file(&entry, &mut &*content), &entry.name);
        self.last = Some(entry);
        self
    }

    /// A directory: `Files/Windows`.
    #[must_use]
    #[track_caller]
    pub fn dir(self, name: &str) -> Self {
        let entry = self.entry(name, FILE_ATTRIBUTE_DIRECTORY);
        self.put(entry, b"")
    }

    /// A directory with the last write time `time`.
    #[must_use]
    #[track_caller]
    pub fn dir_of(self, name: &str, time: FileTime) -> Self {
        let entry = self.entry(name, FILE_ATTRIBUTE_DIRECTORY);
        self.put(LayerEntry { last_write_time: time, ..entry }, b"")
    }

    /// A file. Its name need not be text.
    #[must_use]
    #[track_caller]
    pub fn file(self, name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        let entry = self.entry(name, FILE_ATTRIBUTE_ARCHIVE);
        self.put(entry, content)
    }

    /// Writes these files below `Files`.
    #[must_use]
    #[track_caller]
    pub fn files(self, files: &[(&str, &[u8])]) -> Self {
        files
            .iter()
            .fold(self.dir("Files"), |layer, (name, content)| layer.file(format!("Files/{name}"), content))
    }

    /// An alternate stream of the last file or directory.
    #[must_use]
    #[track_caller]
    pub fn stream(mut self, name: impl AsRef<[u8]>, content: &[u8]) -> Self {
        let Some(host) = &self.last else { panic!("there is nothing that a stream could belong to") };
        let size = content.len() as u64;
        done(self.tar.write_stream(host, name.as_ref(), size, &mut &*content), &host.name);
        self
    }

    /// A hard link to the entry `target`, of this layer or of a parent.
    #[must_use]
    #[track_caller]
    pub fn link(mut self, name: &str, target: &str) -> Self {
        let entry = self.entry(name, FILE_ATTRIBUTE_ARCHIVE);
        done(self.tar.write_link(&entry, target.as_bytes()), &entry.name);
        self
    }

    /// A symbolic link to a file.
    #[must_use]
    #[track_caller]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        let mut entry = self.entry(name, FILE_ATTRIBUTE_REPARSE_POINT);
        entry.kind = EntryKind::Symlink { target: target.into(), mount_point: false };
        entry.type_flag = type_flag::SYMLINK;
        let encoded = reparse::encode_go(target, false);
        entry.reparse = Some(encoded.unwrap_or_else(|error| panic!("{name}: {error}")));
        self.put(entry, b"")
    }

    /// A mount point, as in a backup stream.
    #[must_use]
    #[track_caller]
    pub fn junction(mut self, name: &str, target: &str) -> Self {
        let info = info(FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT, self.time);
        let data = reparse::encode_go(target, true).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut stream = backup_stream::Writer::new(Vec::new());
        let stream = stream.record(REPARSE_DATA, &data).and_then(|()| stream.finish());
        let stream = stream.unwrap_or_else(|error| panic!("{name}: {error}"));
        let path = name.replace('/', "\\");
        let source = BackupSource::Forward(&mut &stream[..]);
        done(self.tar.write_backup_stream(path.as_bytes(), 0, info, source), name.as_bytes());
        self
    }

    /// Deletes a parent's file.
    #[must_use]
    #[track_caller]
    pub fn whiteout(mut self, name: &str) -> Self {
        done(self.tar.write_whiteout(name.as_bytes()), name.as_bytes());
        self
    }

    /// The whole tar.
    ///
    /// # Panics
    /// Never: it is in memory.
    #[must_use]
    pub fn tar(self) -> Vec<u8> {
        done(self.tar.finish(), b"the end")
    }
}
