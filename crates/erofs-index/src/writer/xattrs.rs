//! Collects attributes before they are written: stores every distinct attribute and every distinct set once.
//!
//! Most of an image's attributes repeat (security descriptors, flags), and most sets differ in a few values.
//! An attribute of several inodes goes to the shared area, and so does one larger than a block: that keeps
//! inodes close together and their lists short. The others are stored beside the inode. Memory: 20 bytes and
//! the value per distinct attribute, 4 bytes per attribute of a distinct set, 4 to 8 bytes of hash table for
//! each.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use zerocopy::IntoBytes;

use super::error::{BuildError, shown};
use crate::Namespace;
use crate::format::{self, XATTR_UNIT, XattrEntry, XattrHeader};
use crate::xattr::filter_bit;

/// A set of attributes, which many inodes may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct XattrSetId(pub(super) u32);

impl XattrSetId {
    /// No attributes; known to every builder.
    pub const EMPTY: Self = Self(0);
}

/// The attributes that one inode can have in the shared area: their count has 8 bits.
const SHARED_MAX: usize = u8::MAX as usize;
/// Most bytes of an attribute, including its name, beside the only inode that has it.
const INLINE_MAX: usize = format::BLOCK_SIZE;

/// The attributes of a builder's inodes.
#[derive(Debug, Default)]
pub(super) struct XattrTable {
    names: Vec<Name>,
    name_ids: HashTable<u32>,
    attributes: Vec<Attribute>,
    attribute_ids: HashTable<u32>,
    values: Vec<u8>,
    /// All sets' members, one set after the other, each ascending by namespace and name.
    members: Vec<u32>,
    sets: Vec<Set>,
    set_ids: HashTable<u32>,
    /// Random, so that nobody can prepare collisions. The image does not depend on it: tables are never
    /// iterated.
    hasher: RandomState,
}

#[derive(Debug)]
struct Name {
    namespace: Namespace,
    bytes: Box<[u8]>,
    /// Its bit in a list's filter.
    filter: u32,
}

#[derive(Clone, Copy, Debug)]
struct Attribute {
    name: u32,
    value: u32,
    length: u16,
    place: Place,
}

/// The place of an attribute, which [`XattrTable::place`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unused,
    Inline,
    Shared(u32),
}

#[derive(Clone, Copy, Debug)]
struct Set {
    /// End of its members; they begin at the end of the previous set's.
    end: u32,
    inodes: u32,
    /// Bytes beside each inode, once all attributes have a place.
    body: u32,
}

impl XattrTable {
    pub(super) fn new() -> Self {
        Self { sets: vec![Set { end: 0, inodes: 0, body: 0 }], ..Self::default() }
    }

    /// Counts one more inode with this set.
    pub(super) fn use_set(&mut self, set: XattrSetId) -> Result<(), BuildError> {
        let count = self.sets.len();
        let used =
            self.sets.get_mut(set.0 as usize).ok_or(BuildError::UnknownXattrSet { set: set.0, count })?;
        used.inodes = used.inodes.saturating_add(1);
        Ok(())
    }

    /// Undoes one `use_set`.
    pub(super) fn release_set(&mut self, set: XattrSetId) {
        if let Some(used) = self.sets.get_mut(set.0 as usize) {
            used.inodes = used.inodes.saturating_sub(1);
        }
    }

    /// The set with exactly these attributes, in any order.
    pub(super) fn set(&mut self, attributes: &[(Namespace, &[u8], &[u8])]) -> Result<XattrSetId, BuildError> {
        if attributes.is_empty() {
            return Ok(XattrSetId::EMPTY);
        }
        let mut sorted = attributes.to_vec();
        sorted.sort_unstable_by_key(|&(namespace, name, _)| (namespace, name));
        check_set(&sorted)?;
        let start = self.members.len();
        for &(namespace, name, value) in &sorted {
            let id = self.attribute(namespace, name, value).inspect_err(|_| self.members.truncate(start))?;
            self.members.push(id);
        }
        let hash = hash_of(&self.hasher, &self.members[start..]);
        let (sets, members) = (&self.sets, &self.members);
        let same = |&id: &u32| members[set_range(sets, id)] == members[start..];
        if let Some(&id) = self.set_ids.find(hash, same) {
            self.members.truncate(start);
            return Ok(XattrSetId(id));
        }
        let id = count_u32(self.sets.len(), "attribute sets")?;
        self.sets.push(Set { end: count_u32(self.members.len(), "attributes")?, inodes: 0, body: 0 });
        let (sets, members, hasher) = (&self.sets, &self.members, &self.hasher);
        self.set_ids.insert_unique(hash, id, |&id| hash_of(hasher, &members[set_range(sets, id)]));
        Ok(XattrSetId(id))
    }

