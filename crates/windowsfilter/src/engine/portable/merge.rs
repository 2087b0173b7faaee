//! The merge rules: merges layers, base first, into the one tree that Windows would show.
//!
//! * Names compare as on NTFS. A directory keeps the spelling of the lowest layer that has it; any other
//!   entry has the spelling of its own layer. A directory that a layer deletes and makes again is a new one
//!   (`win32.new`).
//! * An upper entry replaces the lower one of its name, of any kind. Only two directories merge; the upper's
//!   metadata count, unless its tar has no entry for the directory (`win32.implicit`).
//! * A whiteout hides the lower layers' entry of its name; an opaque directory hides all their entries in it.
//! * Names of one inode of a layer share an inode; a link whose target is not before it in its tar
//!   (`win32.link`) shares the inode of its target in the layers below, see `merge/hard_links.rs`.
//! * `Hives` and `UtilityVM` follow the same rules as `Files`.
//!
//! The tree is an arena: nodes (names) point at their parents, one table finds them by parent and name, and
//! forgetting the top of a subtree hides all of it. Nothing recurses, so depth costs nothing.

mod hard_links;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

use erofs_index::{DirEntry, FileType, Image, InodeInfo, Namespace, Nid};
use hashbrown::HashTable;
use wclayer::name;

use self::hard_links::OpenLink;
use super::link_targets::{Names, Target};
use super::long_names::{SUFFIX, short_suffix, true_name};
use crate::engine::portable::xattrs::{IMPLICIT, LINK, NEW, OPAQUE};
use crate::error::Error;
use crate::id::LayerId;

/// The reparse data of a link.
const REPARSE: &[u8] = b"win32.reparse";

/// One layer's own index.
pub(crate) struct Layer {
    pub(crate) id: LayerId,
    /// First eight bytes of the diffID, big-endian: how `win32.origin` names the layer.
    pub(crate) tag: u64,
    pub(crate) image: Image<Vec<u8>>,
}

impl Layer {
    pub(crate) fn index_error(&self, source: erofs_index::ReadError) -> Error {
        Error::Index { id: self.id.clone(), source: source.into() }
    }

    fn entry_error(&self, path: &[u8], reason: impl Into<String>) -> Error {
        Error::View {
            id: self.id.clone(),
            path: String::from_utf8_lossy(path).into_owned(),
            reason: reason.into(),
        }
    }

    fn trusted(&self, inode: &InodeInfo, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.image.xattr(inode, Namespace::Trusted, name).map_err(|e| self.index_error(e))
    }

    /// The name on Windows of an entry whose name is shortened on Linux.
    fn true_name(&self, inode: &InodeInfo, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        true_name(&self.image, inode.nid, name).map_err(|e| self.index_error(e))
    }
}

/// An inode in the index of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) layer: u16,
    pub(crate) nid: Nid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink,
    /// A link whose target is looked up when the layer is merged: its index among the open links.
    Open(u32),
}

/// An inode of the merged tree, with one or more names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merged {
    pub(crate) kind: Kind,
    /// Where its metadata are; `None`: a directory that no layer has an entry for.
    pub(crate) source: Option<Source>,
}

struct Node {
    parent: u32,
    inode: u32,
    /// The node and everything below it is no longer in the tree.
    gone: bool,
    name: Box<[u8]>,
    /// The name on Windows, if it differs.
    key: Option<Box<[u8]>>,
}

impl Node {
    fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or(&self.name)
    }
}

/// The merged tree. Node 0 is the top, where `Files` is.
pub(crate) struct Tree<'a> {
    layers: &'a [Layer],
    nodes: Vec<Node>,
    inodes: Vec<Merged>,
    table: HashTable<u32>,
    /// Nodes with shortened names by parent and suffix: a whiteout has no true name to look up.
    shortened: HashMap<(u32, [u8; SUFFIX]), u32>,
    /// The first node of the layer being merged (nodes before it come from the layers below), and the lower
    /// nodes that this layer has replaced or deleted.
    first: u32,
    hidden: Vec<u32>,
    hasher: foldhash::quality::RandomState,
}

