//! Security identifiers: the names of users and groups in binary.

use super::SecurityError;
use std::fmt;
use std::str::FromStr;

/// Bytes before the sub-authorities.
const HEADER_SIZE: usize = 8;
/// `SID_MAX_SUB_AUTHORITIES`.
const MAX_SUB_AUTHORITIES: usize = 15;

/// A security identifier, such as S-1-5-18: an authority and up to 15 numbers below it. Always valid.
///
/// Source: \[MS-DTYP\] 2.4.2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid {
    /// Big-endian on disk; below 2⁴⁸.
    authority: u64,
    /// Only the first `count` are used; the others are 0, so that equality can compare all.
    sub_authorities: [u32; MAX_SUB_AUTHORITIES],
    count: u8,
}

impl Sid {
    /// Everyone, S-1-1-0.
    pub const EVERYONE: Sid = Sid::known(1, &[0]);
    /// Stands for the owner in inheritable ACEs, S-1-3-0.
    pub const CREATOR_OWNER: Sid = Sid::known(3, &[0]);
    /// Stands for the primary group in inheritable ACEs, S-1-3-1.
    pub const CREATOR_GROUP: Sid = Sid::known(3, &[1]);
    /// The operating system, S-1-5-18.
    pub const SYSTEM: Sid = Sid::known(5, &[18]);
    /// The local administrators, S-1-5-32-544.
    pub const ADMINISTRATORS: Sid = Sid::known(5, &[32, 544]);
    /// The local users, S-1-5-32-545.
    pub const USERS: Sid = Sid::known(5, &[32, 545]);

    /// A SID that is known to have at most 15 sub-authorities.
    pub(super) const fn known(authority: u64, sub_authorities: &[u32]) -> Sid {
        let mut sid =
            Sid { authority, sub_authorities: [0; MAX_SUB_AUTHORITIES], count: sub_authorities.len() as u8 };
        let mut index = 0;
        while index < sub_authorities.len() {
            sid.sub_authorities[index] = sub_authorities[index];
            index += 1;
        }
        sid
    }

    /// A SID from its parts; `None` when the authority exceeds 48 bits or there are more than 15 numbers.
    pub fn new(authority: u64, sub_authorities: &[u32]) -> Option<Sid> {
        let fits = authority < 1 << 48 && sub_authorities.len() <= MAX_SUB_AUTHORITIES;
        fits.then(|| Sid::known(authority, sub_authorities))
    }

    /// The identifier authority, below 2⁴⁸; 5 is Windows NT.
    pub fn authority(&self) -> u64 {
        self.authority
    }

    /// The numbers below the authority; the last one is the relative identifier (RID).
    pub fn sub_authorities(&self) -> &[u32] {
        &self.sub_authorities[..usize::from(self.count)]
    }

    /// This SID with one more number below it; `None` when it has 15 already.
    pub fn with_rid(&self, rid: u32) -> Option<Sid> {
        let mut longer = *self;
        *longer.sub_authorities.get_mut(usize::from(self.count))? = rid;
        longer.count += 1;
        Some(longer)
    }

    /// Reads the SID at the start of `bytes`; bytes after it are ignored.
    ///
    /// # Errors
    /// [`SecurityError`] when it is cut short or malformed.
    pub fn parse(bytes: &[u8]) -> Result<Sid, SecurityError> {
        Sid::read(bytes, 0, &|| "SID".to_owned())
    }