    fn attribute(&mut self, namespace: Namespace, name: &[u8], value: &[u8]) -> Result<u32, BuildError> {
        let name = self.name(namespace, name)?;
        let hash = hash_of(&self.hasher, &(name, value));
        let (attributes, values) = (&self.attributes, &self.values);
        let same = |&id: &u32| {
            let attribute = attributes[id as usize];
            attribute.name == name && value_of(values, attribute) == value
        };
        if let Some(&id) = self.attribute_ids.find(hash, same) {
            return Ok(id);
        }
        let id = count_u32(self.attributes.len(), "attributes")?;
        let start = count_u32(self.values.len(), "bytes of attribute values")?;
        self.values.extend_from_slice(value);
        let length = value.len() as u16; // `check_set` has seen it
        self.attributes.push(Attribute { name, value: start, length, place: Place::Unused });
        let (attributes, values, hasher) = (&self.attributes, &self.values, &self.hasher);
        self.attribute_ids.insert_unique(hash, id, |&id| {
            let attribute = attributes[id as usize];
            hash_of(hasher, &(attribute.name, value_of(values, attribute)))
        });
        Ok(id)
    }

    fn name(&mut self, namespace: Namespace, bytes: &[u8]) -> Result<u32, BuildError> {
        let hash = hash_of(&self.hasher, &(namespace, bytes));
        let names = &self.names;
        let same =
            |&id: &u32| names[id as usize].namespace == namespace && *names[id as usize].bytes == *bytes;
        if let Some(&id) = self.name_ids.find(hash, same) {
            return Ok(id);
        }
        let id = count_u32(self.names.len(), "attribute names")?;
        self.names.push(Name { namespace, bytes: bytes.into(), filter: filter_bit(namespace, bytes) });
        let (names, hasher) = (&self.names, &self.hasher);
        self.name_ids.insert_unique(hash, id, |&id| {
            let name = &names[id as usize];
            hash_of(hasher, &(name.namespace, &*name.bytes))
        });
        Ok(id)
    }

    /// Decides the place of every attribute, and frees the memory that only `set` needs. Returns the bytes of
    /// the shared area.
    pub(super) fn place(&mut self) -> Result<u64, BuildError> {
        self.name_ids = HashTable::new();
        self.attribute_ids = HashTable::new();
        self.set_ids = HashTable::new();
        let mut end = 0_u64;
        for id in 0..self.sets.len() as u32 {
            let inodes = self.sets[id as usize].inodes;
            for member in set_range(&self.sets, id) {
                let attribute = self.members[member] as usize;
                if inodes > 0 {
                    let size = self.entry_size(self.attributes[attribute]);
                    let place = &mut self.attributes[attribute].place;
                    *place = match *place {
                        Place::Unused if inodes == 1 && size <= INLINE_MAX => Place::Inline,
                        Place::Unused | Place::Inline => {
                            let unit = shared_unit(end)?;
                            end += size as u64;
                            Place::Shared(unit)
                        }
                        Place::Shared(unit) => Place::Shared(unit),
                    };
                }
            }
        }
        for id in 0..self.sets.len() as u32 {
            self.sets[id as usize].body = self.measure_body(XattrSetId(id));
        }
        Ok(end)
    }

    /// Writes the attributes of the shared area in the order of their places.
    pub(super) fn write_shared(
        &self,
        mut put: impl FnMut(&[u8]) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let mut shared: Vec<(u32, Attribute)> = Vec::new();
        for &attribute in &self.attributes {
            if let Place::Shared(unit) = attribute.place {
                shared.push((unit, attribute));
            }
        }
        shared.sort_unstable_by_key(|&(unit, _)| unit);
        let mut entry = Vec::new();
        for (_, attribute) in shared {
            entry.clear();
            self.append_entry(attribute, &mut entry);
            put(&entry)?;
        }
        Ok(())
    }

    /// Bytes that a set takes beside each of its inodes; 0 for the empty set. Valid after `place`.
    pub(super) fn body_size(&self, set: XattrSetId) -> usize {
        self.sets[set.0 as usize].body as usize
    }

    fn measure_body(&self, set: XattrSetId) -> u32 {
        let (shared, inline) = self.split(set);
        let inline: usize = inline.map(|attribute| self.entry_size(attribute)).sum();
        match shared.count() * XATTR_UNIT + inline {
            0 => 0,
            size => (size_of::<XattrHeader>() + size) as u32, // `check_set` has seen it
        }
    }

    /// Appends the attribute list that is written beside each inode with this set.
    pub(super) fn append_body(&self, set: XattrSetId, out: &mut Vec<u8>) {
        let members = &self.members[set_range(&self.sets, set.0)];
        if members.is_empty() {
            return;
        }
        let mut filter = u32::MAX;
        for &member in members {
            filter &= !self.names[self.attributes[member as usize].name as usize].filter;
        }
        let (shared, inline) = self.split(set);
        let shared: Vec<u32> = shared.collect();
        let header = XattrHeader {
            name_filter: filter.into(),
            shared_count: shared.len() as u8, // `split` gives at most `SHARED_MAX`
            reserved: [0; 7],
        };
        out.extend_from_slice(header.as_bytes());
        for unit in shared {
            out.extend_from_slice(&unit.to_le_bytes());
        }
        for attribute in inline {
            self.append_entry(attribute, out);
        }
    }

