//! What the transport directory needs of a file system.

use std::io::{self, Read, Seek, Write};

use crate::layer_tar::FileInfo;

/// What a file system knows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Attributes and times.
    pub info: FileInfo,
    /// Bytes of its data; of no meaning for directories.
    pub size: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The file's identity, if it has more than one name.
    pub link_id: Option<[u8; 16]>,
}

/// A directory on some file system, or something like it.
///
/// Paths are relative to it: WTF-8, elements separated by backslashes, clean, none of them `..`; the
/// directory itself is empty. They come from a tar, so an implementation must never follow links, and must
/// refuse what its file system gives another meaning (device names, streams).
pub trait Directory {
    /// A file that is read as it is.
    type Source: Read + Seek;
    /// The backup stream of a file.
    type BackupSource: Read;
    /// A file that is written as it is.
    type Sink: Write;
    /// A file that is restored from a backup stream.
    type BackupSink: Write;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// Those of the file system.
    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>>;

    /// What is known of a file or directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, or those of the file system.
    fn metadata(&self, path: &[u8]) -> io::Result<Metadata>;

    /// Opens a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn open(&self, path: &[u8]) -> io::Result<Self::Source>;

    /// The backup stream of a file or directory, without its security descriptor.
    ///
    /// # Errors
    /// Those of the file system.
    fn backup_read(&self, path: &[u8]) -> io::Result<Self::BackupSource>;

    /// Makes a directory. Its parent is there; it is not.
    ///
    /// # Errors
    /// Those of the file system.
    fn create_directory(&mut self, path: &[u8]) -> io::Result<()>;

    /// Makes a file, which must not be there, with these times. Writing must not change them.
    ///
    /// # Errors
    /// Those of the file system.
    fn create(&mut self, path: &[u8], info: &FileInfo) -> io::Result<Self::Sink>;

    /// Makes a file, which must not be there, or takes a directory, which must, and gives it attributes,
    /// times, and what is in the backup stream written to it; security descriptors only if `with_security`.
    ///
    /// # Errors
    /// Those of the file system.
    fn backup_write(
        &mut self,
        path: &[u8],
        info: &FileInfo,
        with_security: bool,
    ) -> io::Result<Self::BackupSink>;

    /// Removes a file, or a directory with what is in it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, or those of the file system.
    fn remove(&mut self, path: &[u8]) -> io::Result<()>;

    /// Gives a file a further name.
    ///
    /// # Errors
    /// Those of the file system.
    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()>;
}
