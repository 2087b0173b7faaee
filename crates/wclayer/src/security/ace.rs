//! Access control entries: grant rights to one SID, deny them or audit them.

use super::{SecurityError, Sid};

/// Types of ACEs: the first byte, which decides about the layout of the rest.
///
/// Source: \[MS-DTYP\] 2.4.4.1.
pub mod ace_types {
    /// Gives rights.
    pub const ACCESS_ALLOWED: u8 = 0x00;
    /// Takes rights.
    pub const ACCESS_DENIED: u8 = 0x01;
    /// Logs use of rights.
    pub const SYSTEM_AUDIT: u8 = 0x02;
    /// Reserved.
    pub const SYSTEM_ALARM: u8 = 0x03;
    /// Gives rights on a property or kind of child of a directory service object.
    pub const ACCESS_ALLOWED_OBJECT: u8 = 0x05;
    /// Takes such rights.
    pub const ACCESS_DENIED_OBJECT: u8 = 0x06;
    /// Logs use of such rights.
    pub const SYSTEM_AUDIT_OBJECT: u8 = 0x07;
    /// Reserved.
    pub const SYSTEM_ALARM_OBJECT: u8 = 0x08;
    /// Gives rights under a condition, which follows the SID.
    pub const ACCESS_ALLOWED_CALLBACK: u8 = 0x09;
    /// Takes rights under a condition.
    pub const ACCESS_DENIED_CALLBACK: u8 = 0x0A;
    /// Object variant of [`ACCESS_ALLOWED_CALLBACK`].
    pub const ACCESS_ALLOWED_CALLBACK_OBJECT: u8 = 0x0B;
    /// Object variant of [`ACCESS_DENIED_CALLBACK`].
    pub const ACCESS_DENIED_CALLBACK_OBJECT: u8 = 0x0C;
    /// Logs use of rights under a condition.
    pub const SYSTEM_AUDIT_CALLBACK: u8 = 0x0D;
    /// Reserved.
    pub const SYSTEM_ALARM_CALLBACK: u8 = 0x0E;
    /// Object variant of [`SYSTEM_AUDIT_CALLBACK`].
    pub const SYSTEM_AUDIT_CALLBACK_OBJECT: u8 = 0x0F;
    /// Reserved.
    pub const SYSTEM_ALARM_CALLBACK_OBJECT: u8 = 0x10;
    /// The integrity level (SID S-1-16-…) below which the rights in the mask are withheld.
    pub const SYSTEM_MANDATORY_LABEL: u8 = 0x11;
    /// A named value for conditions to refer to; it follows the SID.
    pub const SYSTEM_RESOURCE_ATTRIBUTE: u8 = 0x12;
    /// The central access policy in force.
    pub const SYSTEM_SCOPED_POLICY_ID: u8 = 0x13;
    /// The trust level of processes.
    pub const SYSTEM_PROCESS_TRUST_LABEL: u8 = 0x14;
    /// Limits rights under a condition.
    pub const SYSTEM_ACCESS_FILTER: u8 = 0x15;
}

/// Bits of [`Ace::flags`]. Source: \[MS-DTYP\] 2.4.4.1.
pub mod ace_flags {
    /// Files in this directory inherit the ACE.
    pub const OBJECT_INHERIT: u8 = 0x01;
    /// Directories in this directory inherit it.
    pub const CONTAINER_INHERIT: u8 = 0x02;
    /// A child that inherits it does not pass it on.
    pub const NO_PROPAGATE_INHERIT: u8 = 0x04;
    /// It has no effect here and only waits to be inherited.
    pub const INHERIT_ONLY: u8 = 0x08;
    /// It was inherited.
    pub const INHERITED: u8 = 0x10;
    /// It may not be ignored (access filters).
    pub const CRITICAL: u8 = 0x20;
    /// Audit: log what succeeds.
    pub const SUCCESSFUL_ACCESS: u8 = 0x40;
    /// Audit: log what fails.
    pub const FAILED_ACCESS: u8 = 0x80;
}

/// Access masks that stand for several rights. Source: \[MS-DTYP\] 2.4.3, winnt.h.
pub mod rights {
    /// Everything; to be mapped to the rights of the kind of object.
    pub const GENERIC_ALL: u32 = 0x1000_0000;
    /// Execute, to be mapped.
    pub const GENERIC_EXECUTE: u32 = 0x2000_0000;
    /// Write, to be mapped.
    pub const GENERIC_WRITE: u32 = 0x4000_0000;
    /// Read, to be mapped.
    pub const GENERIC_READ: u32 = 0x8000_0000;
    /// All rights on a file: [`GENERIC_ALL`] mapped to files.
    pub const FILE_ALL: u32 = 0x001F_01FF;
    /// [`GENERIC_READ`] mapped to files.
    pub const FILE_READ: u32 = 0x0012_0089;
    /// [`GENERIC_WRITE`] mapped to files.
    pub const FILE_WRITE: u32 = 0x0012_0116;
    /// [`GENERIC_EXECUTE`] mapped to files.
    pub const FILE_EXECUTE: u32 = 0x0012_00A0;
    /// All rights on a registry key.
    pub const KEY_ALL: u32 = 0x000F_003F;
    /// Reading a registry key.
    pub const KEY_READ: u32 = 0x0002_0019;
    /// Writing a registry key.
    pub const KEY_WRITE: u32 = 0x0002_0006;
}

