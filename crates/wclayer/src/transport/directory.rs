//! The file system operations that the transport directory needs.

use std::io::{self, Read, Seek, Write};

use crate::layer_tar::FileInfo;

/// A file's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Attributes and times.
    pub info: FileInfo,
    /// Bytes of its data; meaningless for directories.
    pub size: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The file's identity, if it has more than one name.
    pub link_id: Option<[u8; 16]>,
}

/// A directory of a file system, or something like it.
///
/// Paths are relative to it: WTF-8, elements separated by backslashes, clean, none of them `..`; the
/// directory itself is empty. They come from a tar, so an implementation must never follow links, and must
/// refuse names to which its file system gives another meaning (device names, streams).
pub trait Directory {
    /// A plain file to read.
    type Source: Read + Seek;
    /// The backup stream of a file.
    type BackupSource: Read;
    /// A plain file to write.
    type Sink: Write;
    /// A file that is restored from a backup stream.
    type BackupSink: Write;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// Those of the file system.
    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>>;

    /// The metadata of a file or directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it does not exist, or those of the file system.
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

    /// Makes a directory, which must not exist; its parent exists.
    ///
    /// # Errors
    /// Those of the file system.
    fn create_directory(&mut self, path: &[u8]) -> io::Result<()>;

    /// Makes a file, which must not exist, with these times. Writing must not change them.
    ///
    /// # Errors
    /// Those of the file system.
    fn create(&mut self, path: &[u8], info: &FileInfo) -> io::Result<Self::Sink>;

    /// Makes a file, which must not exist, or opens a directory, which must. Sets attributes and times, and
    /// restores the backup stream that is written to it; security descriptors only if `with_security`.
    ///
    /// # Errors
    /// Those of the file system.
    fn backup_write(
        &mut self,
        path: &[u8],
        info: &FileInfo,
        with_security: bool,
    ) -> io::Result<Self::BackupSink>;

    /// Removes a file, or a directory with everything in it.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if it does not exist, or those of the file system.
    fn remove(&mut self, path: &[u8]) -> io::Result<()>;

    /// Makes a hard link.
    ///
    /// # Errors
    /// Those of the file system.
    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()>;
}
