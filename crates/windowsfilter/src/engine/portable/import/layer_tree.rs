//! The content of a layer by its tar: a tree of names, each with the entry that it stands for at the end of
//! the tar.
//!
//! Names are nodes, kept in one array and found by parent and folded name, so the same file in any case is
//! one node. A directory stands before its entries. The fields of entries are kept apart (`entries`): a hard
//! link gives its name to the entry that its target has *at that place of the tar*, and keeps it when the
//! target's name gets another one. A target that the tar has not had yet is looked up in the layers below, so
//! such a link is an entry of its own: [`NodeKind::Link`].

mod entries;
mod findings;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;

use hashbrown::HashTable;
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::layer_tar::{EntryKind, LayerEntry, is_file};
use wclayer::name;
use wclayer::tar::{Header, type_flag};

use self::entries::Entries;
pub(super) use self::entries::{Entry, EntryId};
use self::findings::Findings;
use super::entry_name::{self, EntryName};
use super::streams::{InlineBudget, StreamRecord};
use crate::engine::portable::entry_memory::Memory;
use crate::error::{Error, shown};

/// No entry.
const NONE: u32 = u32::MAX;
/// Memory for a name besides its own bytes: here, in the table of names, and in the index, which needs an
/// inode for each directory that the tar never names.
const MEMORY_PER_NAME: usize = 104;
/// Index of a node in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The layer itself, in which `Files` lies.
    pub(super) const ROOT: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    /// Nothing: the name was deleted, or only mentioned by other entries.
    Absent,
    /// A directory without an entry.
    Implicit,
    Directory,
    File,
    Symlink,
    /// Another name of a file that comes later in the tar or is in a parent.
    Link,
}

/// One name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    name_start: usize,
    name_length: u16,
    pub(super) kind: NodeKind,
    /// Lower layers' file of this name is deleted.
    pub(super) whiteout: bool,
    /// Lower layers' children are hidden.
    pub(super) opaque: bool,
    /// A file has replaced this directory.
    replaced: bool,
    /// It came as a hard link.
    linked: bool,
    pub(super) parent: NodeId,
    /// The entry it stands for; for a name that was only mentioned, the streams that came before their file.
    entry: u32,
}
const _: () = assert!(size_of::<Node>() <= 24);

/// Sums over the tar.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) whiteouts: u64,
}

/// The tree.
#[derive(Debug)]
pub(super) struct LayerTree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    by_name: HashTable<u32>,
    hasher: RandomState,
    entries: Entries,
    folded: Vec<u8>,
    inline: InlineBudget,
    memory: Memory,
    pub(super) findings: Findings,
    pub(super) counts: Counts,
}

impl LayerTree {
    pub(super) fn new() -> Self {
        let root = Node {
            name_start: 0,
            name_length: 0,
            kind: NodeKind::Implicit,
            whiteout: false,
            opaque: false,
            replaced: false,
            linked: false,
            parent: NodeId::ROOT,
            entry: NONE,
        };
        Self {
            nodes: vec![root],
            names: Vec::new(),
            by_name: HashTable::new(),
            hasher: RandomState::new(),
            entries: Entries::default(),
            folded: Vec::new(),
            inline: InlineBudget::default(),
            memory: Memory::default(),
            findings: Findings::default(),
            counts: Counts::default(),
        }
    }

    /// Adds an entry. `data` are its bytes; only small streams are read.
    pub(super) fn add(&mut self, header: &Header, data: &mut dyn Read) -> Result<(), Error> {
        self.take_in(header, data)?;
        self.memory.check().map_err(|reason| entry_error(&header.name, header.offset, &reason))
    }

