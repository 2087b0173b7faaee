//! The naive model: a vector of nodes with maps of children. Makes an image of itself, and the view that the
//! image must give.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use erofs_index::{Extent, ImageBuilder, Inode, InodeId, Kind, Namespace, Options};
use tempfile::TempDir;

use super::{Seen, View, What};

pub type Xattrs = Vec<(Namespace, Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug)]
pub struct Node {
    pub what: Content,
    pub mode: u16,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub xattrs: Xattrs,
}

#[derive(Clone, Debug)]
pub enum Content {
    Directory(BTreeMap<Vec<u8>, usize>),
    /// Device counted from 0 and first block, or a hole.
    File(Option<(usize, u64)>, u64),
    Symlink(Vec<u8>),
    CharDevice(u32),
}

impl Node {
    pub fn new(what: Content) -> Self {
        Self { what, mode: 0o644, owner: (0, 0), mtime: (0, 0), xattrs: Vec::new() }
    }

    pub fn directory() -> Self {
        Self { mode: 0o755, ..Self::new(Content::Directory(BTreeMap::new())) }
    }
}

/// A tree and the devices with its data. Node 0 is the root.
#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: Vec<Node>,
    pub devices: Vec<Vec<u8>>,
}

/// An image on disk with its devices.
pub struct OnDisk {
    pub image: PathBuf,
    pub devices: Vec<PathBuf>,
    directory: TempDir,
}

impl OnDisk {
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.image).unwrap()
    }
}

impl Model {
    pub fn new(devices: Vec<Vec<u8>>) -> Self {
        Self { nodes: vec![Node::directory()], devices }
    }

    /// Adds a node under a name, which must be free.
    pub fn add(&mut self, directory: usize, name: &[u8], node: Node) -> usize {
        self.nodes.push(node);
        self.link(directory, name, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    pub fn link(&mut self, directory: usize, name: &[u8], node: usize) {
        let Content::Directory(children) = &mut self.nodes[directory].what else { panic!("not a directory") };
        assert_eq!(children.insert(name.to_vec(), node), None, "name is taken");
    }

    pub fn children(&self, node: usize) -> Option<&BTreeMap<Vec<u8>, usize>> {
        match &self.nodes[node].what {
            Content::Directory(children) => Some(children),
            _ => None,
        }
    }

    pub fn builder(&self) -> ImageBuilder {
        let mut builder =
            ImageBuilder::new(Options { uuid: *b"0123456789abcdef", build_time: (1_700_000_000, 5) });
        let devices: Vec<_> =
            self.devices.iter().map(|d| builder.add_device(d.len() as u64 / 512).unwrap()).collect();
        let mut ids = Vec::new();
        for node in &self.nodes {
            let borrowed: Vec<_> =
                node.xattrs.iter().map(|(space, name, value)| (*space, &name[..], &value[..])).collect();
            let xattrs = builder.xattr_set(&borrowed).unwrap();
            let kind = match &node.what {
                Content::Directory(_) => Kind::Directory,
                &Content::File(place, size) => {
                    let extent = place.map(|(device, block)| Extent { device: devices[device], block });
                    Kind::File { extent, size }
                }
                Content::Symlink(target) => Kind::Symlink(target.clone()),
                &Content::CharDevice(rdev) => Kind::CharDevice { rdev },
            };
            let (uid, gid) = node.owner;
            let inode = Inode { kind, mode: node.mode, uid, gid, mtime: node.mtime, xattrs };
            if ids.is_empty() {
                builder.set_root(inode).unwrap();
                ids.push(InodeId::ROOT);
            } else {
                ids.push(builder.add_inode(inode).unwrap());
            }
        }
        for (node, &id) in ids.iter().enumerate() {
            for (name, &child) in self.children(node).into_iter().flatten() {
                builder.link(id, name, ids[child]).unwrap();
            }
        }
        builder
    }

    pub fn image(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let summary = self.builder().write(&mut bytes).unwrap();
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!(summary.inodes, self.nodes.len() as u64);
        bytes
    }

    pub fn on_disk(&self) -> OnDisk {
        let directory = TempDir::new().unwrap();
        let image = directory.path().join("index.erofs");
        fs::write(&image, self.image()).unwrap();
        let devices = self.devices.iter().enumerate().map(|(number, bytes)| {
            let path = directory.path().join(format!("{number}.tar"));
            fs::write(&path, bytes).unwrap();
            path
        });
        OnDisk { image, devices: devices.collect(), directory }
    }

    /// The view that the image must give.
    pub fn view(&self) -> View {
        let mut paths: BTreeMap<Vec<u8>, usize> = BTreeMap::from([(Vec::new(), 0)]);
        let mut todo = vec![(Vec::new(), 0)];
        while let Some((path, node)) = todo.pop() {
            for (name, &child) in self.children(node).into_iter().flatten() {
                let path = super::join(&path, name);
                paths.insert(path.clone(), child);
                todo.push((path, child));
            }
        }
        paths.iter().map(|(path, &node)| (path.clone(), self.seen(node, &paths))).collect()
    }

    fn seen(&self, number: usize, paths: &BTreeMap<Vec<u8>, usize>) -> Seen {
        let node = &self.nodes[number];
        let mut names = paths.iter().filter(|&(_, &other)| other == number).map(|(path, _)| path);
        let same_as = names.next().unwrap().clone();
        let is_directory = |child: &&usize| self.children(**child).is_some();
        let (what, nlink) = match &node.what {
            Content::Directory(children) => {
                (What::Directory, 2 + children.values().filter(is_directory).count())
            }
            &Content::File(place, size) => {
                let bytes = match place {
                    None => vec![0; size as usize],
                    Some((device, block)) => {
                        self.devices[device][block as usize * 512..][..size as usize].to_vec()
                    }
                };
                (What::File(bytes), 1 + names.count())
            }
            Content::Symlink(target) => (What::Symlink(target.clone()), 1 + names.count()),
            &Content::CharDevice(rdev) => (What::CharDevice(rdev), 1 + names.count()),
        };
        let mut xattrs = node.xattrs.clone();
        xattrs.sort();
        Seen {
            what,
            mode: node.mode,
            owner: node.owner,
            mtime: node.mtime,
            nlink: nlink as u32,
            same_as,
            xattrs,
        }
    }
}

/// A device whose blocks are all different.
pub fn device(seed: u32, blocks: u32) -> Vec<u8> {
    let word =
        |n: u32| (n ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b).rotate_left(13).to_le_bytes();
    (0..blocks * 128).flat_map(word).collect()
}
