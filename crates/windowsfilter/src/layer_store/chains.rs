//! The parents and children of all layers, read once for many queries.
//!
//! Each layer's chain file lists all layers below it, so finding the children of one layer takes reading all
//! of them. Here each file is read once, and again only if another file has replaced it: a layer's chain
//! never changes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::SystemTime;

use super::LayerStore;
use crate::error::Error;
use crate::id::LayerId;
use crate::store::file;

/// Number of an ID: chains repeat the same IDs.
type Number = u32;

/// The chains of all layers and sandboxes, as they were at one moment.
#[derive(Debug, Default)]
pub struct Chains {
    ids: Vec<LayerId>,
    numbers: HashMap<LayerId, Number>,
    /// The layers that exist.
    known: HashMap<Number, Known>,
    /// How many layers and sandboxes depend on each.
    children: HashMap<Number, usize>,
}

/// What is known of an existing layer.
#[derive(Debug)]
pub(super) struct Known {
    /// The chain file that was read; `None` if it could not be identified.
    file: Option<Identity>,
    /// Its parents, nearest first; `None` if they cannot be read.
    parents: Option<Box<[Number]>>,
}

/// Distinguishes a file from a later one of the same name: time, length and inode.
type Identity = (SystemTime, u64, u64);

impl LayerStore {
    /// The chains of all layers and sandboxes.
    ///
    /// # Errors
    /// When the layers cannot be listed.
    #[doc(hidden)]
    pub fn chains(&self) -> Result<Chains, Error> {
        let mut chains = Chains::default();
        chains.refresh(self)?;
        Ok(chains)
    }
}

impl Chains {
    /// Reads new layers and forgets removed ones.
    pub(super) fn refresh(&mut self, store: &LayerStore) -> Result<(), Error> {
        let mut there = HashSet::new();
        for id in store.layers()? {
            let number = self.number(&id);
            let file = identity(store, &id);
            if self.known.get(&number).is_none_or(|known| file.is_none() || known.file != file) {
                self.take(&id);
                let parents = match store.chain_ids(&id) {
                    Ok(chain) => Some(chain.iter().map(|parent| self.number(parent)).collect()),
                    // Removed since it was listed.
                    Err(Error::NoSuchLayer { .. }) => continue,
                    Err(_) => None,
                };
                self.put(number, Known { file, parents });
            }
            there.insert(number);
        }
        let gone: Vec<_> = self.known.keys().filter(|number| !there.contains(number)).copied().collect();
        for number in gone {
            self.take(&self.ids[number as usize].clone());
        }
        Ok(())
    }

    fn number(&mut self, id: &LayerId) -> Number {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        let number = self.ids.len() as Number; // a directory holds fewer than 2^32 names
        self.ids.push(id.clone());
        self.numbers.insert(id.clone(), number);
        number
    }

    fn put(&mut self, number: Number, known: Known) {
        for &parent in known.parents.iter().flatten() {
            *self.children.entry(parent).or_default() += 1;
        }
        self.known.insert(number, known);
    }

    /// Takes out the entry of a layer, as if the layer were removed.
    pub(super) fn take(&mut self, id: &LayerId) -> Option<Known> {
        let known = self.known.remove(self.numbers.get(id)?)?;
        for parent in known.parents.iter().flatten() {
            if let Some(count) = self.children.get_mut(parent) {
                *count -= 1;
            }
        }
        Some(known)
    }

    /// Puts back an entry that [`Chains::take`] took out.
    pub(super) fn put_back(&mut self, id: &LayerId, known: Known) {
        let number = self.number(id);
        self.put(number, known);
    }

    /// All layers and sandboxes, sorted.
    pub fn layers(&self) -> Vec<&LayerId> {
        let mut layers: Vec<_> = self.known.keys().map(|&number| &self.ids[number as usize]).collect();
        layers.sort();
        layers
    }

    /// The parents of `id`, nearest first; `None` if they cannot be read or `id` does not exist.
    pub fn parents(&self, id: &LayerId) -> Option<impl ExactSizeIterator<Item = &LayerId>> {
        let known = self.known.get(self.numbers.get(id)?)?;
        Some(known.parents.as_ref()?.iter().map(|&parent| &self.ids[parent as usize]))
    }

    /// The layers and sandboxes that depend on `id`, sorted.
    pub fn children(&self, id: &LayerId) -> Vec<LayerId> {
        let Some(&number) = self.numbers.get(id) else { return Vec::new() };
        if self.children.get(&number).is_none_or(|&count| count == 0) {
            return Vec::new();
        }
        self.those(|known| known.parents.iter().flatten().any(|&parent| parent == number))
    }

    /// Layers whose parents cannot be read, sorted.
    pub(super) fn unreadable(&self) -> Vec<LayerId> {
        self.those(|known| known.parents.is_none())
    }

    fn those(&self, like: impl Fn(&Known) -> bool) -> Vec<LayerId> {
        let found = self.known.iter().filter(|(_, known)| like(known));
        let mut ids: Vec<_> = found.map(|(&number, _)| self.ids[number as usize].clone()).collect();
        ids.sort();
        ids
    }
}

fn identity(store: &LayerStore, id: &LayerId) -> Option<Identity> {
    let place = store.place(id).ok()?;
    let metadata = fs::metadata(place.dir.join(file::CHAIN)).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}