    /// Splits a set's attributes by place: units of the shared area, and attributes beside the inode.
    fn split(&self, set: XattrSetId) -> (impl Iterator<Item = u32>, impl Iterator<Item = Attribute>) {
        let members =
            || self.members[set_range(&self.sets, set.0)].iter().map(|&id| self.attributes[id as usize]);
        let large = members().filter(|&attribute| self.entry_size(attribute) > INLINE_MAX).count();
        // If there are more than the list can name, large ones come first.
        let choose = move || {
            let (mut large_left, mut small_left) = (SHARED_MAX, SHARED_MAX.saturating_sub(large));
            move |attribute: Attribute| {
                let Place::Shared(unit) = attribute.place else { return None };
                let left =
                    if self.entry_size(attribute) > INLINE_MAX { &mut large_left } else { &mut small_left };
                *left = left.checked_sub(1)?;
                Some(unit)
            }
        };
        let mut not_shared = choose();
        (members().filter_map(choose()), members().filter(move |&attribute| not_shared(attribute).is_none()))
    }

    fn entry_size(&self, attribute: Attribute) -> usize {
        entry_size(self.names[attribute.name as usize].bytes.len(), usize::from(attribute.length))
    }

    fn append_entry(&self, attribute: Attribute, out: &mut Vec<u8>) {
        let name = &self.names[attribute.name as usize];
        let entry = XattrEntry {
            name_length: name.bytes.len() as u8, // `check_set` has seen it
            namespace: name.namespace.to_disk(),
            value_length: attribute.length.into(),
        };
        out.extend_from_slice(entry.as_bytes());
        out.extend_from_slice(&name.bytes);
        out.extend_from_slice(value_of(&self.values, attribute));
        out.resize(out.len().next_multiple_of(XATTR_UNIT), 0);
    }
}

fn check_set(sorted: &[(Namespace, &[u8], &[u8])]) -> Result<(), BuildError> {
    let (mut list, mut large) = (0, 0);
    let mut body = size_of::<XattrHeader>();
    for (index, &(namespace, name, value)) in sorted.iter().enumerate() {
        check_attribute(namespace, name, value)?;
        if index > 0 && sorted[index - 1].0 == namespace && sorted[index - 1].1 == name {
            return Err(BuildError::XattrTwice { namespace, name: shown(name) });
        }
        list += namespace.prefix().len() + name.len() + 1;
        let size = entry_size(name.len(), value.len());
        large += usize::from(size > INLINE_MAX);
        body += if size > INLINE_MAX && large <= SHARED_MAX { XATTR_UNIT } else { size };
    }
    let count = sorted.len();
    if list > format::XATTR_LIST_MAX {
        return Err(BuildError::XattrListLength { count, actual: list, limit: format::XATTR_LIST_MAX });
    }
    if body > format::XATTR_BODY_MAX {
        return Err(BuildError::XattrSetLength { count, actual: body, limit: format::XATTR_BODY_MAX });
    }
    Ok(())
}

fn check_attribute(namespace: Namespace, name: &[u8], value: &[u8]) -> Result<(), BuildError> {
    let prefix = namespace.prefix().len();
    let length = prefix + name.len();
    if name.is_empty() || length > format::XATTR_NAME_MAX {
        let (minimum, limit) = (prefix + 1, format::XATTR_NAME_MAX);
        return Err(BuildError::XattrNameLength {
            namespace,
            name: shown(name),
            actual: length,
            minimum,
            limit,
        });
    }
    if name.contains(&0) {
        return Err(BuildError::XattrNameNul { namespace, name: shown(name) });
    }
    let limit = format::XATTR_VALUE_MAX;
    if value.len() > limit {
        return Err(BuildError::XattrValueLength {
            namespace,
            name: shown(name),
            actual: value.len(),
            limit,
        });
    }
    Ok(())
}

fn entry_size(name: usize, value: usize) -> usize {
    (size_of::<XattrEntry>() + name + value).next_multiple_of(XATTR_UNIT)
}

/// The identifier of a shared attribute `offset` bytes behind the area's begin.
fn shared_unit(offset: u64) -> Result<u32, BuildError> {
    let limit = u64::from(u32::MAX) * XATTR_UNIT as u64;
    let unit = u32::try_from(offset / XATTR_UNIT as u64);
    unit.map_err(|_| BuildError::TooMany { what: "bytes of shared attributes", limit })
}

fn set_range(sets: &[Set], id: u32) -> std::ops::Range<usize> {
    let start = match id {
        0 => 0,
        _ => sets[id as usize - 1].end,
    };
    start as usize..sets[id as usize].end as usize
}

fn value_of(values: &[u8], attribute: Attribute) -> &[u8] {
    &values[attribute.value as usize..][..usize::from(attribute.length)]
}

fn hash_of<T: Hash + ?Sized>(hasher: &RandomState, value: &T) -> u64 {
    hasher.hash_one(value)
}

/// `count` as a 32-bit number; the largest value stays unused.
pub(super) fn count_u32(count: usize, what: &'static str) -> Result<u32, BuildError> {
    match u32::try_from(count) {
        Ok(number) if number < u32::MAX => Ok(number),
        _ => Err(BuildError::TooMany { what, limit: u64::from(u32::MAX) }),
    }
}