/// Bytes of an ACE before its body.
const HEADER_SIZE: usize = 4;
/// Bytes of a GUID.
const GUID_SIZE: usize = 16;
/// An object ACE names the kind of object it applies to.
const OBJECT_TYPE_PRESENT: u32 = 1;
/// An object ACE names the kind of object that inherits it.
const INHERITED_OBJECT_TYPE_PRESENT: u32 = 2;

/// One access control entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ace {
    /// One of [`ace_types`], or a number this version does not know.
    pub ace_type: u8,
    /// Bits of [`ace_flags`].
    pub flags: u8,
    /// The rest, whose layout depends on the type.
    pub body: AceBody,
}

/// The part of an ACE after type, flags and size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AceBody {
    /// Rights and a SID.
    Plain {
        /// The rights (for a mandatory label: those that are withheld).
        mask: u32,
        /// The SID it applies to.
        sid: Sid,
        /// The bytes after the SID: a condition, a resource attribute, or padding.
        extra: Vec<u8>,
    },
    /// Rights, up to two GUIDs and a SID.
    Object {
        /// The rights.
        mask: u32,
        /// Property, property set, extended right or kind of child; bytes as they lie on disk.
        object_type: Option<[u8; GUID_SIZE]>,
        /// The kind of object that inherits the ACE.
        inherited_object_type: Option<[u8; GUID_SIZE]>,
        /// The SID it applies to.
        sid: Sid,
        /// The bytes after the SID.
        extra: Vec<u8>,
    },
    /// Bytes of a type without a known layout.
    Raw(Vec<u8>),
}

/// The layout of a type's body.
enum Layout {
    Plain,
    Object,
    Unknown,
}

fn layout(ace_type: u8) -> Layout {
    use ace_types::*;
    match ace_type {
        ACCESS_ALLOWED..=SYSTEM_ALARM
        | ACCESS_ALLOWED_CALLBACK
        | ACCESS_DENIED_CALLBACK
        | SYSTEM_AUDIT_CALLBACK
        | SYSTEM_ALARM_CALLBACK
        | SYSTEM_MANDATORY_LABEL..=SYSTEM_ACCESS_FILTER => Layout::Plain,
        ACCESS_ALLOWED_OBJECT..=SYSTEM_ALARM_OBJECT
        | ACCESS_ALLOWED_CALLBACK_OBJECT
        | ACCESS_DENIED_CALLBACK_OBJECT
        | SYSTEM_AUDIT_CALLBACK_OBJECT
        | SYSTEM_ALARM_CALLBACK_OBJECT => Layout::Object,
        _ => Layout::Unknown,
    }
}

impl Ace {
    /// An ACE of a type that has only rights and a SID, such as [`ace_types::ACCESS_ALLOWED`].
    pub fn plain(ace_type: u8, flags: u8, mask: u32, sid: Sid) -> Ace {
        Ace { ace_type, flags, body: AceBody::Plain { mask, sid, extra: Vec::new() } }
    }

    /// The rights, unless the layout is unknown.
    pub fn mask(&self) -> Option<u32> {
        match self.body {
            AceBody::Plain { mask, .. } | AceBody::Object { mask, .. } => Some(mask),
            AceBody::Raw(_) => None,
        }
    }

    /// The SID it applies to, unless the layout is unknown.
    pub fn sid(&self) -> Option<&Sid> {
        match &self.body {
            AceBody::Plain { sid, .. } | AceBody::Object { sid, .. } => Some(sid),
            AceBody::Raw(_) => None,
        }
    }

    /// Whether it has effect on the object that carries it.
    pub fn is_effective(&self) -> bool {
        self.flags & ace_flags::INHERIT_ONLY == 0
    }

