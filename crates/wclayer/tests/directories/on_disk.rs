//! A directory of this computer's file system. It cannot store creation times and attributes, so a table
//! keeps them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Cursor, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use wclayer::backup_stream::{DATA, Writer};
use wclayer::layer_tar::FileInfo;
use wclayer::transport::{Directory, Metadata};

use super::{data_of, with_default_attributes};

pub struct OnDisk {
    root: tempfile::TempDir,
    /// By inode, so that all names of a file share them.
    infos: RefCell<HashMap<u64, FileInfo>>,
}

/// Writes the data of a backup stream into a file.
pub struct Restore {
    path: PathBuf,
    stream: Vec<u8>,
}

impl Write for Restore {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match data_of(&self.stream)? {
            Some(data) if self.path.is_file() => fs::write(&self.path, data),
            _ => Ok(()),
        }
    }
}

impl OnDisk {
    pub fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), infos: RefCell::default() }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        let mut all = self.root.path().to_owned();
        for element in path.split(|&byte| byte == b'\\').filter(|element| !element.is_empty()) {
            assert!(element != b".." && !element.contains(&b'/'), "{:?}", String::from_utf8_lossy(path));
            all.push(OsStr::from_bytes(element));
        }
        all
    }

    fn remember(&self, path: &[u8], info: &FileInfo) -> io::Result<()> {
        let inode = fs::symlink_metadata(self.path(path))?.ino();
        self.infos.borrow_mut().insert(inode, *info);
        Ok(())
    }
}

impl Directory for OnDisk {
    type Source = File;
    type BackupSource = Cursor<Vec<u8>>;
    type Sink = File;
    type BackupSink = Restore;

    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        fs::read_dir(self.path(path))?.map(|entry| Ok(entry?.file_name().into_vec())).collect()
    }

    fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        let metadata = fs::symlink_metadata(self.path(path))?;
        let info = self.infos.borrow().get(&metadata.ino()).copied().unwrap_or_default();
        Ok(Metadata {
            info: with_default_attributes(info, metadata.is_dir()),
            size: metadata.len(),
            is_directory: metadata.is_dir(),
            link_id: (metadata.nlink() > 1).then(|| u128::from(metadata.ino()).to_le_bytes()),
        })
    }

    fn open(&self, path: &[u8]) -> io::Result<File> {
        File::open(self.path(path))
    }

    fn backup_read(&self, path: &[u8]) -> io::Result<Self::BackupSource> {
        let path = self.path(path);
        let mut stream = Writer::new(Vec::new());
        if path.is_file() {
            stream.record(DATA, &fs::read(path)?).map_err(io::Error::from)?;
        }
        Ok(Cursor::new(stream.finish().map_err(io::Error::from)?))
    }

    fn create_directory(&mut self, path: &[u8]) -> io::Result<()> {
        fs::create_dir(self.path(path))
    }

    fn create(&mut self, path: &[u8], info: &FileInfo) -> io::Result<File> {
        let file = File::create_new(self.path(path))?;
        self.remember(path, info)?;
        Ok(file)
    }

    fn backup_write(&mut self, path: &[u8], info: &FileInfo, _: bool) -> io::Result<Restore> {
        let on_disk = self.path(path);
        if !on_disk.is_dir() {
            File::create_new(&on_disk)?;
        }
        self.remember(path, info)?;
        Ok(Restore { path: on_disk, stream: Vec::new() })
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        fs::hard_link(self.path(target), self.path(path))
    }
}
