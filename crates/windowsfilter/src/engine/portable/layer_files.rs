//! One committed layer alone: its index, and its files by their names in its tar.

use std::fs::File;
use std::io::{self, Cursor, Read};

use erofs_index::{Cached, FileType, Image, InodeInfo};

use super::any_case::AnyCase;
use super::import::is_separator;
use crate::driver::DiffGetter;
use crate::engine::Place;
use crate::engine::portable::xattrs::{StreamContent, Win32Metadata};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::store::file;

/// The layer's own index.
pub(super) fn open_index(layer: &Place) -> Result<Image<Cached<File>>, Error> {
    let path = layer.dir.join(file::INDEX);
    let damaged =
        |source: erofs_index::ReadError| Error::Index { id: layer.id.clone(), source: source.into() };
    let cached = File::open(&path).and_then(Cached::new).at("open", &path)?;
    Image::open(cached).map_err(damaged)
}

/// Files of one layer by tar name, straight from its tar.
pub(super) struct LayerFiles {
    id: LayerId,
    image: Image<Cached<File>>,
    names: AnyCase,
    tar: File,
}

impl LayerFiles {
    pub(super) fn open(layer: &Place) -> Result<Self, Error> {
        let path = layer.dir.join(file::TAR);
        let tar = File::open(&path).at("open", &path)?;
        Ok(Self { id: layer.id.clone(), image: open_index(layer)?, names: AnyCase::default(), tar })
    }

    fn find(&self, name: &[u8]) -> Result<Option<InodeInfo>, erofs_index::ReadError> {
        let mut inode = self.image.inode(self.image.root())?;
        for component in name.split(is_separator).filter(|c| !c.is_empty() && *c != b".") {
            if inode.kind != FileType::Directory {
                return Ok(None);
            }
            let Some((_, nid)) = self.names.find(&self.image, &inode, component)? else { return Ok(None) };
            inode = self.image.inode(nid)?;
        }
        Ok(Some(inode))
    }
}

impl LayerFiles {
    fn open_at(&self, offset: u64, size: u64) -> Result<Box<dyn Read + Send>, Error> {
        let tar = self.tar.try_clone().at("open", file::TAR.as_ref())?;
        Ok(Box::new(TarSlice { tar, offset, left: size }))
    }

    fn open_regular(&self, inode: &InodeInfo) -> Result<Option<Box<dyn Read + Send>>, Error> {
        if inode.kind != FileType::Regular {
            return Ok(None);
        }
        match self.image.extent(inode).map_err(|e| self.damaged(e))? {
            None => Ok(Some(Box::new(io::empty()))),
            Some(extent) => self.open_at(extent.offset(), inode.size).map(Some),
        }
    }

    /// An alternate stream, which is an entry `name:stream` in a tar.
    fn open_stream(&self, name: &[u8]) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let last = name.iter().rposition(is_separator).map_or(0, |i| i + 1);
        let Some(colon) = name[last..].iter().position(|&b| b == b':') else { return Ok(None) };
        let (host, stream) = (&name[..last + colon], &name[last + colon + 1..]);
        let Some(inode) = self.find(host).map_err(|e| self.damaged(e))? else { return Ok(None) };
        let xattrs = self.image.xattrs(&inode).map_err(|e| self.damaged(e))?;
        let metadata =
            Win32Metadata::from_xattrs(xattrs.iter().map(|(_, name, value)| (&name[..], &value[..])));
        let stream = stream.strip_suffix(b":$DATA").unwrap_or(stream);
        match metadata.streams.into_iter().find(|s| s.name == stream).map(|s| s.content) {
            None => Ok(None),
            Some(StreamContent::Inline(bytes)) => Ok(Some(Box::new(Cursor::new(bytes)))),
            Some(StreamContent::InTar { origin, size }) => self.open_at(origin.offset, size).map(Some),
        }
    }

    fn damaged(&self, source: erofs_index::ReadError) -> Error {
        Error::Index { id: self.id.clone(), source: source.into() }
    }
}

impl DiffGetter for LayerFiles {
    fn get(&self, name: &[u8]) -> Result<Box<dyn Read + Send>, Error> {
        let missing =
            || Error::NoSuchFile { id: self.id.clone(), path: String::from_utf8_lossy(name).into_owned() };
        match self.find(name).map_err(|e| self.damaged(e))? {
            Some(inode) => self.open_regular(&inode)?.ok_or_else(missing),
            None => self.open_stream(name)?.ok_or_else(missing),
        }
    }
}

/// A stretch of a tar.
struct TarSlice {
    tar: File,
    offset: u64,
    left: u64,
}

impl Read for TarSlice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        #[cfg(unix)]
        let n = std::os::unix::fs::FileExt::read_at(&self.tar, &mut buffer[..want], self.offset)?;
        #[cfg(windows)]
        let n = std::os::windows::fs::FileExt::seek_read(&self.tar, &mut buffer[..want], self.offset)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
