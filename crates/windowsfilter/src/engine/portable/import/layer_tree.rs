//! What a tar says a layer is: a tree of names, each with what its last entry said.
//!
//! Nodes are kept in one array and found by parent and folded name, so the same file in any case is one node. A directory
//! stands before what is in it. About 100 bytes and the name per entry; what is rare (links, streams, extended attributes)
//! has a place of its own.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::ea::ExtendedAttribute;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{EntryKind, LayerEntry};
use wclayer::name;
use wclayer::tar::{Header, type_flag};

use super::entry_name::{self, EntryName};
use super::streams::{InlineBudget, StreamRecord};
use crate::error::Error;

/// No security descriptor, no rarities.
const NONE: u32 = u32::MAX;
/// Bytes of memory that what the entries say may take, whatever their number, and with each entry. Entries of real layers take some 300
/// bytes. A tar that compresses to kilobytes can be all security descriptors, long names or directories that it never names.
const MEMORY: u64 = 64 << 20;
const MEMORY_PER_ENTRY: u64 = 1 << 10;
/// Names that are shown of all that were passed over.
const SHOWN: usize = 5;

/// Place of a node in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The layer itself, in which `Files` lies.
    pub(super) const ROOT: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    /// Nothing: the name was deleted, or has only been heard of.
    Absent,
    /// A directory without an entry.
    Implicit,
    Directory,
    File,
    Symlink,
    /// Another name of a file.
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
    /// A file has taken the place of this directory.
    replaced: bool,
    pub(super) parent: NodeId,
    pub(super) attributes: u32,
    security: u32,
    rare: u32,
    pub(super) offset: u64,
    pub(super) data_offset: u64,
    pub(super) size: u64,
    pub(super) created: FileTime,
    pub(super) accessed: FileTime,
    pub(super) written: FileTime,
    pub(super) changed: FileTime,
}
const _: () = assert!(size_of::<Node>() <= 104);

/// What few nodes have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) eas: Vec<ExtendedAttribute>,
    pub(super) reparse: Option<Vec<u8>>,
    /// Of a symbolic link: as in the tar. Of a hard link: the cleaned path.
    pub(super) target: Vec<u8>,
    pub(super) streams: Vec<StreamRecord>,
}

impl Rare {
    /// Bytes it takes in memory.
    fn memory(&self) -> usize {
        let eas: usize =
            self.eas.iter().map(|ea| size_of::<ExtendedAttribute>() + ea.name.len() + ea.value.len()).sum();
        size_of::<Self>() + eas + self.target.len() + self.reparse.as_ref().map_or(0, Vec::len)
    }
}

/// Counts what the tree takes in memory.
#[derive(Debug, Default)]
struct Memory {
    entries: u64,
    bytes: u64,
}

