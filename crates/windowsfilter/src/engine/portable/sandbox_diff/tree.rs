//! The upper directory as a tree in memory: names have to be compared with their neighbours before any is
//! written.
//!
//! Its content is untrusted, so only what the comparison needs is kept of an entry. Attributes are checked
//! once, and read again when the entry is written.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use layer_mounts::linux::upper::{UpperEntry, UpperKind};

use crate::engine::portable::entry_memory::Memory;
use crate::engine::portable::xattrs::{StreamForm, Win32Metadata};
use crate::engine::tar_size::TarSize;
use crate::error::{Error, shown};
use crate::limits::DiffLimits;
use wclayer::name;
use wclayer::security::SecurityDescriptor;

use super::entry::{is_windows_attribute, make_plain, metadata_of, says_directory};
use super::parent::{Parent, last_name};
use super::plan::{is_linked, true_name};
use super::problems::Problems;
use super::source::Upper;

/// Entries to read between two calls of `is_wanted`.
const ENTRIES_UNASKED: usize = 1024;

/// Everything a sandbox changed.
pub(super) struct Tree {
    /// The root first, each directory before its entries.
    pub(super) nodes: Vec<TreeNode>,
    /// Nodes by directory and folded name.
    by_name: HashTable<u32>,
    hasher: foldhash::quality::RandomState,
    /// The form of streams in the sandbox.
    pub(super) streams: StreamForm,
}

/// One entry of the tree.
#[derive(Debug)]
pub(super) struct TreeNode {
    /// Its name on Linux; empty for the root.
    pub(super) name: Box<[u8]>,
    /// The directory it is in; the root's is itself.
    pub(super) parent: usize,
    pub(super) kind: UpperKind,
    pub(super) mtime: (i64, u32),
    pub(super) inode: u64,
    pub(super) links: u64,
    /// The nodes in it, in byte order of their names.
    pub(super) children: Vec<usize>,
    /// Its name on Windows, if [`TreeNode::name`] is a shortened one.
    true_name: Option<Box<[u8]>>,
    /// Whether its attributes mark it as a directory on Windows.
    pub(super) says_directory: bool,
    /// Whether it has a security descriptor that cannot be parsed.
    pub(super) odd_security: bool,
}

impl TreeNode {
    /// Its name on Windows, unless the parent has another spelling.
    pub(super) fn windows_name(&self) -> &[u8] {
        self.true_name.as_deref().unwrap_or(&self.name)
    }

    pub(super) fn is_whiteout(&self) -> bool {
        self.kind == UpperKind::Whiteout
    }

    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.kind, UpperKind::Directory { opaque: true })
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, UpperKind::Directory { .. })
    }

    /// Whether it can be a hard link of another file.
    pub(super) fn is_linked_file(&self) -> bool {
        is_linked(self.links, &self.kind)
    }
}

/// The meaning of a name, in any case, in a directory of the sandbox.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named {
    /// The node of that name. Of several that Windows would not tell apart, one of them.
    pub(super) node: Option<usize>,
    /// Whether the parent's entry of this name is deleted.
    pub(super) deleted: bool,
}

impl Tree {
    /// Index of the root in [`Tree::nodes`].
    pub(super) const ROOT: usize = 0;

    /// Reads everything; streams have the form `streams`. Adds invalid attributes to `problems`. Calls
    /// `is_wanted` now and then, and stops with its error.
    ///
    /// # Errors
    /// More than `limits` or `memory` allow; a damaged parent.
    pub(super) fn read(
        upper: &impl Upper,
        parent: &impl Parent,
        (streams, limits): (StreamForm, &DiffLimits),
        memory: &mut Memory,
        problems: &mut Problems,
        is_wanted: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let tree = Self { nodes: Vec::new(), by_name: HashTable::new(), hasher: Default::default(), streams };
        let size = TarSize::new(*limits);
        let mut reading = Reading { tree, parent, size, memory, problems, inodes: HashSet::new() };
        reading.add(Self::ROOT, upper.root(is_windows_attribute)?)?;
        // The directories above the walk's current entry.
        let mut open = vec![Self::ROOT];
        for entry in upper.walk(is_windows_attribute, limits.entries)? {
            let entry = entry?;
            open.truncate(1 + entry.path.iter().filter(|&&byte| byte == b'/').count());
            let directory = open.last().copied().unwrap_or(Self::ROOT);
            let node = reading.add(directory, entry)?;
            if node % ENTRIES_UNASKED == 0 {
                is_wanted()?;
            }
            if reading.tree.nodes[node].is_directory() {
                open.push(node);
            }
        }
        Ok(reading.tree)
    }

