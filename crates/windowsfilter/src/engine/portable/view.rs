//! Reading a chain without mounting it: names, metadata and contents, straight from the index and the tars.
//!
//! Lookups follow Windows' rules: case does not matter, a shortened name is found by its true name, either
//! slash separates, and `C:` is optional. `..` stops at the root, and links lead where they lead on Windows.
//! A damaged index or tar gives an error that names the layer and the path.

#[cfg(target_os = "linux")]
use std::collections::HashSet;
use std::fs::File;
#[cfg(target_os = "linux")]
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

#[cfg(target_os = "linux")]
use erofs_index::Nid;
use erofs_index::{Cached, FileType, Image, InodeInfo, ReadAt, ReadError};
use wclayer::name;

use super::any_case::AnyCase;
use super::chain::form_of;
use super::link_targets::HOPS_MAX;
use super::long_names::true_name;
use crate::engine::ChainLayer;
use crate::engine::portable::xattrs::{Origin, Stream, StreamContent, StreamForm, Win32Metadata};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::store::file;

/// Bytes to read from a tar at once if the caller asks for less.
const BUFFER: usize = 64 << 10;

/// The merged files of a chain.
#[derive(Debug)]
pub struct View {
    id: LayerId,
    image: Image<Cached<File>>,
    files: InodeInfo,
    tars: Vec<Tar>,
    /// The form of streams in the index.
    form: StreamForm,
    names: AnyCase,
    #[cfg(target_os = "linux")]
    streams: OnceLock<Streams>,
}

/// Hashes of all streams of a view, keyed, so that no stream can be made to collide with another.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
struct Streams {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

/// A layer's tar, opened when it is first read.
#[derive(Debug)]
struct Tar {
    id: LayerId,
    tag: u64,
    path: PathBuf,
    file: OnceLock<Arc<File>>,
}

/// A file, directory or link of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The inode in the index.
    pub(crate) info: InodeInfo,
    /// Its path from the view's root, separated by `/` and spelled as the view spells it; empty for the root.
    /// A tar name outside `Files` has its path from the layer's root.
    pub view_path: Vec<u8>,
}

/// The links that a lookup follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// All of them: the lookup returns the node that the path leads to.
    Always,
    /// Those on the way: the lookup returns a link at the end itself.
    OnTheWay,
}

/// The kind of a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symlink or a junction: [`Win32Metadata::reparse`] tells which.
    Link,
    /// The mark of a deletion. The view of a whole chain shows none.
    Deletion,
}

impl Node {
    /// File, directory, link or deletion.
    pub fn kind(&self) -> NodeKind {
        match self.info.kind {
            FileType::Regular => NodeKind::File,
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Link,
            FileType::CharDevice => NodeKind::Deletion,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == NodeKind::Directory
    }

    /// Bytes of a file's content; 0 for other kinds.
    pub fn size(&self) -> u64 {
        if self.kind() == NodeKind::File { self.info.size } else { 0 }
    }

    /// When it was last written: seconds since 1970, which may be negative, and nanoseconds below 10⁹.
    pub fn modified(&self) -> (i64, u32) {
        self.info.mtime
    }

    /// The last name of its path, which may be a shortened one.
    pub(crate) fn shown_name(&self) -> &[u8] {
        self.view_path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }
}

impl View {
    /// Opens the index at `index`, which was written for `chain`.
    /// `id` is the layer whose view this is.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, [`Error::Index`] if it is not an index, and [`Error::Damaged`]
    /// if it belongs to another chain.
    pub(crate) fn open(id: LayerId, index: &Path, chain: &[ChainLayer]) -> Result<Self, Error> {
        let source = File::open(index).and_then(Cached::new).at("open", index)?;
        let failed = |e: ReadError| Error::Index { id: id.clone(), source: e.into() };
        let damaged = |reason: &str| Error::Damaged {
            id: id.clone(),
            file: file::CHAIN_INDEX,
            reason: reason.to_owned(),
        };
        let image = Image::open(source).map_err(failed)?;
        let form = form_of(image.uuid(), chain).filter(|_| image.devices().len() == chain.len());
        let form = form.ok_or_else(|| damaged("is the index of another chain"))?;
        let top = image.inode(image.root()).map_err(failed)?;
        let files =
            image.lookup(&top, b"Files").map_err(failed)?.ok_or_else(|| damaged("has no Files directory"))?;
        let files = image.inode(files).map_err(failed)?;
        if files.kind != FileType::Directory {
            return Err(damaged("has a Files that is not a directory"));
        }
        let tar = |layer: &ChainLayer| Tar {
            id: layer.id.clone(),
            tag: layer.tag(),
            path: layer.dir.join(file::TAR),
            file: OnceLock::new(),
        };
        let tars = chain.iter().map(tar).collect();
        Ok(Self {
            id,
            image,
            files,
            tars,
            form,
            names: AnyCase::default(),
            #[cfg(target_os = "linux")]
            streams: OnceLock::new(),
        })
    }

