//! Resource attributes: named values for conditions to refer to.
//!
//! ```text
//! u32 name | u16 type | u16 0 | u32 flags | u32 count | u32 value × count | name | values | zeros
//! ```
//!
//! Offsets from the start locate names and values. Windows puts these behind the offsets, in order and
//! without gaps, and pads with zeros to a multiple of 4 bytes. Strings are UTF-16 and end with NUL, SIDs and
//! octets begin with their size in 32 bits. All numbers are little-endian. Source:
//! `CLAIM_SECURITY_ATTRIBUTE_RELATIVE_V1`, \[MS-DTYP\] 2.4.10.1.

use super::Sid;
use super::condition::{units_of, units_to_bytes};

/// Bytes before the offsets of the values.
const HEADER_SIZE: usize = 16;
/// Most bytes of names and values in all. They may overlap, so they need a limit; without overlaps an ACE has
/// no more than this.
const MAX_BYTES: usize = u16::MAX as usize;

/// A named list of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) name: Vec<u16>,
    pub(super) flags: u32,
    pub(super) values: Values,
}

/// The values, all of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Int(Vec<i64>),
    Uint(Vec<u64>),
    String(Vec<Vec<u16>>),
    Sid(Vec<Sid>),
    Boolean(Vec<bool>),
    Octets(Vec<Vec<u8>>),
}

impl Values {
    fn code(&self) -> u16 {
        match self {
            Values::Int(_) => 0x01,
            Values::Uint(_) => 0x02,
            Values::String(_) => 0x03,
            Values::Sid(_) => 0x05,
            Values::Boolean(_) => 0x06,
            Values::Octets(_) => 0x10,
        }
    }

    /// Each value as it lies in the claim.
    fn to_bytes(&self) -> Vec<Vec<u8>> {
        let sized = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
        match self {
            Values::Int(values) => values.iter().map(|value| value.to_le_bytes().to_vec()).collect(),
            Values::Uint(values) => values.iter().map(|value| value.to_le_bytes().to_vec()).collect(),
            Values::String(values) => values.iter().map(|value| with_nul(value)).collect(),
            Values::Sid(values) => values.iter().map(|sid| sized(&sid.to_bytes())).collect(),
            Values::Boolean(values) => {
                values.iter().map(|&value| u64::from(value).to_le_bytes().to_vec()).collect()
            }
            Values::Octets(values) => values.iter().map(|value| sized(value)).collect(),
        }
    }
}

fn with_nul(units: &[u16]) -> Vec<u8> {
    let mut bytes = units_to_bytes(units);
    bytes.extend([0, 0]);
    bytes
}

impl Claim {
    /// The bytes, in Windows' layout.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let values = self.values.to_bytes();
        let name = with_nul(&self.name);
        let name_at = HEADER_SIZE + 4 * values.len();
        let mut bytes = (name_at as u32).to_le_bytes().to_vec();
        bytes.extend(self.values.code().to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend((values.len() as u32).to_le_bytes());
        let mut at = name_at + name.len();
        for value in &values {
            bytes.extend((at as u32).to_le_bytes());
            at += value.len();
        }
        bytes.extend(name);
        bytes.extend(values.into_iter().flatten());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Parses a claim; `None` if it is invalid.
    pub(super) fn parse(bytes: &[u8]) -> Option<Claim> {
        let mut reader = Reader { bytes, taken: 0 };
        let name_at = reader.number(0)?;
        let value_type = u16::from_le_bytes(reader.array(4)?);
        let flags = reader.number(8)? as u32;
        let offsets = (0..reader.number(12)?).map(|index| reader.number(HEADER_SIZE + 4 * index));
        // Collect the offsets first: the count is untrusted, and may exceed the bytes there are.
        let offsets = offsets.collect::<Option<Vec<usize>>>()?;
        let name = reader.string(name_at)?;
        let mut offsets = offsets.into_iter();
        let values = match value_type {
            0x01 => {
                Values::Int(offsets.map(|at| reader.long(at).map(u64::cast_signed)).collect::<Option<_>>()?)
            }
            0x02 => Values::Uint(offsets.map(|at| reader.long(at)).collect::<Option<_>>()?),
            0x03 => Values::String(offsets.map(|at| reader.string(at)).collect::<Option<_>>()?),
            0x05 => Values::Sid(offsets.map(|at| reader.sid(at)).collect::<Option<_>>()?),
            0x06 => Values::Boolean(offsets.map(|at| reader.boolean(at)).collect::<Option<_>>()?),
            0x10 => Values::Octets(
                offsets.by_ref().map(|at| reader.sized(at).map(<[u8]>::to_vec)).collect::<Option<_>>()?,
            ),
            _ => return None,
        };
        Some(Claim { name, flags, values })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes of names and values so far.
    taken: usize,
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    fn number(&self, at: usize) -> Option<usize> {
        self.array(at).map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn long(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn boolean(&self, at: usize) -> Option<bool> {
        self.long(at).filter(|&value| value <= 1).map(|value| value == 1)
    }

    /// Counts the bytes.
    fn count(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.taken += bytes.len();
        (self.taken <= MAX_BYTES).then_some(bytes)
    }

    fn sized(&mut self, at: usize) -> Option<&'a [u8]> {
        let start = at.checked_add(4)?;
        let end = start.checked_add(self.number(at)?)?;
        let bytes = self.bytes.get(start..end)?;
        self.count(bytes)
    }

    fn sid(&mut self, at: usize) -> Option<Sid> {
        let bytes = self.sized(at)?;
        Sid::parse(bytes).ok().filter(|sid| sid.size() == bytes.len())
    }

    fn string(&mut self, at: usize) -> Option<Vec<u16>> {
        let rest = self.bytes.get(at..)?;
        let (pairs, _) = rest.as_chunks::<2>();
        // Limit the search to the bytes that are still allowed.
        let room = pairs.len().min((MAX_BYTES - self.taken) / 2 + 1);
        let end = pairs[..room].iter().position(|pair| *pair == [0, 0])?;
        let bytes = self.count(&rest[..2 * end + 2])?;
        units_of(&bytes[..2 * end])
    }
}