/// State of the merge of one layer.
#[derive(Default)]
struct Pass {
    layer: u16,
    shared: HashMap<Nid, u32>,
    visited: HashSet<Nid>,
    open: Vec<OpenLink>,
}

/// An entry of a layer, as merging needs it.
struct Entry {
    name: Vec<u8>,
    key: Option<Vec<u8>>,
    inode: InodeInfo,
}

impl Entry {
    fn key(&self) -> &[u8] {
        self.key.as_deref().unwrap_or(&self.name)
    }
}

/// The top of the tree.
pub(crate) const TOP: u32 = 0;

impl<'a> Tree<'a> {
    /// Merges `layers`, base first. The tree has a `Files` directory even if none of them does.
    pub(crate) fn merge(layers: &'a [Layer]) -> Result<Self, Error> {
        let count =
            layers.iter().map(|layer| layer.image.inode_count().min(1 << 20) as usize).max().unwrap_or(0);
        let mut tree = Self {
            layers,
            nodes: Vec::with_capacity(count),
            inodes: Vec::with_capacity(count),
            table: HashTable::with_capacity(count),
            shortened: HashMap::new(),
            first: 0,
            hidden: Vec::new(),
            hasher: foldhash::quality::RandomState::default(),
        };
        tree.inodes.push(Merged { kind: Kind::Directory, source: None });
        tree.nodes.push(Node { parent: TOP, inode: 0, gone: false, name: Box::default(), key: None });
        tree.ensure_files()?;
        for number in 0..layers.len() {
            // The index format counts devices, one per layer, in 16 bits; the builder has refused more.
            tree.add_layer(number as u16)?;
        }
        tree.ensure_files()?;
        Ok(tree)
    }

    fn ensure_files(&mut self) -> Result<(), Error> {
        match self.find(TOP, b"Files") {
            None => {
                let inode = self.new_inode(Kind::Directory, None);
                self.insert(TOP, b"Files".to_vec(), None, inode);
                Ok(())
            }
            Some(node) if self.kind(node) == Kind::Directory => Ok(()),
            Some(node) => {
                let layer =
                    self.inodes[self.nodes[node as usize].inode as usize].source.map_or(0, |s| s.layer);
                Err(self.layers[usize::from(layer)].entry_error(b"Files", "is not a directory"))
            }
        }
    }

    fn add_layer(&mut self, number: u16) -> Result<(), Error> {
        let layers = self.layers;
        let layer = &layers[usize::from(number)];
        let mut pass = Pass { layer: number, ..Pass::default() };
        self.first = self.nodes.len() as u32;
        self.hidden.clear();
        let mut directories = vec![(layer.image.root(), TOP)];
        while let Some((nid, node)) = directories.pop() {
            if !pass.visited.insert(nid) {
                return Err(layer.entry_error(&self.path(node), "the layer's index has this directory twice"));
            }
            let (whiteouts, entries) = read_directory(layer, nid)?;
            for name in whiteouts {
                self.white_out(node, &name);
            }
            for entry in entries {
                self.add_entry(&mut pass, node, entry, &mut directories)?;
            }
        }
        self.close_links(layer, &pass.open)
    }

    fn add_entry(
        &mut self,
        pass: &mut Pass,
        parent: u32,
        entry: Entry,
        directories: &mut Vec<(Nid, u32)>,
    ) -> Result<(), Error> {
        let source = Source { layer: pass.layer, nid: entry.inode.nid };
        let inode = match entry.inode.kind {
            FileType::Directory => {
                let node = self.add_directory(parent, entry, source)?;
                directories.push((source.nid, node));
                return Ok(());
            }
            FileType::CharDevice => self.open_link(pass, &entry, parent)?,
            FileType::Regular => self.shared_inode(pass, &entry.inode, Kind::File, source),
            FileType::Symlink => self.shared_inode(pass, &entry.inode, Kind::Symlink, source),
        };
        self.remove(parent, entry.key());
        self.insert(parent, entry.name, entry.key, inode);
        Ok(())
    }