impl Memory {
    fn take(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Called with every entry.
    fn check(&mut self) -> Result<(), String> {
        self.entries += 1;
        if self.bytes <= MEMORY + self.entries * MEMORY_PER_ENTRY {
            return Ok(());
        }
        Err(format!(
            "with it, names and metadata of {} entries take {} MiB of memory, far more than those of a Windows layer",
            self.entries,
            self.bytes >> 20
        ))
    }
}

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
    descriptors: Vec<Arc<[u8]>>,
    descriptor_ids: HashMap<Arc<[u8]>, u32>,
    rare: Vec<Rare>,
    folded: Vec<u8>,
    inline: InlineBudget,
    memory: Memory,
    foreign: (u64, Vec<String>),
    hive_whiteouts: (u64, Vec<String>),
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
            parent: NodeId::ROOT,
            attributes: 0,
            security: NONE,
            rare: NONE,
            offset: 0,
            data_offset: 0,
            size: 0,
            created: FileTime(0),
            accessed: FileTime(0),
            written: FileTime(0),
            changed: FileTime(0),
        };
        Self {
            nodes: vec![root],
            names: Vec::new(),
            by_name: HashTable::new(),
            hasher: RandomState::new(),
            descriptors: Vec::new(),
            descriptor_ids: HashMap::new(),
            rare: Vec::new(),
            folded: Vec::new(),
            inline: InlineBudget::default(),
            memory: Memory::default(),
            foreign: (0, Vec::new()),
            hive_whiteouts: (0, Vec::new()),
            counts: Counts::default(),
        }
    }

    /// Takes in an entry; `data` are its bytes, of which only small streams are read.
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
        match meaning {
            EntryName::Foreign => {
                if header.type_flag == type_flag::FILE {
                    self.counts.bytes += header.size;
                }
                if !header.name.iter().all(|byte| matches!(byte, b'.' | b'/')) {
                    note(&mut self.foreign, &header.name);
                }
                Ok(())
            }
            EntryName::Whiteout(path) | EntryName::Opaque(path) if path[0] == b"Hives" => {
                note(&mut self.hive_whiteouts, &header.name);
                Ok(())
            }
            EntryName::Whiteout(path) => {
                let node = self.reach(&path).map_err(|reason| refused(&reason))?;
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
        let target = match &entry.kind {
            EntryKind::Link { target } => link_target(target).map_err(|reason| refused(&reason))?,
            EntryKind::Symlink { target, .. } => target.clone(),
            _ => Vec::new(),
        };
        let node = self.reach(path).map_err(|reason| refused(&reason))?;
        let last = path[path.len() - 1];
        let node = self.make_room(node, kind, last).map_err(refused)?;
        let rare = Rare { eas: entry.eas, reparse: entry.reparse, target, streams: Vec::new() };
        self.set_rare(node, rare);
        let security = entry.security.map_or(NONE, |descriptor| self.intern(descriptor));
        if entry.type_flag == type_flag::FILE {
            self.counts.bytes += entry.size;
        }
        let node = &mut self.nodes[node.index()];
        (node.kind, node.attributes, node.security) = (kind, entry.attributes, security);
        (node.offset, node.data_offset, node.size) = (entry.offset, entry.data_offset, entry.size);
        (node.created, node.accessed) = (entry.creation_time, entry.last_access_time);
        (node.written, node.changed) = (entry.last_write_time, entry.change_time);
        Ok(())
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
        if header.type_flag != type_flag::FILE {
            return Err(refused("its name has a colon, but only files can be named streams"));
        }
        let node = self.reach(host).map_err(|reason| refused(&reason))?;
        if self.nodes[node.index()].kind == NodeKind::Link {
            return Err(refused("its file is a hard link; streams belong to the entry that has the data"));
        }
        self.memory.take(size_of::<StreamRecord>() + stream.len());
        let streams = std::mem::take(&mut self.rare_mut(node).streams);
        let streams = self.inline.add(streams, stream, header, data)?;
        self.rare_mut(node).streams = streams;
        Ok(())
    }

    /// The node of a path; made with the directories above it if it is new.
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
                return Err(format!("it lies in {path:?}, which is no directory"));
            }
        }
        Ok(node)
    }

    /// Prepares a node for an entry: a later one replaces an earlier one, but what is in a directory stays.
    fn make_room(&mut self, node: NodeId, kind: NodeKind, name: &[u8]) -> Result<NodeId, &'static str> {
        let old = self.nodes[node.index()];
        let node = match old.kind {
            NodeKind::Directory | NodeKind::Implicit if kind == NodeKind::Directory => node,
            NodeKind::Directory | NodeKind::Implicit => self.replace(node, name)?,
            _ => {
                self.spell(node, name);
                node
            }
        };
        let heard_of = matches!(old.kind, NodeKind::Absent | NodeKind::Implicit);
        let has_streams = old.rare != NONE && !self.rare[old.rare as usize].streams.is_empty();
        if kind == NodeKind::Link && heard_of && has_streams {
            return Err("it has streams, but is a hard link; they belong to the entry that has the data");
        }
        // Streams that came before are of this file, unless they were of the one it replaces.
        if !heard_of && has_streams {
            self.rare[old.rare as usize].streams.clear();
        }
        Ok(node)
    }

    /// Gives the name of a directory to a new node; what is in the old one is gone.
    fn replace(&mut self, node: NodeId, name: &[u8]) -> Result<NodeId, &'static str> {
        let old = self.nodes[node.index()];
        let hash = self.hash(old.parent, name);
        if let Ok(found) = self.by_name.find_entry(hash, |&found| found == node.0) {
            found.remove();
        }
        self.nodes[node.index()].replaced = true;
        let new = self.insert(old.parent, name).map_err(|_| "the layer has too many names")?;
        let target = &mut self.nodes[new.index()];
        (target.whiteout, target.rare) = (old.whiteout, old.rare);
        self.nodes[node.index()].rare = NONE;
        Ok(new)
    }

    fn set_rare(&mut self, node: NodeId, rare: Rare) {
        let place = self.nodes[node.index()].rare;
        let empty = rare.eas.is_empty() && rare.reparse.is_none() && rare.target.is_empty();
        if place == NONE && empty {
            return;
        }
        self.memory.take(rare.memory());
        let kept = std::mem::take(&mut self.rare_mut(node).streams);
        *self.rare_mut(node) = Rare { streams: kept, ..rare };
    }

    fn rare_mut(&mut self, node: NodeId) -> &mut Rare {
        let node = &mut self.nodes[node.index()];
        if node.rare == NONE {
            node.rare = self.rare.len() as u32; // not more than there are nodes
            self.rare.push(Rare::default());
        }
        &mut self.rare[node.rare as usize]
    }

    fn intern(&mut self, descriptor: Vec<u8>) -> u32 {
        if let Some(&id) = self.descriptor_ids.get(descriptor.as_slice()) {
            return id;
        }
        let id = self.descriptors.len() as u32; // not more than there are nodes
        self.memory.take(descriptor.len());
        let descriptor: Arc<[u8]> = descriptor.into();
        self.descriptors.push(descriptor.clone());
        self.descriptor_ids.insert(descriptor, id);
        id
    }

    fn insert(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, String> {
        let id = u32::try_from(self.nodes.len()).ok().filter(|&id| id < NONE);
        let id = id.ok_or("the layer has too many names")?;
        let mut node = self.nodes[0];
        (node.kind, node.parent, node.rare, node.opaque) = (NodeKind::Absent, parent, NONE, false);
        (node.name_start, node.name_length) = (self.names.len(), name.len() as u16); // at most 32 KiB
        self.names.extend_from_slice(name);
        self.memory.take(size_of::<Node>() + name.len());
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

    /// Sets the spelling of a name, which folds to the same.
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

    /// The node of a path, if there is one.
    pub(super) fn find(&mut self, path: &[u8]) -> Option<NodeId> {
        path.split(|&byte| byte == b'/').try_fold(NodeId::ROOT, |node, name| self.child(node, name))
    }

    /// What was passed over, for the user.
    pub(super) fn notes(&self) -> Vec<String> {
        let outside = "outside Files, Hives and UtilityVM, kept in the tar but not shown";
        let hives = "delete hives, which Windows ignores";
        [(&self.foreign, outside), (&self.hive_whiteouts, hives)]
            .into_iter()
            .filter(|((count, _), _)| *count > 0)
            .map(|((count, names), what)| {
                let more = if *count > names.len() as u64 { ", …" } else { "" };
                format!("{count} entries {what}: {}{more}", names.join(", "))
            })
            .collect()
    }

    /// Whether everything that an entry needs has come.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (id, node) in self.live() {
            let missing = matches!(node.kind, NodeKind::Absent | NodeKind::Implicit);
            if let Some(stream) = self.rare(&node).and_then(|rare| rare.streams.first()).filter(|_| missing) {
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

    /// The nodes that something still leads to, directories before what is in them; the root is left out.
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

    pub(super) fn node(&self, id: NodeId) -> Node {
        self.nodes[id.index()]
    }

    pub(super) fn name(&self, id: NodeId) -> &[u8] {
        let node = &self.nodes[id.index()];
        &self.names[node.name_start..][..usize::from(node.name_length)]
    }

    pub(super) fn rare(&self, node: &Node) -> Option<&Rare> {
        self.rare.get(node.rare as usize)
    }

    pub(super) fn security(&self, node: &Node) -> Option<&[u8]> {
        self.descriptors.get(node.security as usize).map(|descriptor| &descriptor[..])
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

    /// The hard links.
    pub(super) fn link_nodes(&self) -> Vec<NodeId> {
        self.live().filter(|(_, node)| node.kind == NodeKind::Link).map(|(id, _)| id).collect()
    }
}

fn hash_name(hasher: &RandomState, parent: NodeId, name: &[u8], folded: &mut Vec<u8>) -> u64 {
    folded.clear();
    name::fold_into(name, folded);
    hasher.hash_one((parent.0, &folded[..]))
}

/// Refuses what Windows has nothing like.
fn supported(header: &Header) -> Result<(), String> {
    let what = match header.type_flag {
        _ if header.sparse.is_some() => "a sparse file",
        type_flag::FILE | type_flag::LINK | type_flag::SYMLINK | type_flag::DIRECTORY => return Ok(()),
        type_flag::CHAR_DEVICE => "a character device",
        type_flag::BLOCK_DEVICE => "a block device",
        type_flag::FIFO => "a named pipe",
        type_flag::GNU_SPARSE => "a sparse file",
        other => return Err(format!("its type is {:?}, which means nothing in a layer", char::from(other))),
    };
    Err(format!("it is {what}, which a layer cannot hold"))
}

/// The path a hard link names. Windows takes it with either separator.
fn link_target(target: &[u8]) -> Result<Vec<u8>, String> {
    let slashes: Vec<u8> = target.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    match entry_name::parse(&slashes) {
        Ok(EntryName::Path(path)) => Ok(entry_name::join(&path)),
        Ok(_) => Err(format!("its target {:?} is no file of a layer", shown(target))),
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

fn note(notes: &mut (u64, Vec<String>), name: &[u8]) {
    notes.0 += 1;
    if notes.1.len() < SHOWN {
        notes.1.push(shown(name));
    }
}

/// A name as messages show it, which a hostile one cannot flood.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]).into_owned();
    if name.len() > LONGEST { text + "…" } else { text }
}

pub(super) fn entry_error(name: &[u8], offset: u64, reason: &str) -> Error {
    Error::Entry { entry: shown(name), offset, reason: reason.to_owned() }
}
