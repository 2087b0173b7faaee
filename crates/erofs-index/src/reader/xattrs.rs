//! Extended attributes: those beside an inode, and those it shares.

use zerocopy::FromBytes;

use super::{Image, InodeInfo, ReadAt, ReadError};
use crate::Namespace;
use crate::format::{BLOCK_SIZE, XATTR_UNIT, XattrEntry, XattrHeader};

/// An attribute: namespace, name behind the namespace's prefix, value.
pub type Xattr = (Namespace, Vec<u8>, Vec<u8>);

impl<S: ReadAt> Image<S> {
    /// All attributes of an inode, by namespace and name.
    pub fn xattrs(&self, inode: &InodeInfo) -> Result<Vec<Xattr>, ReadError> {
        let mut found = Vec::new();
        self.visit_xattrs(inode, |namespace, name, value| {
            found.push((namespace, name.to_vec(), value.to_vec()));
            true
        })?;
        found.sort_unstable();
        Ok(found)
    }

    /// The value of one attribute.
    pub fn xattr(
        &self,
        inode: &InodeInfo,
        namespace: Namespace,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let mut found = None;
        self.visit_xattrs(inode, |other_namespace, other_name, value| {
            if other_namespace == namespace && other_name == name {
                found = Some(value.to_vec());
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Passes the attributes to `visit` in the kernel's order, those beside the inode first, until it returns
    /// `false`.
    fn visit_xattrs(
        &self,
        inode: &InodeInfo,
        mut visit: impl FnMut(Namespace, &[u8], &[u8]) -> bool,
    ) -> Result<(), ReadError> {
        let (offset, length) = inode.xattr_range();
        if length == 0 {
            return Ok(());
        }
        let body = self.read_vec("list of attributes", offset, length)?;
        let place = Place { inode, offset };
        let Ok((header, rest)) = XattrHeader::read_from_prefix(&body) else {
            return Err(place.problem("length", length, size_of::<XattrHeader>()));
        };
        let shared_bytes = usize::from(header.shared_count) * XATTR_UNIT;
        let Some((shared, mut inline)) = rest.split_at_checked(shared_bytes) else {
            return Err(place.problem("length of shared identifiers", shared_bytes, rest.len()));
        };
        while !inline.is_empty() {
            let entry = parse_entry(inline, place)?;
            if !visit(entry.namespace, entry.name, entry.value) {
                return Ok(());
            }
            inline = inline.get(entry.size..).unwrap_or_default();
        }
        for unit in shared.as_chunks::<XATTR_UNIT>().0 {
            let bytes = self.shared_xattr(inode, u32::from_le_bytes(*unit))?;
            let entry = parse_entry(&bytes, place)?;
            if !visit(entry.namespace, entry.name, entry.value) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The bytes of a shared attribute, including its entry.
    fn shared_xattr(&self, inode: &InodeInfo, unit: u32) -> Result<Vec<u8>, ReadError> {
        let area = u64::from(self.superblock.xattr_block.get()) * BLOCK_SIZE as u64;
        let offset = area + u64::from(unit) * XATTR_UNIT as u64;
        let entry: XattrEntry = self.read_struct("shared attribute", offset)?;
        let size =
            size_of::<XattrEntry>() + usize::from(entry.name_length) + usize::from(entry.value_length.get());
        let limit = self.length;
        self.read_vec("shared attribute", offset, size).map_err(|error| match error {
            ReadError::BeyondEnd { .. } => {
                let (what, actual) = ("end of a shared attribute", offset + size as u64);
                ReadError::XattrList { nid: inode.nid, offset, what, actual, limit }
            }
            other => other,
        })
    }
}

/// The list that is being read, for errors.
#[derive(Clone, Copy)]
struct Place<'a> {
    inode: &'a InodeInfo,
    offset: u64,
}

impl Place<'_> {
    fn problem(self, what: &'static str, actual: usize, limit: usize) -> ReadError {
        let (nid, offset) = (self.inode.nid, self.offset);
        ReadError::XattrList { nid, offset, what, actual: actual as u64, limit: limit as u64 }
    }
}

/// An attribute as it lies in the image.
struct Entry<'a> {
    namespace: Namespace,
    name: &'a [u8],
    value: &'a [u8],
    /// Bytes of all of it, padding included.
    size: usize,
}

/// Parses the entry at the start of `bytes`.
fn parse_entry<'a>(bytes: &'a [u8], place: Place<'_>) -> Result<Entry<'a>, ReadError> {
    let Ok((entry, rest)) = XattrEntry::read_from_prefix(bytes) else {
        return Err(place.problem("length of an entry", size_of::<XattrEntry>(), bytes.len()));
    };
    let (name_length, value_length) = (usize::from(entry.name_length), usize::from(entry.value_length.get()));
    let Some((name, rest)) = rest.split_at_checked(name_length) else {
        return Err(place.problem("length of a name", name_length, rest.len()));
    };
    let Some(value) = rest.get(..value_length) else {
        return Err(place.problem("length of a value", value_length, rest.len()));
    };
    if name.is_empty() || name.contains(&0) {
        return Err(place.problem("length of a name without NUL", 0, name_length));
    }
    let Some(namespace) = Namespace::from_disk(entry.namespace) else {
        let (nid, what) = (place.inode.nid, "an attribute of namespace");
        return Err(ReadError::UnsupportedInode { nid, what, actual: entry.namespace.into() });
    };
    let size = (size_of::<XattrEntry>() + name_length + value_length).next_multiple_of(XATTR_UNIT);
    Ok(Entry { namespace, name, value, size })
}
