//! The upper directory as a tree in memory: names have to be compared with their neighbours before any is written.

use std::collections::HashMap;

use crate::engine::portable::linux::upper::{UpperDirectory, UpperEntry, UpperKind};
use crate::error::Error;
use crate::metadata::StreamForm;
use wclayer::name;

use super::entry::windows_attribute;
use super::parent::last_name;

/// Everything a sandbox changed.
pub(super) struct Tree {
    /// The root first, each directory before what is in it.
    pub(super) nodes: Vec<TreeNode>,
    /// Node by path with case folded; of names that differ only in case, one that is no whiteout.
    by_folded_path: HashMap<Vec<u8>, usize>,
}

/// One entry of the tree.
pub(super) struct TreeNode {
    pub(super) entry: UpperEntry,
    /// Nodes of what is in it, by the bytes of their names.
    pub(super) children: Vec<usize>,
}

impl TreeNode {
    pub(super) fn name(&self) -> &[u8] {
        last_name(&self.entry.path)
    }

    pub(super) fn is_whiteout(&self) -> bool {
        self.entry.kind == UpperKind::Whiteout
    }

    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.entry.kind, UpperKind::Directory { opaque: true })
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.entry.kind, UpperKind::Directory { .. })
    }
}

impl Tree {
    /// Index of the root in [`Tree::nodes`].
    pub(super) const ROOT: usize = 0;

    /// Reads an upper directory, whose streams have the form `streams`; in the tree they are plain.
    pub(super) fn read(upper: &UpperDirectory, streams: StreamForm) -> Result<Self, Error> {
        let mut entry = upper.root()?;
        take_form(streams, &mut entry);
        let root = TreeNode { entry, children: Vec::new() };
        let mut tree = Self { nodes: vec![root], by_folded_path: HashMap::new() };
        let mut open = vec![Self::ROOT];
        for entry in upper.walk()? {
            let mut entry = entry?;
            take_form(streams, &mut entry);
            while open.len() > 1 && !open.last().is_some_and(|&at| tree.holds(at, &entry.path)) {
                open.pop();
            }
            let directory = open.last().copied().unwrap_or(Self::ROOT);
            let node = tree.add(directory, entry);
            if tree.nodes[node].is_directory() {
                open.push(node);
            }
        }
        Ok(tree)
    }

    /// The entry at a path in any case.
    pub(super) fn find(&self, folded_path: &[u8]) -> Option<&TreeNode> {
        self.by_folded_path.get(folded_path).map(|&node| &self.nodes[node])
    }

    fn add(&mut self, directory: usize, entry: UpperEntry) -> usize {
        let node = self.nodes.len();
        let folded = name::fold(&entry.path);
        let known = self.by_folded_path.entry(folded).or_insert(node);
        if self.nodes.get(*known).is_some_and(TreeNode::is_whiteout) {
            *known = node;
        }
        self.nodes[directory].children.push(node);
        self.nodes.push(TreeNode { entry, children: Vec::new() });
        node
    }

    /// Whether a path lies right in this directory or below it.
    fn holds(&self, directory: usize, path: &[u8]) -> bool {
        path.strip_prefix(&self.nodes[directory].entry.path[..])
            .is_some_and(|rest| rest.first() == Some(&b'/'))
    }
}

/// Makes the streams of an entry plain.
fn take_form(streams: StreamForm, entry: &mut UpperEntry) {
    for (name, value) in &mut entry.xattrs {
        if let Some(name) = windows_attribute(name) {
            streams.take(name, value);
        }
    }
}
