//! `user.DOSATTRIB`: the text that we and Wine write, and the records of Samba and of the kernel's SMB
//! server, for shared sandboxes.
//!
//! ```text
//! 0x20                             hexadecimal text, Samba's first form, which it still reads
//! text NUL pad version level pad info
//!          │   │       │         └ by version, see `Info`
//!          │   │       └ the version again
//!          │   └ u16; Samba writes 5, the kernel 4, older ones of Samba 1 to 4
//!          └ to 2 bytes here, to 4 before `info`
//! ```
//!
//! Everything is little-endian. Source: Samba `librpc/idl/xattr.idl` (`xattr_DOSATTRIB`) and
//! `librpc/ndr/ndr_xattr.c`; for the fields used of each version, `parse_dos_attribute_blob` in
//! `source3/smbd/dosmode.c`.

use std::borrow::Cow;

use wclayer::filetime::FileTime;

/// Flags of valid fields: `XATTR_DOSINFO_ATTRIB`, `XATTR_DOSINFO_CREATE_TIME`.
const VALID_ATTRIBUTES: u32 = 0x1;
const VALID_CREATED: u32 = 0x10;

/// The content of such an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DosAttributes {
    /// `FILE_ATTRIBUTE_*`.
    pub(super) attributes: Option<u32>,
    /// When the file was created, by the SMB server's record.
    pub(super) created: Option<FileTime>,
}

/// Offsets of fields in the info of a version, in bytes. The first 4 bytes are the flags of valid fields, if
/// it has them.
struct Info {
    has_flags: bool,
    attributes: usize,
    created: Option<usize>,
}

impl Info {
    fn of(version: u16) -> Option<Self> {
        Some(match version {
            1 => Self { has_flags: false, attributes: 0, created: Some(24) },
            // Its flags mean something else, so Samba ignores its time.
            2 => Self { has_flags: false, attributes: 4, created: None },
            3 => Self { has_flags: true, attributes: 4, created: Some(28) },
            4 => Self { has_flags: true, attributes: 4, created: Some(16) },
            5 => Self { has_flags: true, attributes: 4, created: Some(8) },
            _ => return None,
        })
    }
}

/// Reads the attribute; `None` if it is neither form.
pub(super) fn parse(value: &[u8]) -> Option<DosAttributes> {
    match value.iter().position(|&byte| byte == 0) {
        Some(end) if end + 1 < value.len() => record(value, end + 1),
        end => number(&value[..end.unwrap_or(value.len())]),
    }
}

/// Describes a value that has neither form.
pub(super) fn problem(value: &[u8]) -> Cow<'static, str> {
    match value {
        // `setfattr -v 0x22` writes this byte, not the text.
        [byte] => {
            format!("the byte {byte:#04x}, not the text \"{byte:#04x}\": setfattr -n user.DOSATTRIB -v '\"{byte:#04x}\"'").into()
        }
        _ => "no number such as 0x20".into(),
    }
}

fn number(value: &[u8]) -> Option<DosAttributes> {
    let digits = super::text(value)?.trim_start_matches("0x");
    let attributes = u32::from_str_radix(digits, 16).ok()?;
    Some(DosAttributes { attributes: Some(attributes), created: None })
}

/// Reads a record whose text ends before `at`.
fn record(value: &[u8], at: usize) -> Option<DosAttributes> {
    let at = at.next_multiple_of(2);
    let version = u16::from_le_bytes(array(value, at)?);
    if u16::from_le_bytes(array(value, at + 2)?) != version {
        return None;
    }
    let info = value.get((at + 4).next_multiple_of(4)..)?;
    let layout = Info::of(version)?;
    let valid = if layout.has_flags { u32::from_le_bytes(array(info, 0)?) } else { u32::MAX };
    let attributes = u32::from_le_bytes(array(info, layout.attributes)?);
    let created = match layout.created {
        Some(at) => u64::from_le_bytes(array(info, at)?),
        None => 0,
    };
    // Samba takes both for "no time".
    let is_time = valid & VALID_CREATED != 0 && created != 0 && created != u64::MAX;
    Some(DosAttributes {
        attributes: (valid & VALID_ATTRIBUTES != 0).then_some(attributes),
        created: is_time.then_some(FileTime(created)),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: FileTime = FileTime(0x01d9_e2f3_a4b5_c6d7);

    /// Made by `ndr_pack` of Samba 4.17: attributes 0x23 and the time, where the version has them.
    #[test]
    fn what_samba_writes_is_read() {
        let both = DosAttributes { attributes: Some(0x23), created: Some(CREATED) };
        let attributes = DosAttributes { created: None, ..both };
        let time = DosAttributes { attributes: None, ..both };
        for (record, expected) in [
            ("00000500050000001100000023000000d7c6b5a4f3e2d901", both),
            ("00000400040000005100000023000000d8c6b5a4f3e2d901d7c6b5a4f3e2d901", both),
            (
                "30783233000003000300000011000000230000001111111122222222222222223333333333333333d7c6b5a4f3e2d901\
                 4444444444444444",
                both,
            ),
            (
                "000003000300000010000000000000000000000000000000000000000000000000000000d7c6b5a4f3e2d901\
                 0000000000000000",
                time,
            ),
            (
                "307832330000010001000000230000001111111122222222222222223333333333333333d7c6b5a4f3e2d901\
                 4444444444444444",
                both,
            ),
            (
                "30783233000002000200000001000000230000001111111122222222222222223333333333333333d7c6b5a4f3e2d901\
                 444444444444444455555555555555556e6d00",
                attributes,
            ),
            ("3078323300", attributes),
        ] {
            assert_eq!(parse(&hex::decode(record).unwrap()), Some(expected), "{record}");
        }
    }

    #[test]
    fn text_is_read_and_what_is_neither_is_refused() {
        for text in ["0x20", "20", "0x20\0"] {
            assert_eq!(parse(text.as_bytes()).and_then(|read| read.attributes), Some(0x20), "{text:?}");
        }
        let record = hex::decode("00000500050000001100000023000000d7c6b5a4f3e2d901").unwrap();
        for length in 1..record.len() {
            assert_eq!(parse(&record[..length]), None, "{length}");
        }
        let unknown = |at: usize| [&record[..at], &[9], &record[at + 1..]].concat();
        for other in [b"".to_vec(), b"&".to_vec(), b"0x\0".to_vec(), unknown(2), unknown(4)] {
            assert_eq!(parse(&other), None, "{other:?}");
        }
    }
}