    /// The layer that this view shows.
    pub fn id(&self) -> &LayerId {
        &self.id
    }

    /// The root of the view: the `Files` directory.
    pub fn root(&self) -> Node {
        Node { info: self.files, view_path: Vec::new() }
    }

    /// Finds `path` from the view's root; `None` if it does not exist.
    ///
    /// Links on the way are followed; `follow` decides about a link at the end.
    ///
    /// # Errors
    /// A damaged index, or more than 40 links.
    pub fn lookup(&self, path: &[u8], follow: Follow) -> Result<Option<Node>, Error> {
        let mut walk = Walk::new(self, path, self.root());
        walk.push_path(strip_drive(path));
        walk.run(follow)
    }

    /// Finds an entry by its name in a layer tar: `Files/…`, `Hives/…` or `UtilityVM/…`, without regard to
    /// case. No link is followed.
    ///
    /// # Errors
    /// A damaged index.
    pub fn lookup_tar_name(&self, path: &[u8]) -> Result<Option<Node>, Error> {
        let mut node = self.top()?;
        for name in path.split(|&b| is_slash(b)).filter(|name| !matches!(*name, b"" | b".")) {
            match self.tar_child(&node, name)? {
                Some(child) => node = child,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The root of the names in a layer tar: the directory of `Files`, `Hives` and `UtilityVM`.
    pub(super) fn top(&self) -> Result<Node, Error> {
        let info = self.image.inode(self.image.root()).map_err(|e| self.failed(b"", &e))?;
        Ok(Node { info, view_path: Vec::new() })
    }

    /// One step of [`View::lookup_tar_name`]: `name` in `node`, which need not be a directory.
    pub(super) fn tar_child(&self, node: &Node, name: &[u8]) -> Result<Option<Node>, Error> {
        if node.info.kind != FileType::Directory {
            return Ok(None);
        }
        if node.info.nid == self.image.root() && name::eq(name, b"Files") {
            return Ok(Some(self.root()));
        }
        self.child(node, name)
    }

    /// The entries of a directory: true names and nodes, in the order of the names in the view.
    ///
    /// # Errors
    /// A damaged index, or `directory` is not a directory.
    pub fn list(&self, directory: &Node) -> Result<Vec<(Vec<u8>, Node)>, Error> {
        let fail = |e: ReadError| self.failed(&directory.view_path, &e);
        let mut list = Vec::new();
        for entry in self.image.read_dir(&directory.info).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let info = self.image.inode(entry.nid).map_err(fail)?;
            let node = Node { info, view_path: join(&directory.view_path, &entry.name) };
            let name = self.true_name(&node, &entry.name)?.unwrap_or(entry.name);
            list.push((name, node));
        }
        Ok(list)
    }

    /// Everything below `directory`, each directory before its entries. A directory that cannot be read gives
    /// an error, and the walk goes on with the next one.
    pub fn walk(&self, directory: &Node) -> impl Iterator<Item = Result<Node, Error>> + use<'_> {
        let mut unread = vec![directory.clone()];
        let mut nodes: Vec<Node> = Vec::new();
        std::iter::from_fn(move || {
            loop {
                if let Some(node) = nodes.pop() {
                    if node.is_directory() {
                        unread.push(node.clone());
                    }
                    return Some(Ok(node));
                }
                match self.list(&unread.pop()?) {
                    Ok(list) => nodes.extend(list.into_iter().rev().map(|(_, node)| node)),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// A node's Win32 metadata.
    ///
    /// # Errors
    /// A damaged index.
    pub fn metadata(&self, node: &Node) -> Result<Win32Metadata, Error> {
        let mut xattrs = self.image.xattrs(&node.info).map_err(|e| self.failed(&node.view_path, &e))?;
        for (_, name, value) in &mut xattrs {
            self.form.take(name, value);
        }
        Ok(Win32Metadata::from_xattrs(xattrs.iter().map(|(_, name, value)| (&name[..], &value[..]))))
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// A damaged index, a missing tar; `node` is not a file. Reading fails if the tar is too short.
    pub fn open_file(&self, node: &Node) -> Result<impl Read + Send + use<>, Error> {
        let extent = self.image.extent(&node.info).map_err(|e| self.failed(&node.view_path, &e))?;
        let size = node.info.size;
        let Some(extent) = extent else { return Ok(Content::Zeros(io::repeat(0).take(size))) };
        let tar = self
            .tars
            .get(extent.device.index())
            .ok_or_else(|| self.problem(&node.view_path, "is in an unknown tar"))?;
        tar.read(extent.offset(), size, &node.view_path)
    }

    /// Whether a file of this view has exactly this stream: the same name and the same content or place of
    /// the content. The first call reads the metadata of all files.
    ///
    /// # Errors
    /// A damaged index.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_stream(&self, stream: &Stream) -> Result<bool, Error> {
        let known = match self.streams.get() {
            Some(known) => known,
            None => {
                let known = self.read_streams()?;
                self.streams.get_or_init(|| known)
            }
        };
        Ok(known.hashes.contains(&known.hasher.hash_one(stream)))
    }

    #[cfg(target_os = "linux")]
    fn read_streams(&self) -> Result<Streams, Error> {
        let mut known = Streams::default();
        let mut walk = self.image.walk();
        while let Some(entry) = walk.next() {
            let read = entry.and_then(|entry| self.image.xattrs(&entry.inode));
            let mut xattrs = read.map_err(|e| self.failed(walk.path(), &e))?;
            for (_, name, value) in &mut xattrs {
                self.form.take(name, value);
            }
            let metadata =
                Win32Metadata::from_xattrs(xattrs.iter().map(|(_, name, value)| (&name[..], &value[..])));
            for stream in &metadata.streams {
                known.hashes.insert(known.hasher.hash_one(stream));
            }
        }
        Ok(known)
    }

    /// Finds a node again by its inode number.
    #[cfg(target_os = "linux")]
    pub(super) fn node(&self, nid: u64, view_path: Vec<u8>) -> Result<Node, Error> {
        let info = self.image.inode(Nid(nid)).map_err(|e| self.failed(&view_path, &e))?;
        Ok(Node { info, view_path })
    }

    /// Reads an alternate stream, from the index or from a tar.
    ///
    /// # Errors
    /// A stream in a tar that is not of this chain, a missing tar.
    pub fn open_stream(&self, stream: &Stream) -> Result<impl Read + Send + use<>, Error> {
        match &stream.content {
            StreamContent::Inline(bytes) => Ok(Content::Inline(Cursor::new(bytes.clone()))),
            StreamContent::InTar { origin, size } => {
                let tar = self
                    .tar_of(*origin)
                    .ok_or_else(|| self.problem(&stream.name, "is in the tar of another chain"))?;
                tar.read(origin.offset, *size, &stream.name)
            }
        }
    }

    /// The text of a link, as Linux follows it.
    ///
    /// # Errors
    /// A damaged index; `node` is not a link.
    pub fn link_target(&self, node: &Node) -> Result<Vec<u8>, Error> {
        self.image.read_link(&node.info).map_err(|e| self.failed(&node.view_path, &e))
    }

    /// The layer a node comes from; `None` for a directory that no tar has an entry for, and on a damaged
    /// index.
    pub fn layer_of(&self, node: &Node) -> Option<&LayerId> {
        let origin = self.metadata(node).ok().and_then(|metadata| metadata.origin);
        if let Some(tar) = origin.and_then(|origin| self.tar_of(origin)) {
            return Some(&tar.id);
        }
        let extent = self.image.extent(&node.info).ok().flatten()?;
        self.tars.get(extent.device.index()).map(|tar| &tar.id)
    }

    /// The uppermost layer with that tag; layers with the same tag have the same tar.
    fn tar_of(&self, origin: Origin) -> Option<&Tar> {
        let tag = origin.layer?;
        self.tars.iter().rev().find(|tar| tar.tag == tag)
    }

    /// The entry of this name: spelled exactly so, in another case, or by its true name.
    pub(super) fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, Error> {
        let fail = |e: ReadError| self.failed(&join(&directory.view_path, name), &e);
        let Some((name, nid)) = self.names.find(&self.image, &directory.info, name).map_err(fail)? else {
            return Ok(None);
        };
        let info = self.image.inode(nid).map_err(fail)?;
        Ok(Some(Node { info, view_path: join(&directory.view_path, &name) }))
    }

    /// The name on Windows, if the view has a shortened one.
    fn true_name(&self, node: &Node, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        true_name(&self.image, node.info.nid, name).map_err(|e| self.failed(&node.view_path, &e))
    }

    fn failed(&self, path: &[u8], error: &ReadError) -> Error {
        self.problem(path, &error.to_string())
    }

    fn problem(&self, path: &[u8], reason: &str) -> Error {
        Error::View {
            id: self.id.clone(),
            path: String::from_utf8_lossy(path).into_owned(),
            reason: reason.to_owned(),
        }
    }
}

fn is_slash(byte: u8) -> bool {
    byte == b'/' || byte == b'\\'
}

fn strip_drive(path: &[u8]) -> &[u8] {
    match path {
        [b'C' | b'c', b':', rest @ ..] => rest,
        _ => path,
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// A lookup in progress.
struct Walk<'a> {
    view: &'a View,
    path: &'a [u8],
    /// The directories from the root (not included) to the current one.
    at: Vec<Node>,
    root: Node,
    /// Names still to look up, the next one last.
    rest: Vec<Vec<u8>>,
    hops: usize,
}

impl<'a> Walk<'a> {
    fn new(view: &'a View, path: &'a [u8], root: Node) -> Self {
        Self { view, path, at: Vec::new(), root, rest: Vec::new(), hops: 0 }
    }

    /// Adds a caller's path. `..` removes the name before it without a lookup, as on Windows.
    fn push_path(&mut self, path: &[u8]) {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for name in path.split(|&b| is_slash(b)) {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name.to_vec()),
            }
        }
        self.rest.extend(names.into_iter().rev());
    }

    fn run(mut self, follow: Follow) -> Result<Option<Node>, Error> {
        while let Some(name) = self.rest.pop() {
            if name == b".." {
                self.at.pop();
                continue;
            }
            let here = self.at.last().unwrap_or(&self.root);
            if here.info.kind != FileType::Directory {
                return Ok(None);
            }
            let Some(child) = self.view.child(here, &name)? else { return Ok(None) };
            if child.info.kind == FileType::Symlink && (follow == Follow::Always || !self.rest.is_empty()) {
                self.follow(&child)?;
            } else {
                self.at.push(child);
            }
        }
        Ok(Some(self.at.pop().unwrap_or(self.root)))
    }

    /// Goes on with the text of a link, from the directory the link is in.
    fn follow(&mut self, link: &Node) -> Result<(), Error> {
        self.hops += 1;
        if self.hops > HOPS_MAX {
            return Err(self.view.problem(self.path, "has more than 40 links on its way"));
        }
        let text = self.view.link_target(link)?;
        // We wrote this text, so only `/` separates.
        let names = text.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."));
        self.rest.extend(names.rev().map(<[u8]>::to_vec));
        Ok(())
    }
}

impl Tar {
    fn read(&self, offset: u64, size: u64, name: &[u8]) -> Result<Content, Error> {
        let file = match self.file.get() {
            Some(file) => file.clone(),
            None => {
                let file = Arc::new(File::open(&self.path).at("open", &self.path)?);
                // Another thread may have been faster; either handle will do.
                self.file.get_or_init(|| file).clone()
            }
        };
        let what = format!("{:?} in layer {}", String::from_utf8_lossy(name), self.id);
        Ok(Content::Tar(BufReader::with_capacity(BUFFER, Section { file, offset, left: size, what })))
    }
}

/// The source of a reader's bytes.
enum Content {
    Inline(Cursor<Vec<u8>>),
    Zeros(io::Take<io::Repeat>),
    Tar(BufReader<Section>),
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Inline(reader) => reader.read(buffer),
            Self::Zeros(reader) => reader.read(buffer),
            Self::Tar(reader) => reader.read(buffer),
        }
    }
}

/// Part of a tar.
struct Section {
    file: Arc<File>,
    offset: u64,
    left: u64,
    what: String,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if count == 0 {
            return Ok(0);
        }
        let place = self.offset;
        let read = self.file.read_exact_at(&mut buffer[..count], place);
        read.map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("{}: {count} bytes at offset {place} of layer.tar: {e}", self.what),
            )
        })?;
        self.offset = place.saturating_add(count as u64);
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
#[path = "view/tests.rs"]
mod tests;
