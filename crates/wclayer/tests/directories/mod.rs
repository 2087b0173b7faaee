//! Two directories to transport layers through: one in memory, one in this computer's file system.
#![allow(unreachable_pub, reason = "shared by a test binary's modules")]

pub mod on_disk;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::rc::Rc;

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::backup_stream::{self as backup, Reader, Writer};
use wclayer::layer_tar::FileInfo;
use wclayer::transport::{Directory, Metadata};

/// A directory tree in memory. Plain files are kept as their backup streams.
#[derive(Default)]
pub struct InMemory {
    nodes: BTreeMap<Vec<u8>, Node>,
}

#[derive(Clone)]
struct Node {
    id: u128,
    is_directory: bool,
    is_plain: bool,
    info: FileInfo,
    data: SharedBytes,
    links: Rc<RefCell<u32>>,
}

/// The bytes of a file, written through any of its handles.
#[derive(Clone, Default)]
pub struct SharedBytes(Rc<RefCell<Vec<u8>>>);

impl Write for SharedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The metadata that a file system reports for a file made without attributes.
pub fn with_default_attributes(info: FileInfo, is_directory: bool) -> FileInfo {
    let attributes = match (info.attributes, is_directory) {
        (0, true) => FILE_ATTRIBUTE_DIRECTORY,
        (0, false) => FILE_ATTRIBUTE_ARCHIVE,
        (attributes, _) => attributes,
    };
    FileInfo { attributes, ..info }
}

/// A backup stream without its security descriptor.
///
/// # Errors
/// It is not a backup stream: a fuzz target writes anything to the files of a directory.
pub fn without_security(stream: &[u8]) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = (Reader::new(stream), Writer::new(Vec::new()));
    while let Some(header) = reader.next()? {
        let data = reader.read_all(header.size)?;
        if header.id != backup::SECURITY_DATA {
            writer.begin(&header)?;
            writer.write_data(&data)?;
        }
    }
    Ok(writer.finish()?)
}

/// The data in a backup stream.
///
/// # Errors
/// It is not a backup stream.
pub fn data_of(stream: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut reader = Reader::new(stream);
    while let Some(header) = reader.next()? {
        if header.id == backup::DATA {
            return Ok(Some(reader.read_all(header.size)?));
        }
    }
    Ok(None)
}

impl InMemory {
    fn insert(
        &mut self,
        path: &[u8],
        is_directory: bool,
        is_plain: bool,
        info: FileInfo,
    ) -> io::Result<SharedBytes> {
        let parent = path.iter().rposition(|&byte| byte == b'\\').map(|end| &path[..end]);
        if parent.is_some_and(|parent| !self.nodes.get(parent).is_some_and(|node| node.is_directory)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.nodes.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if path.contains(&b':') {
            // Windows takes it for a stream.
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        let data = SharedBytes::default();
        let id = self.nodes.len() as u128;
        let links = Rc::new(RefCell::new(1));
        let node = Node { id, is_directory, is_plain, info, data: data.clone(), links };
        self.nodes.insert(path.to_vec(), node);
        Ok(data)
    }

    fn node(&self, path: &[u8]) -> io::Result<&Node> {
        self.nodes.get(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Directory for InMemory {
    type Source = Cursor<Vec<u8>>;
    type BackupSource = Cursor<Vec<u8>>;
    type Sink = SharedBytes;
    type BackupSink = SharedBytes;

    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"\\"].concat() };
        let names = self.nodes.keys().filter_map(|node| node.strip_prefix(&prefix[..]));
        Ok(names.filter(|name| !name.is_empty() && !name.contains(&b'\\')).map(<[u8]>::to_vec).collect())
    }

    fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        let node = self.node(path)?;
        let data = node.data.0.borrow();
        let size = if node.is_plain { data_of(&data)?.map_or(0, |data| data.len()) } else { data.len() };
        Ok(Metadata {
            info: with_default_attributes(node.info, node.is_directory),
            size: size as u64,
            is_directory: node.is_directory,
            link_id: (*node.links.borrow() > 1).then(|| node.id.to_le_bytes()),
        })
    }

    fn open(&self, path: &[u8]) -> io::Result<Self::Source> {
        Ok(Cursor::new(self.node(path)?.data.0.borrow().clone()))
    }

    fn backup_read(&self, path: &[u8]) -> io::Result<Self::BackupSource> {
        let node = self.node(path)?;
        without_security(&node.data.0.borrow()).map(Cursor::new)
    }

    fn create_directory(&mut self, path: &[u8]) -> io::Result<()> {
        self.insert(path, true, true, FileInfo::default()).map(|_| ())
    }

    fn create(&mut self, path: &[u8], info: &FileInfo) -> io::Result<Self::Sink> {
        self.insert(path, false, false, *info)
    }

    fn backup_write(&mut self, path: &[u8], info: &FileInfo, _: bool) -> io::Result<Self::BackupSink> {
        if let Some(node) = self.nodes.get_mut(path).filter(|node| node.is_directory) {
            node.info = *info;
            return Ok(node.data.clone());
        }
        self.insert(path, false, true, *info)
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let node = self.nodes.remove(path).ok_or(io::ErrorKind::NotFound)?;
        *node.links.borrow_mut() -= 1;
        let below = [path, b"\\"].concat();
        self.nodes.retain(|other, _| !other.starts_with(&below));
        Ok(())
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let node = self.node(target)?.clone();
        if self.nodes.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        *node.links.borrow_mut() += 1;
        self.nodes.insert(path.to_vec(), node);
        Ok(())
    }
}