    fn take_in(&mut self, header: &Header, data: &mut dyn Read) -> Result<(), Error> {
        let refused = |reason: &str| entry_error(&header.name, header.offset, reason);
        let meaning = entry_name::parse(&header.name).map_err(refused)?;
        if !matches!(meaning, EntryName::Stream { .. }) {
            self.counts.entries += 1;
        }
        match &meaning {
            EntryName::Outside => self.findings.outside(&header.name),
            EntryName::Aufs => self.findings.of_aufs(&header.name),
            _ => self.findings.inside(),
        }
        match meaning {
            EntryName::Outside | EntryName::Aufs => {
                if is_file(header.type_flag) {
                    self.counts.bytes += header.size;
                }
                Ok(())
            }
            EntryName::NoWhiteout => {
                self.findings.no_whiteouts.add(&header.name);
                Ok(())
            }
            EntryName::Whiteout(path) | EntryName::Opaque(path) if path[0] == b"Hives" => {
                self.findings.hive_whiteouts.add(&header.name);
                Ok(())
            }
            EntryName::Whiteout(path) => {
                let node = self.reach(&path).map_err(|reason| refused(&reason))?;
                if self.nodes[node.index()].kind != NodeKind::Absent {
                    self.findings.late_whiteouts.add(&header.name);
                }
                self.nodes[node.index()].whiteout = true;
                self.counts.whiteouts += 1;
                Ok(())
            }
            EntryName::Opaque(path) => {
                let node = self.reach(&path).and_then(|node| self.enter(node, path[path.len() - 1]));
                let node = node.map_err(|reason| refused(&reason))?;
                self.nodes[node.index()].opaque = true;
                self.counts.whiteouts += 1;
                Ok(())
            }
            EntryName::Stream { host, stream } => self.add_stream(&host, stream, header, data),
            EntryName::Path(path) => self.add_path(&path, header),
        }
    }

    fn add_path(&mut self, path: &[&[u8]], header: &Header) -> Result<(), Error> {
        let refused = |reason: &str| entry_error(&header.name, header.offset, reason);
        supported(header).map_err(|reason| refused(&reason))?;
        let entry = LayerEntry::from_header(header)?;
        let kind = node_kind(&entry).map_err(refused)?;
        if path.len() == 1 && kind != NodeKind::Directory {
            return Err(refused("it has to be a directory"));
        }
        if is_file(entry.type_flag) {
            self.counts.bytes += entry.size;
        }
        match &entry.kind {
            EntryKind::Link { target } => {
                self.add_link(path, target, &entry).map_err(|reason| refused(&reason))
            }
            _ => {
                let node = self.reach(path).map_err(|reason| refused(&reason))?;
                let node = self.make_room(node, kind, path[path.len() - 1]).map_err(refused)?;
                let streams = self.early_streams(node);
                let entry = self.entries.add(kind, entry, streams, &mut self.memory);
                self.set(node, kind, entry);
                Ok(())
            }
        }
    }

    /// Adds a name for the current entry of the target.
    fn add_link(&mut self, path: &[&[u8]], target: &[u8], link: &LayerEntry) -> Result<(), String> {
        let target = link_target(target)?;
        let found = self.find(&target).map(|node| self.nodes[node.index()]);
        // Look at the target before making the link's node: that may create directories.
        let (kind, shared) = match found.map(|node| (node.kind, node.entry)) {
            None | Some((NodeKind::Absent, _)) => (NodeKind::Link, None),
            Some((NodeKind::Directory | NodeKind::Implicit, _)) => {
                return Err("it is a hard link to a directory".to_owned());
            }
            Some((kind, entry)) => (kind, Some(EntryId(entry))),
        };
        let node = self.reach(path)?;
        let node = self.make_room(node, kind, path[path.len() - 1])?;
        if !self.early_streams(node).is_empty() {
            return Err(
                "it has streams, but is a hard link; they belong to the entry that has the data".into()
            );
        }
        let entry = match shared {
            Some(entry) if kind != NodeKind::Link => entry,
            // A name for a link that is still open is an open link as well, with its own place in the tar.
            Some(other) => {
                let target = self.entries.get(other).target().to_vec();
                self.entries.add_link(target, link, &mut self.memory)
            }
            None => self.entries.add_link(target, link, &mut self.memory),
        };
        self.set(node, kind, entry);
        self.nodes[node.index()].linked = true;
        Ok(())
    }

