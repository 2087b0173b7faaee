//! Extended attributes: the small named values that NTFS keeps beside a file's streams.
//!
//! Backup streams and the `MSWINDOWS.xattr.*` records of a layer tar carry them as a chain of
//! `FILE_FULL_EA_INFORMATION` entries. Reading accepts the same as go-winio, except chains whose entries
//! overlap: a few kilobytes of those would decode into gigabytes, and Windows refuses them too.
//!
//! ```text
//! 0        4      5         6            8           8+n+1            4-byte boundary
//! | next   | flags| name n  | value m    | name | 0  | value          | 0-3 zero bytes |
//! ```
//! `next` is the distance to the next entry, 0 in the last one.
//!
//! Source: \[MS-FSCC\] 2.4.16; recorded behaviour of the reference in `vectors/ea.json`.

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The file cannot be understood without this attribute (`FILE_NEED_EA`).
pub const FILE_NEED_EA: u8 = 0x80;

/// The fixed part of an entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryHeader {
    /// Bytes from this entry to the next; 0: none follows.
    next: U32,
    /// `FILE_NEED_EA` or 0; unknown bits are kept.
    flags: u8,
    /// Bytes of the name, its NUL not counted.
    name_length: u8,
    /// Bytes of the value.
    value_length: U16,
}
const _: () = assert!(size_of::<EntryHeader>() == 8);

/// One extended attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExtendedAttribute {
    /// [`FILE_NEED_EA`] or 0; unknown bits are kept.
    pub flags: u8,
    /// The name, at most 255 bytes. Windows makes it ASCII upper case; any bytes are kept here.
    pub name: Vec<u8>,
    /// The value, at most 65,535 bytes.
    pub value: Vec<u8>,
}

/// Why extended attributes cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EaError {
    /// The buffer ends inside an entry.
    #[error("extended attribute at offset {offset:#x} needs {needed} bytes, {available} are left")]
    Truncated {
        /// Where the entry starts in the buffer.
        offset: usize,
        /// Bytes that the entry says it has.
        needed: usize,
        /// Bytes from there to the end of the buffer.
        available: usize,
    },
    /// The distance to the next entry leads out of the buffer or into this entry.
    #[error("extended attribute at offset {offset:#x}: the next one cannot be {next} bytes further")]
    Next {
        /// Where the entry starts in the buffer.
        offset: usize,
        /// The distance it gives.
        next: u32,
    },
    /// A name does not fit its length byte.
    #[error("extended attribute {name:?}: name is {length} bytes, at most 255 are possible")]
    NameTooLong {
        /// The name, shortened, with bytes that are not UTF-8 replaced.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// A value does not fit its length field.
    #[error("extended attribute {name:?}: value is {length} bytes, at most 65535 are possible")]
    ValueTooLong {
        /// The name, with bytes that are not UTF-8 replaced.
        name: String,
        /// The value's length in bytes.
        length: usize,
    },
}

/// Reads a chain of extended attributes; an empty buffer is an empty chain.
///
/// Bytes behind the last entry, the byte after a name and the alignment of entries are ignored, as in the
/// reference.
///
/// # Errors
/// [`EaError::Truncated`] or [`EaError::Next`] when the buffer contradicts itself.
pub fn decode(buffer: &[u8]) -> Result<Vec<ExtendedAttribute>, EaError> {
    let mut attributes = Vec::new();
    let mut offset = 0;
    while offset < buffer.len() {
        let entry = &buffer[offset..];
        let truncated = |needed| EaError::Truncated { offset, needed, available: entry.len() };
        let (header, body) =
            EntryHeader::read_from_prefix(entry).map_err(|_| truncated(size_of::<EntryHeader>()))?;
        let name_length = usize::from(header.name_length);
        let value_end = name_length + 1 + usize::from(header.value_length.get());
        let length = size_of::<EntryHeader>() + value_end;
        if body.len() < value_end {
            return Err(truncated(length));
        }
        attributes.push(ExtendedAttribute {
            flags: header.flags,
            name: body[..name_length].to_vec(),
            value: body[name_length + 1..value_end].to_vec(),
        });
        let next = header.next.get();
        if next == 0 {
            break;
        }
        offset = match usize::try_from(next) {
            Ok(distance) if (length..=entry.len()).contains(&distance) => offset + distance,
            _ => return Err(EaError::Next { offset, next }),
        };
    }
    Ok(attributes)
}

/// Writes a chain of extended attributes in the order given; none gives an empty buffer.
///
/// Every entry is padded to four bytes, the last one too, as the reference does.
///
/// # Errors
/// [`EaError::NameTooLong`] or [`EaError::ValueTooLong`] when a length does not fit its field.
pub fn encode(attributes: &[ExtendedAttribute]) -> Result<Vec<u8>, EaError> {
    let mut buffer = Vec::new();
    for (index, attribute) in attributes.iter().enumerate() {
        let ExtendedAttribute { flags, name, value } = attribute;
        let header = EntryHeader {
            next: U32::new(0),
            flags: *flags,
            name_length: u8::try_from(name.len()).map_err(|_| name_too_long(name))?,
            value_length: u16::try_from(value.len()).map_err(|_| value_too_long(attribute))?.into(),
        };
        let length = size_of::<EntryHeader>() + name.len() + 1 + value.len();
        let padded = length.next_multiple_of(4);
        let last = index + 1 == attributes.len();
        // At most 65,800 bytes an entry, so the distance fits.
        let next = U32::new(if last { 0 } else { padded as u32 });
        buffer.extend_from_slice(EntryHeader { next, ..header }.as_bytes());
        buffer.extend_from_slice(name);
        buffer.push(0);
        buffer.extend_from_slice(value);
        buffer.resize(buffer.len() + padded - length, 0);
    }
    Ok(buffer)
}

fn name_too_long(name: &[u8]) -> EaError {
    let start = &name[..name.len().min(64)];
    EaError::NameTooLong { name: String::from_utf8_lossy(start).into_owned(), length: name.len() }
}

fn value_too_long(attribute: &ExtendedAttribute) -> EaError {
    let name = String::from_utf8_lossy(&attribute.name).into_owned();
    EaError::ValueTooLong { name, length: attribute.value.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn attribute() -> impl Strategy<Value = ExtendedAttribute> {
        (any::<u8>(), vec(any::<u8>(), 0..=255), vec(any::<u8>(), 0..600))
            .prop_map(|(flags, name, value)| ExtendedAttribute { flags, name, value })
    }

    #[test]
    fn entries_that_overlap_are_refused() {
        // Every 8 bytes another entry of 65,535 bytes: two megabytes would decode into gigabytes.
        let buffer = [8, 0, 0, 0, 0, 0, 0xff, 0xff].repeat(20_000);
        assert_eq!(decode(&buffer), Err(EaError::Next { offset: 0, next: 8 }));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(attributes in vec(attribute(), 0..6)) {
            let buffer = encode(&attributes).unwrap();
            prop_assert_eq!(buffer.len() % 4, 0);
            prop_assert_eq!(decode(&buffer), Ok(attributes));
        }

        #[test]
        fn any_bytes_decode_to_less_than_themselves(buffer in vec(any::<u8>(), 0..200)) {
            if let Ok(attributes) = decode(&buffer) {
                let size: usize = attributes.iter().map(|ea| ea.name.len() + ea.value.len()).sum();
                prop_assert!(size <= buffer.len());
            }
        }
    }
}
