//! The descriptor itself: owner, group and two lists, located by offsets.

use super::{Acl, SecurityError, Sid};
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Control bits. Source: \[MS-DTYP\] 2.4.6.
pub mod control {
    /// The owner came from a default.
    pub const OWNER_DEFAULTED: u16 = 0x0001;
    /// The group came from a default.
    pub const GROUP_DEFAULTED: u16 = 0x0002;
    /// There is a DACL, or a NULL DACL.
    pub const DACL_PRESENT: u16 = 0x0004;
    /// The DACL came from a default.
    pub const DACL_DEFAULTED: u16 = 0x0008;
    /// There is a SACL, or a NULL SACL.
    pub const SACL_PRESENT: u16 = 0x0010;
    /// The SACL came from a default.
    pub const SACL_DEFAULTED: u16 = 0x0020;
    /// The DACL is to be computed from the parent's on setting.
    pub const DACL_AUTO_INHERIT_REQ: u16 = 0x0100;
    /// The SACL is to be computed from the parent's on setting.
    pub const SACL_AUTO_INHERIT_REQ: u16 = 0x0200;
    /// The DACL follows the parent's when that changes.
    pub const DACL_AUTO_INHERITED: u16 = 0x0400;
    /// The SACL follows the parent's when that changes.
    pub const SACL_AUTO_INHERITED: u16 = 0x0800;
    /// The DACL inherits nothing.
    pub const DACL_PROTECTED: u16 = 0x1000;
    /// The SACL inherits nothing.
    pub const SACL_PROTECTED: u16 = 0x2000;
    /// The byte after the revision has a meaning for the object's manager.
    pub const RM_CONTROL_VALID: u16 = 0x4000;
    /// Offsets, not pointers. Always so in a layer.
    pub const SELF_RELATIVE: u16 = 0x8000;
}

/// Bits that follow from the rest of the descriptor.
const DERIVED: u16 = control::DACL_PRESENT | control::SACL_PRESENT | control::SELF_RELATIVE;

/// The fixed part.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    revision: u8,
    /// `Sbz1`; see [`control::RM_CONTROL_VALID`].
    resource_manager: u8,
    control: U16,
    /// These offsets count from the start of the descriptor; 0 means none.
    owner: U32,
    group: U32,
    sacl: U32,
    dacl: U32,
}
const _: () = assert!(size_of::<Header>() == 20);

/// A DACL or SACL, or one of the two ways to have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum AclSlot {
    /// Not present: the object's manager decides.
    #[default]
    Absent,
    /// Present but NULL. As a DACL: everybody may do everything.
    Null,
    /// A list. As a DACL without entries: nobody may do anything.
    List(Acl),
}

impl AclSlot {
    /// The list, if there is one.
    pub fn list(&self) -> Option<&Acl> {
        match self {
            AclSlot::List(acl) => Some(acl),
            AclSlot::Absent | AclSlot::Null => None,
        }
    }

    fn is_present(&self) -> bool {
        !matches!(self, AclSlot::Absent)
    }
}

/// A security descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SecurityDescriptor {
    /// Bits of [`control`], less `DACL_PRESENT`, `SACL_PRESENT` and `SELF_RELATIVE`, which follow from the
    /// rest (see [`SecurityDescriptor::control_word`]).
    pub control: u16,
    /// The byte after the revision.
    pub resource_manager: u8,
    /// The owner, who may always change the DACL.
    pub owner: Option<Sid>,
    /// The primary group; POSIX emulations use it.
    pub group: Option<Sid>,
    /// Auditing, the integrity label, resource attributes.
    pub sacl: AclSlot,
    /// The access rights.
    pub dacl: AclSlot,
}

impl SecurityDescriptor {
    /// Reads a self-relative descriptor. Its parts may lie in any order; other bytes are ignored. The length
    /// of `bytes` bounds time and memory.
    ///
    /// # Errors
    /// [`SecurityError`] when a part lies outside `bytes` or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<SecurityDescriptor, SecurityError> {
        let (header, _) = Header::read_from_prefix(bytes).map_err(|_| SecurityError::Truncated {
            what: "header".to_owned(),
            offset: 0,
            needed: size_of::<Header>(),
            available: bytes.len(),
        })?;
        let Header { revision, resource_manager, .. } = header;
        if revision != 1 {
            let what = "security descriptor".to_owned();
            return Err(SecurityError::Revision { what, offset: 0, revision });
        }
        let control = header.control.get();
        if control & control::SELF_RELATIVE == 0 {
            return Err(SecurityError::NotSelfRelative { control });
        }
        Ok(SecurityDescriptor {
            control: control & !DERIVED,
            resource_manager,
            owner: read_sid(bytes, header.owner, "owner")?,
            group: read_sid(bytes, header.group, "group")?,
            sacl: read_slot(bytes, header.sacl, control & control::SACL_PRESENT != 0, "SACL")?,
            dacl: read_slot(bytes, header.dacl, control & control::DACL_PRESENT != 0, "DACL")?,
        })
    }

    /// The self-relative form, its parts in the order owner, group, SACL, DACL without gaps: the order that
    /// Windows uses. A descriptor that was read in this order gives the same bytes.
    ///
    /// # Errors
    /// [`SecurityError::TooLarge`] when an ACL exceeds 65,535 bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SecurityError> {
        let mut bytes = vec![0; size_of::<Header>()];
        // Two SIDs and two ACLs, whose sizes are 16-bit fields: every offset fits 32 bits.
        let at = |bytes: &mut Vec<u8>| {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            U32::new(bytes.len() as u32)
        };
        let sid = |bytes: &mut Vec<u8>, sid: &Option<Sid>| {
            let Some(sid) = sid else { return U32::ZERO };
            let offset = at(bytes);
            sid.write(bytes);
            offset
        };
        let list = |bytes: &mut Vec<u8>, slot: &AclSlot| {
            let Some(acl) = slot.list() else { return Ok(U32::ZERO) };
            let offset = at(bytes);
            acl.write(bytes).map(|()| offset)
        };
        let header = Header {
            revision: 1,
            resource_manager: self.resource_manager,
            control: U16::new(self.control_word()),
            owner: sid(&mut bytes, &self.owner),
            group: sid(&mut bytes, &self.group),
            sacl: list(&mut bytes, &self.sacl)?,
            dacl: list(&mut bytes, &self.dacl)?,
        };
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        Ok(bytes)
    }

    /// The control bits as they are written, including those that follow from the rest.
    pub fn control_word(&self) -> u16 {
        let bit = |slot: &AclSlot, bit| if slot.is_present() { bit } else { 0 };
        self.control & !DERIVED
            | control::SELF_RELATIVE
            | bit(&self.dacl, control::DACL_PRESENT)
            | bit(&self.sacl, control::SACL_PRESENT)
    }
}

fn read_sid(bytes: &[u8], offset: U32, what: &str) -> Result<Option<Sid>, SecurityError> {
    match offset.get() as usize {
        0 => Ok(None),
        offset => Sid::read(bytes, offset, &|| what.to_owned()).map(Some),
    }
}

/// Without its control bit a list is absent, even if it has an offset.
fn read_slot(bytes: &[u8], offset: U32, present: bool, name: &str) -> Result<AclSlot, SecurityError> {
    match (present, offset.get() as usize) {
        (false, _) => Ok(AclSlot::Absent),
        (true, 0) => Ok(AclSlot::Null),
        (true, offset) => Acl::read(bytes, offset, name).map(AclSlot::List),
    }
}

#[cfg(test)]
mod tests;
