//! The entries of a tar, one for all names of a file. About 80 bytes each; rare fields (links, streams,
//! extended attributes) are stored apart.

use std::sync::Arc;

use hashbrown::HashMap;
use wclayer::ea::ExtendedAttribute;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{EntryKind, LayerEntry};

use super::{Memory, NONE, NodeKind};
use crate::engine::portable::import::streams::StreamRecord;

/// Index of an entry in [`Entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct EntryId(pub(super) u32);

impl EntryId {
    pub(in super::super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The fields of an entry.
#[derive(Debug)]
pub(in super::super) struct Entry {
    pub(in super::super) kind: NodeKind,
    pub(in super::super) attributes: u32,
    /// Index of its security descriptor, or [`NONE`].
    security: u32,
    pub(in super::super) offset: u64,
    pub(in super::super) data_offset: u64,
    pub(in super::super) size: u64,
    pub(in super::super) created: FileTime,
    pub(in super::super) accessed: FileTime,
    pub(in super::super) written: FileTime,
    pub(in super::super) changed: FileTime,
    rare: Option<Box<Rare>>,
}
const _: () = assert!(size_of::<Entry>() <= 80);

/// Fields that few entries have.
#[derive(Debug, Default)]
struct Rare {
    eas: Vec<ExtendedAttribute>,
    reparse: Option<Vec<u8>>,
    /// Of a symbolic link: as in the tar. Of a hard link: the cleaned path.
    target: Vec<u8>,
    streams: Vec<StreamRecord>,
}

impl Rare {
    /// Bytes it takes in memory, without its streams, which are counted as they come.
    fn memory(&self) -> usize {
        let eas: usize =
            self.eas.iter().map(|ea| size_of::<ExtendedAttribute>() + ea.name.len() + ea.value.len()).sum();
        size_of::<Self>() + eas + self.target.len() + self.reparse.as_ref().map_or(0, Vec::len)
    }

    fn is_empty(&self) -> bool {
        self.eas.is_empty() && self.reparse.is_none() && self.target.is_empty() && self.streams.is_empty()
    }
}

impl Entry {
    fn of(kind: NodeKind, said: &LayerEntry, security: u32) -> Self {
        Self {
            kind,
            attributes: said.attributes,
            security,
            offset: said.offset,
            data_offset: said.data_offset,
            size: said.size,
            created: said.creation_time,
            accessed: said.last_access_time,
            written: said.last_write_time,
            changed: said.change_time,
            rare: None,
        }
    }

    pub(in super::super) fn eas(&self) -> &[ExtendedAttribute] {
        self.rare.as_ref().map_or(&[], |rare| &rare.eas)
    }

    pub(in super::super) fn reparse(&self) -> Option<&[u8]> {
        self.rare.as_ref().and_then(|rare| rare.reparse.as_deref())
    }

    /// Of a symbolic link: as in the tar. Of a hard link: the cleaned path.
    pub(in super::super) fn target(&self) -> &[u8] {
        self.rare.as_ref().map_or(&[], |rare| &rare.target)
    }

    pub(in super::super) fn streams(&self) -> &[StreamRecord] {
        self.rare.as_ref().map_or(&[], |rare| &rare.streams)
    }
}

/// All entries of a tar that some name has stood for.
#[derive(Debug, Default)]
pub(super) struct Entries {
    all: Vec<Entry>,
    descriptors: Vec<Arc<[u8]>>,
    descriptor_ids: HashMap<Arc<[u8]>, u32>,
}

impl Entries {
    /// Adds an entry that is not a hard link.
    pub(super) fn add(
        &mut self,
        kind: NodeKind,
        mut said: LayerEntry,
        streams: Vec<StreamRecord>,
        memory: &mut Memory,
    ) -> EntryId {
        let target = match &mut said.kind {
            EntryKind::Symlink { target, .. } => std::mem::take(target),
            _ => Vec::new(),
        };
        let security = said.security.take().map_or(NONE, |descriptor| self.intern(descriptor, memory));
        let entry = Entry::of(kind, &said, security);
        self.push(entry, Rare { eas: said.eas, reparse: said.reparse, target, streams }, memory)
    }

    /// Adds a hard link to a path that the tar has not had yet.
    pub(super) fn add_link(&mut self, target: Vec<u8>, said: &LayerEntry, memory: &mut Memory) -> EntryId {
        self.push(Entry::of(NodeKind::Link, said, NONE), Rare { target, ..Rare::default() }, memory)
    }

    /// Adds a place for streams whose file has not come yet.
    pub(super) fn add_early(&mut self, memory: &mut Memory) -> EntryId {
        let said = LayerEntry::new(Vec::new(), wclayer::layer_tar::FileInfo::default());
        self.push(Entry::of(NodeKind::Absent, &said, NONE), Rare::default(), memory)
    }

    fn push(&mut self, mut entry: Entry, rare: Rare, memory: &mut Memory) -> EntryId {
        memory.take(size_of::<Entry>());
        if !rare.is_empty() {
            memory.take(rare.memory());
            entry.rare = Some(Box::new(rare));
        }
        self.all.push(entry);
        // Each has a node or a header of its own, and 32 bits can count those.
        EntryId(self.all.len() as u32 - 1)
    }

    pub(super) fn get(&self, id: EntryId) -> &Entry {
        &self.all[id.index()]
    }

    pub(super) fn streams_mut(&mut self, id: EntryId) -> &mut Vec<StreamRecord> {
        &mut self.all[id.index()].rare.get_or_insert_default().streams
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn security(&self, entry: &Entry) -> Option<&[u8]> {
        self.descriptors.get(entry.security as usize).map(|descriptor| &descriptor[..])
    }

    fn intern(&mut self, descriptor: Vec<u8>, memory: &mut Memory) -> u32 {
        if let Some(&id) = self.descriptor_ids.get(descriptor.as_slice()) {
            return id;
        }
        let id = self.descriptors.len() as u32; // not more than there are entries
        memory.take(descriptor.len());
        let descriptor: Arc<[u8]> = descriptor.into();
        self.descriptors.push(descriptor.clone());
        self.descriptor_ids.insert(descriptor, id);
        id
    }
}