    /// Merges a directory into the existing one, or adds it.
    fn add_directory(&mut self, parent: u32, entry: Entry, source: Source) -> Result<u32, Error> {
        let layer = &self.layers[usize::from(source.layer)];
        let is_new = layer.trusted(&entry.inode, NEW)?.is_some();
        let below = self.find(parent, entry.key()).filter(|&node| self.kind(node) == Kind::Directory);
        let Some(below) = below.filter(|_| !is_new) else {
            self.remove(parent, entry.key());
            let inode = self.new_inode(Kind::Directory, Some(source));
            return Ok(self.insert(parent, entry.name, entry.key, inode));
        };
        let inode = self.nodes[below as usize].inode as usize;
        let implicit = layer.trusted(&entry.inode, IMPLICIT)?.is_some();
        if !implicit || self.inodes[inode].source.is_none() {
            self.inodes[inode].source = Some(source);
        }
        if layer.trusted(&entry.inode, OPAQUE)?.is_none() {
            return Ok(below);
        }
        // Keep the old node: its children point at it, and a new node has none.
        let old = &self.nodes[below as usize];
        let (name, key) = (old.name.to_vec(), old.key.as_deref().map(<[u8]>::to_vec));
        self.remove(parent, entry.key());
        Ok(self.insert(parent, name, key, inode as u32))
    }

    fn shared_inode(&mut self, pass: &mut Pass, info: &InodeInfo, kind: Kind, source: Source) -> u32 {
        if info.nlink < 2 {
            return self.new_inode(kind, Some(source));
        }
        if let Some(&inode) = pass.shared.get(&info.nid) {
            return inode;
        }
        let inode = self.new_inode(kind, Some(source));
        pass.shared.insert(info.nid, inode);
        inode
    }

    fn open_link(&mut self, pass: &mut Pass, entry: &Entry, parent: u32) -> Result<u32, Error> {
        let layer = &self.layers[usize::from(pass.layer)];
        let Some(target) = layer.trusted(&entry.inode, LINK)? else {
            let path = [&self.path(parent), &b"/"[..], &entry.name].concat();
            return Err(layer
                .entry_error(&path, format!("is device {:#x}, which no layer can have", entry.inode.rdev)));
        };
        // `add_entry` makes this node next.
        pass.open.push(OpenLink { node: self.nodes.len() as u32, nid: entry.inode.nid, target });
        Ok(self.new_inode(Kind::Open(pass.open.len() as u32 - 1), None))
    }

    fn hash(&self, parent: u32, key: &[u8]) -> u64 {
        let mut folded = Vec::with_capacity(key.len());
        name::fold_into(key, &mut folded);
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(&folded);
        hasher.finish()
    }

    /// The entry of this name, without regard to case.
    pub(crate) fn find(&self, parent: u32, key: &[u8]) -> Option<u32> {
        let same = |node: &Node| node.parent == parent && name::eq(node.key(), key);
        self.table.find(self.hash(parent, key), |&node| same(&self.nodes[node as usize])).copied()
    }

    fn white_out(&mut self, parent: u32, name: &[u8]) {
        let node = short_suffix(name).and_then(|suffix| self.shortened.get(&(parent, suffix)).copied());
        match node.map(|node| self.nodes[node as usize].key().to_vec()) {
            Some(key) => self.remove(parent, &key),
            None => self.remove(parent, name),
        }
    }

    fn remove(&mut self, parent: u32, key: &[u8]) {
        let hash = self.hash(parent, key);
        let nodes = &self.nodes;
        let same =
            |&node: &u32| nodes[node as usize].parent == parent && name::eq(nodes[node as usize].key(), key);
        if let Ok(entry) = self.table.find_entry(hash, same) {
            let (node, _) = entry.remove();
            self.nodes[node as usize].gone = true;
            if node < self.first {
                self.hidden.push(node);
            }
        }
    }

    fn new_inode(&mut self, kind: Kind, source: Option<Source>) -> u32 {
        self.inodes.push(Merged { kind, source });
        self.inodes.len() as u32 - 1
    }