    /// Reads the SID at `offset`; `what` names it in errors.
    pub(super) fn read(bytes: &[u8], offset: usize, what: &dyn Fn() -> String) -> Result<Sid, SecurityError> {
        let rest = bytes.get(offset..).unwrap_or_default();
        let truncated =
            |needed| SecurityError::Truncated { what: what(), offset, needed, available: rest.len() };
        let (&[revision, count, authority @ ..], rest_of_sid) =
            rest.split_first_chunk::<HEADER_SIZE>().ok_or_else(|| truncated(HEADER_SIZE))?;
        if revision != 1 {
            return Err(SecurityError::Revision { what: what(), offset, revision });
        }
        let count = usize::from(count);
        if count > MAX_SUB_AUTHORITIES {
            return Err(SecurityError::SubAuthorities { what: what(), offset, count });
        }
        let numbers = rest_of_sid.get(..count * 4).ok_or_else(|| truncated(HEADER_SIZE + count * 4))?;
        let mut sub_authorities = [0; MAX_SUB_AUTHORITIES];
        for (number, bytes) in sub_authorities.iter_mut().zip(numbers.chunks_exact(4)) {
            *number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let authority = authority.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        Ok(Sid { authority, sub_authorities, count: count as u8 })
    }

    /// Bytes of the binary form.
    pub fn size(&self) -> usize {
        HEADER_SIZE + usize::from(self.count) * 4
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        self.write(&mut bytes);
        bytes
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend([1, self.count]);
        bytes.extend_from_slice(&self.authority.to_be_bytes()[2..]);
        bytes.extend(self.sub_authorities().iter().flat_map(|number| number.to_le_bytes()));
    }
}

impl fmt::Display for Sid {
    /// `S-1-5-32-544`; an authority of 2³² and more is hexadecimal, as \[MS-DTYP\] 2.4.2.1 requires.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.authority >> 32 == 0 {
            write!(f, "S-1-{}", self.authority)?;
        } else {
            write!(f, "S-1-{:#014x}", self.authority)?;
        }
        self.sub_authorities().iter().try_for_each(|number| write!(f, "-{number}"))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a SID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a SID (S-1-<authority>-<up to 15 numbers>)")]
pub struct ParseSidError {
    text: String,
}

impl FromStr for Sid {
    type Err = ParseSidError;

    /// Reads `S-1-5-32-544`; any number may be hexadecimal (`0x5`), as Windows reads it.
    fn from_str(text: &str) -> Result<Sid, ParseSidError> {
        read_text(text).ok_or_else(|| ParseSidError { text: text.to_owned() })
    }
}

fn read_text(text: &str) -> Option<Sid> {
    let mut parts = text.strip_prefix("S-1-").or_else(|| text.strip_prefix("s-1-"))?.split('-');
    let authority = parts.next()?;
    let authority = number(authority)?;
    let numbers = parts.map(|part| number(part)?.try_into().ok()).collect::<Option<Vec<u32>>>()?;
    Sid::new(authority, &numbers)
}

/// Decimal or hexadecimal digits only: no sign, no spaces.
fn number(text: &str) -> Option<u64> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((text, 10), |digits| (digits, 16));
    // The parser of numbers would accept a sign.
    let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
    all_digits.then(|| u64::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::security) fn any_sid() -> impl Strategy<Value = Sid> {
        let numbers = proptest::collection::vec(any::<u32>(), 0..=MAX_SUB_AUTHORITIES);
        (0..1_u64 << 48, numbers).prop_map(|(authority, numbers)| Sid::known(authority, &numbers))
    }

    #[test]
    fn a_sid_with_sixteen_numbers_is_refused() {
        let text = format!("S-1-5{}", "-1".repeat(16));
        assert!(text.parse::<Sid>().is_err());
        let bytes = [&[1, 16, 0, 0, 0, 0, 0, 5][..], &[0; 64]].concat();
        assert!(matches!(Sid::parse(&bytes), Err(SecurityError::SubAuthorities { count: 16, .. })));
    }

    #[test]
    fn text_that_is_no_sid_is_refused() {
        let wrong = ["", "S", "S-1", "S-1-", "S-2-5-18", "S-1-5-", "S-1-+5-18", "S-1-5--18", "S-1-0x-1"];
        for text in
            wrong.into_iter().chain(["S-1-5-4294967296", "S-1-281474976710656-1", "S-1-0x+5-1", " S-1-5-18"])
        {
            assert!(text.parse::<Sid>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_large_authority_is_written_in_hexadecimal() {
        let sid = Sid::known(0x1_0000_0000, &[7]);
        assert_eq!(sid.to_string(), "S-1-0x000100000000-7");
    }

    proptest! {
        #[test]
        fn every_sid_survives_bytes_and_text(sid in any_sid()) {
            prop_assert_eq!(Sid::parse(&sid.to_bytes()), Ok(sid));
            prop_assert_eq!(sid.to_string().parse(), Ok(sid));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(sid) = Sid::parse(&bytes) {
                prop_assert_eq!(sid.to_bytes(), &bytes[..sid.size()]);
            }
        }
    }
}