    /// Reads the ACE at `offset`, which must end before `end`; returns the offset behind it.
    pub(super) fn read(
        bytes: &[u8],
        offset: usize,
        end: usize,
        what: &dyn Fn() -> String,
    ) -> Result<(Ace, usize), SecurityError> {
        let rest = bytes.get(offset..end).unwrap_or_default();
        let truncated =
            |needed| SecurityError::Truncated { what: what(), offset, needed, available: rest.len() };
        let &[ace_type, flags, size_low, size_high] =
            rest.first_chunk::<HEADER_SIZE>().ok_or_else(|| truncated(HEADER_SIZE))?;
        let size = usize::from(u16::from_le_bytes([size_low, size_high]));
        if size < HEADER_SIZE {
            return Err(SecurityError::Size { what: what(), offset, size });
        }
        if size > rest.len() {
            return Err(truncated(size));
        }
        let end = offset + size;
        let body = Body { bytes: &bytes[..end], start: offset, what };
        let body = match layout(ace_type) {
            Layout::Plain => body.plain()?,
            Layout::Object => body.object()?,
            Layout::Unknown => body.raw(),
        };
        Ok((Ace { ace_type, flags, body }, end))
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), SecurityError> {
        let start = bytes.len();
        bytes.extend([self.ace_type, self.flags, 0, 0]);
        match &self.body {
            AceBody::Plain { mask, sid, extra } => {
                bytes.extend(mask.to_le_bytes());
                sid.write(bytes);
                bytes.extend_from_slice(extra);
            }
            AceBody::Object { mask, object_type, inherited_object_type, sid, extra } => {
                let flag = |guid: &Option<_>, bit| if guid.is_some() { bit } else { 0 };
                let present = flag(object_type, OBJECT_TYPE_PRESENT)
                    | flag(inherited_object_type, INHERITED_OBJECT_TYPE_PRESENT);
                bytes.extend(mask.to_le_bytes());
                bytes.extend(present.to_le_bytes());
                bytes.extend(object_type.iter().chain(inherited_object_type).flatten());
                sid.write(bytes);
                bytes.extend_from_slice(extra);
            }
            AceBody::Raw(raw) => bytes.extend_from_slice(raw),
        }
        let size = bytes.len() - start;
        let field = u16::try_from(size)
            .map_err(|_| SecurityError::TooLarge { what: "number of bytes of an ACE", count: size })?;
        bytes[start + 2..start + 4].copy_from_slice(&field.to_le_bytes());
        Ok(())
    }
}

/// An ACE while its body is read.
struct Body<'a> {
    /// The descriptor up to the end of the ACE.
    bytes: &'a [u8],
    /// Where the ACE starts.
    start: usize,
    what: &'a dyn Fn() -> String,
}

impl Body<'_> {
    fn plain(&self) -> Result<AceBody, SecurityError> {
        let mask = self.number(HEADER_SIZE)?;
        let (sid, extra) = self.sid_and_extra(HEADER_SIZE + 4)?;
        Ok(AceBody::Plain { mask, sid, extra })
    }

    /// Flags other than the two that say which GUIDs follow have no meaning; such an ACE is kept as bytes.
    fn object(&self) -> Result<AceBody, SecurityError> {
        let mask = self.number(HEADER_SIZE)?;
        let present = self.number(HEADER_SIZE + 4)?;
        if present & !(OBJECT_TYPE_PRESENT | INHERITED_OBJECT_TYPE_PRESENT) != 0 {
            return Ok(self.raw());
        }
        let mut offset = HEADER_SIZE + 8;
        let mut guid = |bit| {
            if present & bit == 0 {
                return Ok(None);
            }
            offset += GUID_SIZE;
            self.array(offset - GUID_SIZE).map(Some)
        };
        let object_type = guid(OBJECT_TYPE_PRESENT)?;
        let inherited_object_type = guid(INHERITED_OBJECT_TYPE_PRESENT)?;
        let (sid, extra) = self.sid_and_extra(offset)?;
        Ok(AceBody::Object { mask, object_type, inherited_object_type, sid, extra })
    }

    fn raw(&self) -> AceBody {
        AceBody::Raw(self.bytes[self.start + HEADER_SIZE..].to_vec())
    }

    /// `offset` counts from the start of the ACE, here and below.
    fn sid_and_extra(&self, offset: usize) -> Result<(Sid, Vec<u8>), SecurityError> {
        let offset = self.start + offset;
        let sid = Sid::read(self.bytes, offset, &|| format!("SID of {}", (self.what)()))?;
        Ok((sid, self.bytes[offset + sid.size()..].to_vec()))
    }

    fn number(&self, offset: usize) -> Result<u32, SecurityError> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], SecurityError> {
        let rest = self.bytes.get(self.start + offset..).unwrap_or_default();
        rest.first_chunk().copied().ok_or_else(|| SecurityError::Truncated {
            what: (self.what)(),
            offset: self.start,
            needed: offset + N,
            available: self.bytes.len() - self.start,
        })
    }
}
