//! The names that a layer has added, looked up without regard to case.

use std::collections::{BTreeMap, HashMap};

use crate::name;

/// The kind of entry that a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// A directory that is a reparse point: nothing can be in it.
    ReparseDirectory,
    /// A hard link, by its number.
    Link(usize),
}

/// A name in the spelling that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
}

/// The names of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedNames {
    /// By folded path, so that the entries of a directory are adjacent.
    names: BTreeMap<Vec<u8>, Added>,
    /// Indexes of links to files of the layer, by the file's folded path.
    links: HashMap<Vec<u8>, Vec<usize>>,
}

impl AddedNames {
    /// Whether the path is a directory that can have entries; `None` if the layer does not have it.
    pub fn is_directory(&self, path: &[u8]) -> Option<bool> {
        self.get(path).map(|added| added.kind == Kind::Directory)
    }

    /// Whether the path is a directory, including reparse points.
    pub fn is_any_directory(&self, path: &[u8]) -> bool {
        self.get(path).is_some_and(|added| matches!(added.kind, Kind::Directory | Kind::ReparseDirectory))
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&Added> {
        self.names.get(&name::fold(path))
    }

    pub(super) fn insert(&mut self, path: Vec<u8>, kind: Kind) {
        self.names.insert(name::fold(&path), Added { path, kind });
    }

    /// Removes a name and everything below it, and returns them, the name first.
    pub(super) fn take(&mut self, path: &[u8]) -> Vec<Added> {
        let key = name::fold(path);
        let below = [&key[..], b"\\"].concat();
        let keys =
            self.names.range(below.clone()..).map(|(key, _)| key).take_while(|key| key.starts_with(&below));
        let keys: Vec<Vec<u8>> = std::iter::once(&key).chain(keys).cloned().collect();
        keys.iter().filter_map(|key| self.names.remove(key)).collect()
    }

    pub(super) fn link_to(&mut self, target: &[u8], number: usize) {
        self.links.entry(name::fold(target)).or_default().push(number);
    }

    pub(super) fn take_links_to(&mut self, target: &[u8]) -> Vec<usize> {
        self.links.remove(&name::fold(target)).unwrap_or_default()
    }
}