    fn set(&mut self, node: NodeId, kind: NodeKind, entry: EntryId) {
        let node = &mut self.nodes[node.index()];
        (node.kind, node.entry, node.linked) = (kind, entry.0, false);
    }

    /// Takes out the streams that came before their file. A file that exists already keeps its streams.
    fn early_streams(&mut self, node: NodeId) -> Vec<StreamRecord> {
        match self.nodes[node.index()] {
            Node { kind: NodeKind::Absent | NodeKind::Implicit, entry, .. } if entry != NONE => {
                std::mem::take(self.entries.streams_mut(EntryId(entry)))
            }
            _ => Vec::new(),
        }
    }

    fn add_stream(
        &mut self,
        host: &[&[u8]],
        stream: &[u8],
        header: &Header,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        let refused = |reason: &str| entry_error(&header.name, header.offset, reason);
        supported(header).map_err(|reason| refused(&reason))?;
        if !is_file(header.type_flag) {
            return Err(refused("its name has a colon, but only files can be named streams"));
        }
        let node = self.reach(host).map_err(|reason| refused(&reason))?;
        if self.nodes[node.index()].linked {
            return Err(refused("its file is a hard link; streams belong to the entry that has the data"));
        }
        self.memory.take(size_of::<StreamRecord>() + stream.len());
        if self.nodes[node.index()].entry == NONE {
            self.nodes[node.index()].entry = self.entries.add_early(&mut self.memory).0;
        }
        let entry = EntryId(self.nodes[node.index()].entry);
        let streams = std::mem::take(self.entries.streams_mut(entry));
        *self.entries.streams_mut(entry) = self.inline.add(streams, stream, header, data)?;
        Ok(())
    }

    /// Returns the node of a path, creating it and the directories above it if needed.
    fn reach(&mut self, path: &[&[u8]]) -> Result<NodeId, String> {
        let mut node = NodeId::ROOT;
        for (depth, name) in path.iter().enumerate() {
            if depth > 0 {
                node = self.enter(node, path[depth - 1])?;
            }
            node = match self.child(node, name) {
                Some(child) => child,
                None => self.insert(node, name)?,
            };
        }
        Ok(node)
    }

    /// Makes sure that a node is a directory.
    fn enter(&mut self, node: NodeId, name: &[u8]) -> Result<NodeId, String> {
        match self.nodes[node.index()].kind {
            NodeKind::Implicit | NodeKind::Directory => {}
            NodeKind::Absent => {
                self.spell(node, name);
                self.nodes[node.index()].kind = NodeKind::Implicit;
            }
            NodeKind::File | NodeKind::Symlink | NodeKind::Link => {
                let path = String::from_utf8_lossy(&self.path(node)).into_owned();
                return Err(format!("it lies in {path:?}, which is not a directory"));
            }
        }
        Ok(node)
    }

