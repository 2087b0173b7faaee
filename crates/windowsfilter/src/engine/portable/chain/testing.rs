//! Layers for tests: indexes as the importer writes them, over tars that hold only contents.

use crate::engine::portable::xattrs::StreamForm;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use erofs_index::{Extent, Image, ImageBuilder, Inode, InodeId, Kind, Namespace, Options};
use tempfile::TempDir;
use wclayer::reparse::ReparsePoint;

use super::{ChainLayer, build_chain_index, write_chain_index};
use crate::digest::{DiffId, Digest};
use crate::engine::portable::view::View;
use crate::error::Error;
use crate::id::LayerId;
use crate::temporary::Temporaries;

/// An entry of a layer, by its kind.
#[derive(Clone, Debug)]
pub(crate) enum E {
    Dir,
    Implicit,
    Opaque,
    /// A directory that the layer deletes and makes again.
    New,
    File(&'static str),
    /// A file with this true name.
    Named(Vec<u8>),
    Whiteout,
    /// Another name of an entry of this layer.
    Same(&'static str),
    /// A link into a parent.
    Link(&'static str),
    /// A symbolic link with this substitute name.
    Symlink(Vec<u8>),
    MountPoint(&'static str),
}

/// A chain in a directory of its own, base first.
pub(crate) struct Chain {
    pub(crate) folder: TempDir,
    pub(crate) layers: Vec<ChainLayer>,
}

impl Chain {
    pub(crate) fn new(layers: &[&[(&str, E)]]) -> Self {
        let mut chain = Self { folder: tempfile::tempdir().unwrap(), layers: Vec::new() };
        for entries in layers {
            let entries: Vec<_> =
                entries.iter().map(|(path, e)| (path.as_bytes().to_vec(), e.clone())).collect();
            chain.push(&entries);
        }
        chain
    }

    pub(crate) fn push(&mut self, entries: &[(Vec<u8>, E)]) {
        let number = self.layers.len();
        let id = LayerId::new(format!("layer{number}")).unwrap();
        let dir = self.folder.path().join(id.as_str());
        fs::create_dir(&dir).unwrap();
        write_layer(&dir, number, entries);
        let diff_id = Some(DiffId(Digest::of(format!("{number}").as_bytes())));
        self.layers.push(ChainLayer { id, dir, diff_id });
    }

    pub(crate) fn temporaries(&self) -> Temporaries {
        let dir = self.folder.path().join("tmp");
        fs::create_dir_all(&dir).unwrap();
        Temporaries::new(dir)
    }

    pub(crate) fn image(&self) -> Result<Image<Vec<u8>>, Error> {
        let mut bytes = Vec::new();
        build_chain_index(&self.layers, StreamForm::Plain, &mut bytes)?;
        Ok(Image::open(bytes).unwrap())
    }

    pub(crate) fn view(&self) -> View {
        let index = self.folder.path().join("chain.erofs");
        write_chain_index(&self.layers, &index, &self.temporaries(), StreamForm::Plain).unwrap();
        View::open(LayerId::new("top").unwrap(), &index, &self.layers).unwrap()
    }

    /// The merged tree as lines: directories end in `/` and the number of the layer their metadata are from.
    pub(crate) fn lines(&self) -> Vec<String> {
        let image = self.image().unwrap();
        let mut lines = Vec::new();
        let mut walk = image.walk();
        while let Some(entry) = walk.next() {
            let inode = entry.unwrap().inode;
            let path = String::from_utf8_lossy(walk.path()).into_owned();
            if path.is_empty() {
                continue;
            }
            lines.push(match inode.kind {
                erofs_index::FileType::Directory => format!("{path}/ {}", inode.mtime.0),
                erofs_index::FileType::Symlink => {
                    format!("{path} -> {}", String::from_utf8_lossy(&image.read_link(&inode).unwrap()))
                }
                _ => format!("{path} = {}", self.content(&image, &inode)),
            });
        }
        lines.sort();
        lines
    }

    fn content(&self, image: &Image<Vec<u8>>, inode: &erofs_index::InodeInfo) -> String {
        let Some(extent) = image.extent(inode).unwrap() else { return String::new() };
        let tar = fs::read(self.layers[extent.device.index()].dir.join("layer.tar")).unwrap();
        let start = extent.offset() as usize;
        String::from_utf8_lossy(&tar[start..start + inode.size as usize]).into_owned()
    }
}

struct Writer {
    builder: ImageBuilder,
    device: erofs_index::DeviceId,
    number: usize,
    tar: Vec<u8>,
    made: HashMap<Vec<u8>, InodeId>,
}

fn write_layer(dir: &Path, number: usize, entries: &[(Vec<u8>, E)]) {
    let mut builder = ImageBuilder::new(Options::default());
    let device = builder.add_device(1 << 20).unwrap();
    let mut writer = Writer { builder, device, number, tar: vec![0; 512], made: HashMap::new() };
    writer.made.insert(Vec::new(), InodeId::ROOT);
    for (path, entry) in entries {
        writer.add(path, entry);
    }
    fs::write(dir.join("layer.tar"), &writer.tar).unwrap();
    let mut index = Vec::new();
    writer.builder.write(&mut index).unwrap();
    fs::write(dir.join("layer.erofs"), index).unwrap();
}

impl Writer {
    fn add(&mut self, path: &[u8], entry: &E) {
        let (parent, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if !self.made.contains_key(parent) {
            self.add(parent, &E::Implicit);
        }
        let inode = match entry {
            E::Same(other) => self.made[other.as_bytes()],
            _ => self.inode(entry),
        };
        self.builder.link(self.made[parent], name, inode).unwrap();
        self.made.insert(path.to_vec(), inode);
    }

    fn inode(&mut self, entry: &E) -> InodeId {
        let origin = self.tar.len().to_string().into_bytes();
        let mut xattrs = vec![];
        let user = |name: &[u8], value: Vec<u8>| (Namespace::User, name.to_vec(), value);
        let trusted = |name: &[u8], value: Vec<u8>| (Namespace::Trusted, name.to_vec(), value);
        let kind = match entry {
            E::Dir | E::Implicit | E::Opaque | E::New => Kind::Directory,
            E::Whiteout | E::Link(_) => Kind::CharDevice { rdev: 0 },
            E::File(text) => self.file(text),
            E::Named(_) => self.file("named"),
            E::Symlink(_) | E::MountPoint(_) => Kind::Symlink(b"as the importer likes".to_vec()),
            E::Same(_) => unreachable!(),
        };
        match entry {
            E::Implicit => xattrs.push(trusted(b"win32.implicit", b"y".to_vec())),
            E::Opaque => xattrs.push(trusted(b"win32.opaque", b"y".to_vec())),
            E::New => xattrs.push(trusted(b"win32.new", b"y".to_vec())),
            E::Link(target) => xattrs.push(trusted(b"win32.link", target.as_bytes().to_vec())),
            E::Named(name) => xattrs.push(user(b"win32.name", name.clone())),
            E::Symlink(target) => xattrs.push(trusted(b"win32.reparse", symlink(target))),
            E::MountPoint(target) => xattrs.push(trusted(b"win32.reparse", mount_point(target))),
            _ => {}
        }
        match entry {
            E::Symlink(_) | E::Link(_) => xattrs.push(trusted(b"win32.origin", origin)),
            E::File(_) | E::Dir => {
                xattrs.push(user(b"win32.origin", origin));
                xattrs.push(user(b"win32.stream.3", b"-:512:4:zone".to_vec()));
            }
            _ => {}
        }
        let set: Vec<_> = xattrs.iter().map(|(ns, name, value)| (*ns, &name[..], &value[..])).collect();
        let xattrs = self.builder.xattr_set(&set).unwrap();
        let mtime = (self.number as i64, 0);
        self.builder.add_inode(Inode { kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs }).unwrap()
    }

    fn file(&mut self, text: &str) -> Kind {
        let extent = Some(Extent { device: self.device, block: (self.tar.len() / 512) as u64 });
        self.tar.extend_from_slice(text.as_bytes());
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        Kind::File { extent: extent.filter(|_| !text.is_empty()), size: text.len() as u64 }
    }
}

pub(crate) fn symlink(target: &[u8]) -> Vec<u8> {
    let relative = !target.starts_with(b"\\??\\");
    ReparsePoint::Symlink { substitute: target.to_vec(), print: Vec::new(), relative }.encode().unwrap()
}

fn mount_point(target: &str) -> Vec<u8> {
    ReparsePoint::MountPoint { substitute: target.as_bytes().to_vec(), print: Vec::new() }.encode().unwrap()
}
