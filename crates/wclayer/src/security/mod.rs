//! Security descriptors: the owner of a file, and the access rights to it.
//!
//! Layers carry them in self-relative form, one per file, and most files of an image share a few dozen. This
//! module parses untrusted ones ([`SecurityDescriptor::parse`]), writes them
//! ([`SecurityDescriptor::to_bytes`]), reads and prints SDDL text, and computes the one that NTFS would give
//! a new file ([`SecurityDescriptor::inherit`]), for files that Linux programs create in a container.
//!
//! ```text
//! 0                    20
//! | header, 4 offsets  | owner SID | group SID | SACL | DACL |   canonical order; any other is read too
//!
//! ACL: | revision, size, count | ACE | ACE | …     ACE: | type, flags, size | rights | … | SID | … |
//! ```
//!
//! Reading and writing loses nothing: ACE types that this version does not know stay as bytes, conditions and
//! resource attributes stay behind the SID they follow, and control bits are kept. A missing DACL, a NULL
//! DACL (everybody may do everything) and an empty one (nobody may do anything) are three different things.
//!
//! ```
//! use wclayer::security::{SecurityDescriptor, Sid};
//!
//! let parent = SecurityDescriptor::from_sddl("O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICIIO;GA;;;CO)")?;
//! let child = SecurityDescriptor::inherit(&parent, false, &Sid::ADMINISTRATORS, &Sid::SYSTEM);
//! assert_eq!(child.to_sddl()?, "O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: \[MS-DTYP\] 2.4.2 (SID), 2.4.4 (ACE), 2.4.5 (ACL), 2.4.6 (SECURITY_DESCRIPTOR), 2.5.1 (SDDL),
//! 2.5.3.4 (inheritance).

mod ace;
mod acl;
mod claim;
mod condition;
mod descriptor;
mod inherit;
mod sddl;
mod sid;

pub use ace::{Ace, AceBody, ace_flags, ace_types, rights};
pub use acl::Acl;
pub use descriptor::{AclSlot, SecurityDescriptor, control};
pub use sddl::SddlError;
pub use sid::Sid;

/// Why bytes are not a security descriptor, or why one cannot be written. Offsets count from the start of the
/// descriptor (or of the SID, when only a SID is read).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// A part does not lie within the bytes.
    #[error("{what} at offset {offset:#x} needs {needed} bytes, {available} are there")]
    Truncated {
        /// `header`, `owner`, `DACL`, `ACE 3 of the DACL` …
        what: String,
        /// Where the part starts.
        offset: usize,
        /// Bytes it needs, as far as that is known.
        needed: usize,
        /// Bytes from there to the end of the enclosing part.
        available: usize,
    },
    /// A revision this format does not have.
    #[error("{what} at offset {offset:#x} has revision {revision}")]
    Revision {
        /// The part.
        what: String,
        /// Where it starts.
        offset: usize,
        /// Its value.
        revision: u8,
    },
    /// The descriptor holds pointers instead of offsets.
    #[error("security descriptor is not self-relative (control {control:#06x})")]
    NotSelfRelative {
        /// The control bits.
        control: u16,
    },
    /// A SID with more parts than any SID has.
    #[error("{what} at offset {offset:#x} has {count} sub-authorities, at most 15 are possible")]
    SubAuthorities {
        /// The part.
        what: String,
        /// Where it starts.
        offset: usize,
        /// How many it has.
        count: usize,
    },
    /// A size field is too small for its own header.
    #[error("{what} at offset {offset:#x} says it has {size} bytes, which is less than its header")]
    Size {
        /// The part.
        what: String,
        /// Where it starts.
        offset: usize,
        /// Its value.
        size: usize,
    },
    /// Something to be written does not fit its 16-bit field.
    #[error("{what} would have {count}, at most 65535 fit its field")]
    TooLarge {
        /// The part and the unit of the count.
        what: &'static str,
        /// How many.
        count: usize,
    },
}
