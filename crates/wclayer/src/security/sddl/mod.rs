//! SDDL: security descriptors as text, `O:BAG:SYD:PAI(A;OICI;FA;;;SY)`.
//!
//! Old layers carry it in `MSWINDOWS.sd`; people read and write it everywhere. Text is as Windows prints it:
//! aliases if they exist, rights by name if all have one, else a hexadecimal number.
//!
//! Conditions (types XA, XD, ZA, XU) and resource attributes (RA) have text in both directions; one that
//! Windows' grammar cannot express, so that its text would read back as other bytes, is an error. Access
//! filters (FL) have no text; the binary form keeps everything. Control bits other than P, AR and AI have no
//! letters.
//!
//! Outside conditions upper and lower case matter. Blanks are allowed where Windows skips them: around the
//! parts, between ACEs, before a field and between rights. The numbers of a SID may be hexadecimal.
//!
//! Source: \[MS-DTYP\] 2.5.1.1, sddl.h, "SID Strings" and "ACE Strings" (Win32).

mod claim;
mod condition;
mod names;
mod read;
mod tables;
mod write;

use super::{SecurityDescriptor, Sid};

/// Why text is not a security descriptor, or why one has no text. Positions are bytes from the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SddlError {
    /// Something else where `O:`, `G:`, `D:` or `S:` must stand.
    #[error("at position {position}: expected O:, G:, D: or S:, found {found:?}")]
    Part {
        /// Where.
        position: usize,
        /// The next few characters.
        found: String,
    },
    /// A part comes twice.
    #[error("at position {position}: {part}: comes a second time")]
    Repeated {
        /// Where the second one is.
        position: usize,
        /// `O`, `G`, `D` or `S`.
        part: char,
    },
    /// Neither an alias nor a SID.
    #[error("at position {position}: {text:?} is neither a SID nor a known alias")]
    Sid {
        /// Where.
        position: usize,
        /// The text found.
        text: String,
    },
    /// An alias for an account of an unknown domain.
    #[error("at position {position}: {alias} depends on the domain; write the SID instead")]
    Domain {
        /// Where.
        position: usize,
        /// The alias.
        alias: String,
    },
    /// An ACE without closing parenthesis.
    #[error("at position {position}: the ACE is not closed")]
    Unclosed {
        /// Where it starts.
        position: usize,
    },
    /// An ACE with too few or too many fields.
    #[error(
        "at position {position}: an ACE has six fields, one with a condition or attribute seven, this one has {count}"
    )]
    Fields {
        /// Where it starts.
        position: usize,
        /// How many it has.
        count: usize,
    },
    /// An unknown type of ACE.
    #[error("at position {position}: {text:?} is not a type of ACE")]
    AceType {
        /// Where.
        position: usize,
        /// The text found.
        text: String,
    },
    /// A type of ACE whose text this library does not read.
    #[error("at position {position}: ACEs of type {text} (access filters) are not read from text")]
    Unsupported {
        /// Where.
        position: usize,
        /// The type.
        text: String,
    },
    /// An invalid condition or resource attribute.
    #[error("at position {position}: expected {expected}, found {found:?}")]
    Condition {
        /// Where.
        position: usize,
        /// The expected text.
        expected: &'static str,
        /// The next few characters.
        found: String,
    },
    /// Unknown flags.
    #[error("at position {position}: {text:?} are not ACE flags")]
    AceFlags {
        /// Where.
        position: usize,
        /// The text found.
        text: String,
    },
    /// Unknown rights.
    #[error("at position {position}: {text:?} are not rights")]
    Rights {
        /// Where.
        position: usize,
        /// The text found.
        text: String,
    },
    /// Not a GUID, or a GUID where none is allowed.
    #[error("at position {position}: {text:?} is not a GUID that can stand here")]
    Guid {
        /// Where.
        position: usize,
        /// The text found.
        text: String,
    },
    /// An ACE that has no text.
    #[error("ACE {index} of the {list} (type {ace_type:#04x}) has no text form: {reason}")]
    NoText {
        /// `DACL` or `SACL`.
        list: &'static str,
        /// Which ACE, from 0.
        index: usize,
        /// Its type.
        ace_type: u8,
        /// The part that cannot be written.
        reason: &'static str,
    },
}

impl SecurityDescriptor {
    /// Reads SDDL text. Aliases that depend on a domain (`DA`, `DU`, `LA` …) are refused.
    ///
    /// # Errors
    /// [`SddlError`] says what is wrong and where.
    pub fn from_sddl(text: &str) -> Result<SecurityDescriptor, SddlError> {
        read::descriptor(text, None)
    }

    /// Reads SDDL text in which domain aliases mean accounts of `domain` (S-1-5-21-…).
    ///
    /// # Errors
    /// [`SddlError`] says what is wrong and where.
    pub fn from_sddl_in_domain(text: &str, domain: &Sid) -> Result<SecurityDescriptor, SddlError> {
        read::descriptor(text, Some(domain))
    }

    /// The descriptor as SDDL text. [`SecurityDescriptor::from_sddl`] reads it back, except control bits
    /// other than P, AR and AI, and ACL revisions.
    ///
    /// # Errors
    /// [`SddlError::NoText`] if an ACE cannot be written.
    pub fn to_sddl(&self) -> Result<String, SddlError> {
        write::descriptor(self)
    }
}

#[cfg(test)]
mod tests;