    /// The path of a node in the upper directory.
    pub(super) fn path(&self, node: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = node;
        while at != Self::ROOT {
            names.push(&self.nodes[at].name[..]);
            at = self.nodes[at].parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Looks up a name in the node `directory`, without regard to case.
    pub(super) fn named(&self, directory: usize, name: &[u8]) -> Named {
        let mut named = Named::default();
        for &node in self.by_name.iter_hash(self.hash(directory, name)) {
            let (node, index) = (&self.nodes[node as usize], node as usize);
            if node.parent != directory || !name::eq(&node.name, name) {
                continue;
            }
            if node.is_whiteout() {
                named.deleted = true;
            } else {
                named.node.get_or_insert(index);
            }
        }
        named
    }

    fn hash(&self, directory: usize, name: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_usize(directory);
        hasher.write(&name::fold(name));
        hasher.finish()
    }

    fn insert(&mut self, node: TreeNode) -> usize {
        let index = self.nodes.len();
        if index != Self::ROOT {
            let hash = self.hash(node.parent, &node.name);
            let mut table = std::mem::take(&mut self.by_name);
            // Fewer than 2^32 fit into memory.
            table.insert_unique(hash, index as u32, |&other| {
                let other = &self.nodes[other as usize];
                self.hash(other.parent, &other.name)
            });
            self.by_name = table;
            self.nodes[node.parent].children.push(index);
        }
        self.nodes.push(node);
        index
    }
}

/// A tree that is being read.
struct Reading<'a, P> {
    tree: Tree,
    parent: &'a P,
    size: TarSize,
    memory: &'a mut Memory,
    problems: &'a mut Problems,
    /// Inodes of files with several names, met so far.
    inodes: HashSet<u64>,
}

impl<P: Parent> Reading<'_, P> {
    fn add(&mut self, directory: usize, mut entry: UpperEntry) -> Result<usize, Error> {
        make_plain(self.tree.streams, &mut entry.xattrs);
        let metadata = metadata_of(&entry.xattrs);
        self.problems.check_attributes(&entry);
        self.problems.check_eas(&entry.path, &metadata);
        self.problems.check_link(&entry.path, &entry.kind, metadata.reparse.as_deref());
        self.problems.check_streams(&entry.path, &metadata.streams, self.parent)?;
        self.add_size(&entry, &metadata)?;
        let name: Box<[u8]> = last_name(&entry.path).into();
        let security = metadata.security.as_deref().filter(|bytes| !bytes.is_empty());
        let node = TreeNode {
            true_name: Some(true_name(&name, &metadata)).filter(|other| **other != *name).map(Into::into),
            odd_security: security.is_some_and(|bytes| SecurityDescriptor::parse(bytes).is_err()),
            says_directory: says_directory(&metadata),
            name,
            parent: directory,
            kind: entry.kind,
            mtime: entry.mtime,
            inode: entry.inode,
            links: entry.links,
            children: Vec::new(),
        };
        let target = if let UpperKind::Symlink { target } = &node.kind { target.len() } else { 0 };
        let names = node.name.len() + node.true_name.as_ref().map_or(0, |name| name.len());
        // The three words are its places in its directory's list and in the table.
        self.memory.take(size_of::<TreeNode>() + 3 * size_of::<usize>() + names + target);
        self.memory.check().map_err(|reason| Error::Entry {
            entry: shown(&entry.path),
            offset: 0,
            reason,
        })?;
        Ok(self.tree.insert(node))
    }

    /// Adds the entry's size in the tar, as far as it is known.
    fn add_size(&mut self, entry: &UpperEntry, metadata: &Win32Metadata) -> Result<(), Error> {
        let linked = is_linked(entry.links, &entry.kind);
        let content = match entry.kind {
            UpperKind::File { size } if !linked || self.inodes.insert(entry.inode) => {
                let streams = metadata.streams.iter().map(|stream| stream.content.size());
                streams.fold(TarSize::of_data(size), |sum, size| sum.saturating_add(TarSize::of_stream(size)))
            }
            _ => 0,
        };
        self.size.add(&entry.path, content)
    }
}
