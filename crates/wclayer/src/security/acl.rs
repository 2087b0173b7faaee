//! Access control lists: ACEs in the order of evaluation.

use super::ace::Ace;
use super::{SecurityError, ace_types};

/// Bytes before the first ACE.
const HEADER_SIZE: usize = 8;
/// `ACL_REVISION`: enough for every ACE without GUIDs.
pub(super) const ACL_REVISION: u8 = 2;
/// `ACL_REVISION_DS`: allows object ACEs.
pub(super) const ACL_REVISION_DS: u8 = 4;

/// An access control list.
///
/// Reserved bytes of the header and unused bytes after the last ACE are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// 2, or 4 when there are object ACEs. 3 is read too.
    pub revision: u8,
    /// The entries.
    pub aces: Vec<Ace>,
}

impl Acl {
    /// A list of these entries with the revision they need.
    pub fn new(aces: Vec<Ace>) -> Acl {
        let needs_ds = |ace: &Ace| {
            (ace_types::ACCESS_ALLOWED_OBJECT..=ace_types::SYSTEM_ALARM_OBJECT).contains(&ace.ace_type)
        };
        let revision = if aces.iter().any(needs_ds) { ACL_REVISION_DS } else { ACL_REVISION };
        Acl { revision, aces }
    }

    /// Reads the list at `offset`; `name` is `DACL` or `SACL`.
    pub(super) fn read(bytes: &[u8], offset: usize, name: &str) -> Result<Acl, SecurityError> {
        let rest = bytes.get(offset..).unwrap_or_default();
        let truncated = |needed| {
            let what = name.to_owned();
            SecurityError::Truncated { what, offset, needed, available: rest.len() }
        };
        let &[revision, _, size_low, size_high, count_low, count_high, _, _] =
            rest.first_chunk::<HEADER_SIZE>().ok_or_else(|| truncated(HEADER_SIZE))?;
        if !(ACL_REVISION..=ACL_REVISION_DS).contains(&revision) {
            return Err(SecurityError::Revision { what: name.to_owned(), offset, revision });
        }
        let size = usize::from(u16::from_le_bytes([size_low, size_high]));
        if size < HEADER_SIZE {
            return Err(SecurityError::Size { what: name.to_owned(), offset, size });
        }
        if size > rest.len() {
            return Err(truncated(size));
        }
        let mut aces = Vec::new();
        let mut next = offset + HEADER_SIZE;
        for index in 0..u16::from_le_bytes([count_low, count_high]) {
            let (ace, end) = Ace::read(bytes, next, offset + size, &|| format!("ACE {index} of the {name}"))?;
            aces.push(ace);
            next = end;
        }
        Ok(Acl { revision, aces })
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), SecurityError> {
        let count = self.aces.len();
        let count = u16::try_from(count)
            .map_err(|_| SecurityError::TooLarge { what: "number of ACEs of an ACL", count })?;
        let start = bytes.len();
        bytes.extend([self.revision, 0, 0, 0]);
        bytes.extend(count.to_le_bytes());
        bytes.extend([0, 0]);
        self.aces.iter().try_for_each(|ace| ace.write(bytes))?;
        let size = bytes.len() - start;
        let size = u16::try_from(size)
            .map_err(|_| SecurityError::TooLarge { what: "number of bytes of an ACL", count: size })?;
        bytes[start + 2..start + 4].copy_from_slice(&size.to_le_bytes());
        Ok(())
    }
}