    /// Prepares a node for an entry. A later entry replaces an earlier one, but a directory over a directory
    /// keeps its content.
    fn make_room(&mut self, node: NodeId, kind: NodeKind, name: &[u8]) -> Result<NodeId, &'static str> {
        match self.nodes[node.index()].kind {
            NodeKind::Directory | NodeKind::Implicit if kind == NodeKind::Directory => Ok(node),
            NodeKind::Directory | NodeKind::Implicit => self.replace(node, name),
            _ => {
                self.spell(node, name);
                Ok(node)
            }
        }
    }

    /// Gives the name of a directory to a new node. The old one's content is gone, except for files that have
    /// hard links elsewhere.
    fn replace(&mut self, node: NodeId, name: &[u8]) -> Result<NodeId, &'static str> {
        let old = self.nodes[node.index()];
        let hash = self.hash(old.parent, name);
        if let Ok(found) = self.by_name.find_entry(hash, |&found| found == node.0) {
            found.remove();
        }
        self.nodes[node.index()].replaced = true;
        let new = self.insert(old.parent, name).map_err(|_| "the layer has too many names")?;
        let target = &mut self.nodes[new.index()];
        (target.whiteout, target.opaque) = (old.whiteout, old.opaque);
        if old.kind == NodeKind::Implicit {
            // Streams that came before their file, which is this one.
            target.entry = old.entry;
        }
        Ok(new)
    }

    fn insert(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, String> {
        let id = u32::try_from(self.nodes.len()).ok().filter(|&id| id < NONE);
        let id = id.ok_or("the layer has too many names")?;
        let mut node = self.nodes[NodeId::ROOT.index()];
        (node.kind, node.parent) = (NodeKind::Absent, parent);
        (node.name_start, node.name_length) = (self.names.len(), name.len() as u16); // at most 32 KiB
        self.names.extend_from_slice(name);
        self.memory.take(MEMORY_PER_NAME + name.len());
        self.nodes.push(node);
        let hash = self.hash(parent, name);
        let (nodes, names, hasher) = (&self.nodes, &self.names, &self.hasher);
        let folded = RefCell::new(Vec::new());
        self.by_name.insert_unique(hash, id, |&id| {
            let node = &nodes[id as usize];
            hash_name(
                hasher,
                node.parent,
                &names[node.name_start..][..usize::from(node.name_length)],
                &mut folded.borrow_mut(),
            )
        });
        Ok(NodeId(id))
    }

    /// Changes the spelling of a name; it must fold to the same.
    fn spell(&mut self, node: NodeId, name: &[u8]) {
        if self.name(node) != name {
            let node = &mut self.nodes[node.index()];
            (node.name_start, node.name_length) = (self.names.len(), name.len() as u16); // at most 32 KiB
            self.names.extend_from_slice(name);
            self.memory.take(name.len());
        }
    }

    fn hash(&mut self, parent: NodeId, name: &[u8]) -> u64 {
        hash_name(&self.hasher, parent, name, &mut self.folded)
    }

    fn child(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hash(parent, name);
        let same =
            |&id: &u32| self.nodes[id as usize].parent == parent && name::eq(self.name(NodeId(id)), name);
        self.by_name.find(hash, same).map(|&id| NodeId(id))
    }

    /// The node of a path, if it exists.
    pub(super) fn find(&mut self, path: &[u8]) -> Option<NodeId> {
        path.split(|&byte| byte == b'/').try_fold(NodeId::ROOT, |node, name| self.child(node, name))
    }

    /// Fails if the tar has streams of a file, but no entry for the file.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (id, node) in self.live() {
            let missing = matches!(node.kind, NodeKind::Absent | NodeKind::Implicit);
            let entry = self.entry(&node).filter(|_| missing);
            if let Some(stream) = entry.and_then(|entry| entry.streams().first()) {
                let name = [&self.path(id)[..], b":", &stream.name].concat();
                return Err(entry_error(
                    &name,
                    stream.offset,
                    "the tar has no entry for the file of this stream",
                ));
            }
        }
        Ok(())
    }

    /// The nodes that are still reachable, directories before their entries, without the root.
    pub(super) fn live(&self) -> impl Iterator<Item = (NodeId, Node)> {
        let mut dead = vec![false; self.nodes.len()];
        (1..self.nodes.len()).filter_map(move |index| {
            let node = self.nodes[index];
            dead[index] = node.replaced || dead[node.parent.index()];
            (!dead[index]).then_some((NodeId(index as u32), node))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn name(&self, id: NodeId) -> &[u8] {
        let node = &self.nodes[id.index()];
        &self.names[node.name_start..][..usize::from(node.name_length)]
    }

    /// The entry of a node. [`NodeKind::Absent`] and [`NodeKind::Implicit`] have none, unless streams came
    /// for them.
    pub(super) fn entry(&self, node: &Node) -> Option<&Entry> {
        self.entry_id(node).map(|entry| self.entries.get(entry))
    }

    /// The ID of [`entry`](Self::entry). Names with the same ID are hard links of one file.
    pub(super) fn entry_id(&self, node: &Node) -> Option<EntryId> {
        (node.entry != NONE).then_some(EntryId(node.entry))
    }

    /// How many entries there are, for tables of them.
    pub(super) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn security(&self, entry: &Entry) -> Option<&[u8]> {
        self.entries.security(entry)
    }

    /// The path from the layer's root, as spelled.
    pub(super) fn path(&self, mut id: NodeId) -> Vec<u8> {
        let mut parts = Vec::new();
        while id != NodeId::ROOT {
            parts.push(self.name(id));
            id = self.nodes[id.index()].parent;
        }
        parts.reverse();
        entry_name::join(&parts)
    }

    /// The targets of links to be resolved in the layers below, sorted.
    pub(super) fn open_links(&self) -> Vec<Vec<u8>> {
        let links = self.live().filter(|(_, node)| node.kind == NodeKind::Link);
        let targets = links.filter_map(|(_, node)| self.entry(&node).map(|entry| entry.target().to_vec()));
        targets.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn hash_name(hasher: &RandomState, parent: NodeId, name: &[u8], folded: &mut Vec<u8>) -> u64 {
    folded.clear();
    name::fold_into(name, folded);
    hasher.hash_one((parent.0, &folded[..]))
}

/// Why sparse files are refused: the index has one place for a file, but the bytes of a sparse file are in
/// several places or nowhere.
const SPARSE: &str = "it is a sparse file, whose bytes do not stand in the tar as one piece, where they are read from: make the tar \
                      without --sparse";

/// Refuses entries that Windows has no counterpart for.
fn supported(header: &Header) -> Result<(), String> {
    let what = match header.type_flag {
        _ if header.sparse.is_some() => return Err(SPARSE.to_owned()),
        type_flag::FILE
        | type_flag::CONTIGUOUS
        | type_flag::LINK
        | type_flag::SYMLINK
        | type_flag::DIRECTORY => return Ok(()),
        type_flag::CHAR_DEVICE => "a character device",
        type_flag::BLOCK_DEVICE => "a block device",
        type_flag::FIFO => "a named pipe",
        type_flag::GNU_SPARSE => return Err(SPARSE.to_owned()),
        other => return Err(format!("its type is {:?}, which means nothing in a layer", char::from(other))),
    };
    Err(format!("it is {what}, which a layer cannot hold"))
}

/// The path a hard link names. Windows takes it with either separator.
fn link_target(target: &[u8]) -> Result<Vec<u8>, String> {
    let slashes: Vec<u8> = target.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    match entry_name::parse(&slashes) {
        Ok(EntryName::Path(path)) => Ok(entry_name::join(&path)),
        Ok(_) => Err(format!("its target {:?} is not a file of a layer", shown(target))),
        Err(reason) => Err(format!("its target {:?} cannot be used: {reason}", shown(target))),
    }
}

fn node_kind(entry: &LayerEntry) -> Result<NodeKind, &'static str> {
    let marked = entry.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
    match &entry.kind {
        EntryKind::Link { .. } => Ok(NodeKind::Link),
        EntryKind::Symlink { .. } => Ok(NodeKind::Symlink),
        _ if entry.type_flag == type_flag::DIRECTORY && !marked => {
            Err("it is a directory, but its attributes say that it is none")
        }
        _ if marked && entry.size > 0 => Err("it has data, but its attributes say that it is a directory"),
        _ if marked => Ok(NodeKind::Directory),
        _ => Ok(NodeKind::File),
    }
}

pub(super) fn entry_error(name: &[u8], offset: u64, reason: &str) -> Error {
    Error::Entry { entry: shown(name), offset, reason: reason.to_owned() }
}