    fn insert(&mut self, parent: u32, name: Vec<u8>, key: Option<Vec<u8>>, inode: u32) -> u32 {
        let node = self.nodes.len() as u32;
        if let (Some(suffix), Some(_)) = (short_suffix(&name), &key) {
            self.shortened.insert((parent, suffix), node);
        }
        let (name, key) = (name.into_boxed_slice(), key.map(Vec::into_boxed_slice));
        self.nodes.push(Node { parent, inode, gone: false, name, key });
        let hash = self.hash(parent, self.nodes[node as usize].key());
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(hash, node, |&other| {
            let other = &self.nodes[other as usize];
            self.hash(other.parent, other.key())
        });
        self.table = table;
        node
    }

    fn kind(&self, node: u32) -> Kind {
        self.inodes[self.nodes[node as usize].inode as usize].kind
    }

    /// All nodes of the tree but the top, parents before their children.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u32> + '_ {
        let mut alive = vec![false; self.nodes.len()];
        alive[TOP as usize] = true;
        (1..self.nodes.len()).filter_map(move |index| {
            let node = &self.nodes[index];
            // A parent is always older than its children.
            alive[index] = !node.gone && alive[node.parent as usize];
            alive[index].then_some(index as u32)
        })
    }

    /// The node's inode and its number, which is below [`inode_count`](Self::inode_count).
    pub(crate) fn inode(&self, node: u32) -> (usize, Merged) {
        let inode = self.nodes[node as usize].inode as usize;
        (inode, self.inodes[inode])
    }

    /// The number of inodes ever made.
    pub(crate) fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// The name on Windows, if it differs from the spelling.
    pub(crate) fn true_name_of(&self, node: u32) -> Option<&[u8]> {
        self.nodes[node as usize].key.as_deref()
    }

    /// Path from the top, for messages.
    pub(crate) fn path(&self, node: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = node;
        while at != TOP {
            names.push(self.nodes[at as usize].key());
            at = self.nodes[at as usize].parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

impl Names for Tree<'_> {
    fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        self.find(directory, name)
    }

    fn parent(&self, node: u32) -> u32 {
        self.nodes[node as usize].parent
    }

    fn spelling(&self, node: u32) -> &[u8] {
        &self.nodes[node as usize].name
    }

    fn link(&self, node: u32) -> Option<u32> {
        let inode = self.nodes[node as usize].inode;
        (self.inodes[inode as usize].kind == Kind::Symlink).then_some(inode)
    }

    /// The target of a link, from its reparse data or, without those, from its text.
    fn target(&self, link: u32) -> Result<Target, Error> {
        // Only directories can be without a source.
        let Some(source) = self.inodes[link as usize].source else { return Ok(Target::elsewhere(&[])) };
        let layer = &self.layers[usize::from(source.layer)];
        let read = || {
            let inode = layer.image.inode(source.nid)?;
            match layer.image.xattr(&inode, Namespace::Trusted, REPARSE)? {
                Some(reparse) => Ok(Target::of_reparse(&reparse).unwrap_or_else(|| Target::elsewhere(&[]))),
                None => Ok(Target::parse(&layer.image.read_link(&inode)?)),
            }
        };
        read().map_err(|e| layer.index_error(e))
    }
}

/// The names that a directory of a layer hides, and its other entries.
fn read_directory(layer: &Layer, nid: Nid) -> Result<(Vec<Vec<u8>>, Vec<Entry>), Error> {
    let fail = |e| layer.index_error(e);
    let directory = layer.image.inode(nid).map_err(fail)?;
    let (mut whiteouts, mut entries) = (Vec::new(), Vec::new());
    for entry in layer.image.read_dir(&directory).map_err(fail)? {
        let DirEntry { name, nid, .. } = entry.map_err(fail)?;
        let inode = layer.image.inode(nid).map_err(fail)?;
        let key = layer.true_name(&inode, &name)?;
        let device = inode.kind == FileType::CharDevice;
        if device && inode.rdev == 0 && layer.trusted(&inode, LINK)?.is_none() {
            whiteouts.push(key.unwrap_or(name));
        } else {
            entries.push(Entry { name, key, inode });
        }
    }
    Ok((whiteouts, entries))
}

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;
