//! Reparse data, which make a file a symbolic link, a mount point, or a file that a filter driver handles.
//!
//! There are two representations:
//!
//! * [`ReparsePoint`] holds everything: both names of a link as WTF-8, and the data of every other tag as
//!   they are. [`ReparsePoint::encode`] loses nothing.
//! * [`encode_go`] and [`decode_go`] convert a link target to a buffer and back exactly as go-winio does for
//!   a layer tar. Where go-winio crashes or lets a length wrap at 64 KiB, they return an error.
//!
//! ```text
//! 0     4        6     8                 16          20 (links)
//! | tag | length | 0   | name positions  | flags     | both names, UTF-16LE
//!                      ^ `length` counts from here     flags only in symbolic links
//! ```
//!
//! Source: \[MS-FSCC\] 2.1.2; recorded behaviour of the reference in `vectors/reparse.json`.

use crate::name::wtf8::{Piece, Pieces};
use crate::name::{self, NotWtf8};
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Tag of a mount point, which a junction is too: an absolute link to a directory or volume.
pub const IO_REPARSE_TAG_MOUNT_POINT: u32 = 0xA000_0003;
/// Tag of a symbolic link.
pub const IO_REPARSE_TAG_SYMLINK: u32 = 0xA000_000C;
/// Tag of a symbolic link that WSL, Cygwin or MSYS2 has made: a version and the target, in Linux' spelling.
pub const IO_REPARSE_TAG_LX_SYMLINK: u32 = 0xA000_001D;

/// The target of the symbolic link is relative to the directory it lies in, or to that directory's root.
const SYMLINK_FLAG_RELATIVE: u32 = 1;
/// Tags without this bit belong to other companies; a GUID then precedes the data and is not counted by its
/// length.
const TAG_MICROSOFT: u32 = 0x8000_0000;
/// Bytes of the version before the target of a WSL link; it is 2.
const LX_VERSION_SIZE: usize = 4;
/// Bytes of that GUID.
const GUID_SIZE: usize = 16;

/// The fixed part of every reparse buffer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    tag: U32,
    /// Bytes after this header, less the GUID of a tag that is not Microsoft's.
    data_length: U16,
    reserved: U16,
}
const _: () = assert!(size_of::<Header>() == 8);

/// Where the two names of a link lie, in bytes after the fixed part. The names may come in either order.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NamePositions {
    substitute_offset: U16,
    substitute_length: U16,
    print_offset: U16,
    print_length: U16,
}
const _: () = assert!(size_of::<NamePositions>() == 8);

/// The content of a reparse buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReparsePoint {
    /// A symbolic link to a file or directory.
    Symlink {
        /// The target Windows follows, WTF-8: an NT path (`\??\C:\x`), or a relative one.
        substitute: Vec<u8>,
        /// The target Windows shows, WTF-8. May be empty.
        print: Vec<u8>,
        /// Whether `substitute` is relative. The other flag bits are reserved and not kept.
        relative: bool,
    },
    /// A mount point or junction.
    MountPoint {
        /// The target Windows follows, WTF-8, an NT path.
        substitute: Vec<u8>,
        /// The target Windows shows, WTF-8. May be empty.
        print: Vec<u8>,
    },
    /// Any other tag.
    Other {
        /// `IO_REPARSE_TAG_*`.
        tag: u32,
        /// Everything after the 8-byte header, the GUID of a foreign tag included.
        data: Vec<u8>,
    },
}

/// The target of a link as go-winio sees it: the print name as text, and which kind of link it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GoTarget {
    /// The print name; each unit that is not a character is U+FFFD.
    pub target: String,
    /// A mount point rather than a symbolic link.
    pub is_mount_point: bool,
}

/// Why reparse data cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReparseError {
    /// The buffer ends in its fixed part.
    #[error("reparse data is {actual} bytes, at least {needed} are needed")]
    TooShort {
        /// Bytes of the fixed part.
        needed: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// A name lies outside the buffer.
    #[error(
        "{which} name of a link is at byte {offset}, {length} bytes long, but only {available} bytes follow"
    )]
    NameOutside {
        /// `substitute` or `print`.
        which: &'static str,
        /// Start of the name, counted from the end of the fixed part.
        offset: u16,
        /// Length of the name in bytes.
        length: u16,
        /// Bytes after the fixed part.
        available: usize,
    },
    /// A name is half a UTF-16 unit too long.
    #[error("{which} name of a link is {length} bytes long, which is not a whole number of UTF-16 units")]
    OddLength {
        /// `substitute` or `print`.
        which: &'static str,
        /// Length of the name in bytes.
        length: u16,
    },
    /// The tag is neither a symbolic link nor a mount point, so it has no target.
    #[error("reparse tag {tag:#010x} is not a link")]
    NotALink {
        /// The tag found.
        tag: u32,
    },
    /// The buffer's length, or a position in it, does not fit 16 bits.
    #[error("reparse data would be {length} bytes, at most {limit} can be written")]
    TooLong {
        /// Bytes after the header.
        length: usize,
        /// The most the format can hold.
        limit: usize,
    },
    /// A foreign tag's data is shorter than the GUID it must start with.
    #[error("reparse tag {tag:#010x} is not Microsoft's: its {length} bytes of data must start with a GUID")]
    NoGuid {
        /// The tag.
        tag: u32,
        /// Bytes of data.
        length: usize,
    },
    /// A name to write is not WTF-8.
    #[error("{which} name of a link cannot be written")]
    Name {
        /// `substitute` or `print`.
        which: &'static str,
        /// Where it stops being WTF-8.
        source: NotWtf8,
    },
}

impl ReparsePoint {
    /// Reads a whole reparse buffer, header included.
    ///
    /// The length in the header is ignored, as in the reference: the buffer's own length counts. Bytes after
    /// a link's names are ignored.
    ///
    /// # Errors
    /// [`ReparseError`] when the buffer is too short, or a link's name lies outside it.
    pub fn decode(buffer: &[u8]) -> Result<ReparsePoint, ReparseError> {
        let (tag, data) = split(buffer)?;
        if tag != IO_REPARSE_TAG_SYMLINK && tag != IO_REPARSE_TAG_MOUNT_POINT {
            return Ok(ReparsePoint::Other { tag, data: data.to_vec() });
        }
        let link = Link::split(tag, data)?;
        let substitute = name::from_utf16(&link.substitute()?);
        let print = name::from_utf16(&link.print()?);
        Ok(match link.flags {
            Some(flags) => {
                ReparsePoint::Symlink { substitute, print, relative: flags & SYMLINK_FLAG_RELATIVE != 0 }
            }
            None => ReparsePoint::MountPoint { substitute, print },
        })
    }

    /// Writes a whole reparse buffer, header included. In a link the substitute name comes first and both
    /// names are followed by a NUL that no length counts, as go-winio writes them.
    ///
    /// # Errors
    /// [`ReparseError::TooLong`] when it does not fit the 16-bit lengths, [`ReparseError::Name`] when a name
    /// is not WTF-8, [`ReparseError::NoGuid`] when foreign data has no room for its GUID.
    pub fn encode(&self) -> Result<Vec<u8>, ReparseError> {
        let units =
            |which, name: &[u8]| name::to_utf16(name).map_err(|source| ReparseError::Name { which, source });
        match self {
            ReparsePoint::Symlink { substitute, print, relative } => {
                let flags = if *relative { SYMLINK_FLAG_RELATIVE } else { 0 };
                encode_link(Some(flags), units("substitute", substitute)?, units("print", print)?)
            }
            ReparsePoint::MountPoint { substitute, print } => {
                encode_link(None, units("substitute", substitute)?, units("print", print)?)
            }
            ReparsePoint::Other { tag, data } => encode_raw(*tag, data),
        }
    }

    /// `IO_REPARSE_TAG_*`.
    pub fn tag(&self) -> u32 {
        match self {
            ReparsePoint::Symlink { .. } => IO_REPARSE_TAG_SYMLINK,
            ReparsePoint::MountPoint { .. } => IO_REPARSE_TAG_MOUNT_POINT,
            ReparsePoint::Other { tag, .. } => *tag,
        }
    }
}

/// The buffer go-winio makes of a link target: `EncodeReparsePoint`.
///
/// `target` has backslashes and is a Win32 path; it becomes the print name unchanged. `\\?\`, `\\` and a
/// drive letter make it absolute; everything else, `\rooted` included, gets the relative flag. Each byte that
/// is not UTF-8 becomes U+FFFD.
///
/// # Errors
/// [`ReparseError::TooLong`] where go-winio's lengths would wrap (targets of about 16,000 units).
pub fn encode_go(target: impl AsRef<[u8]>, is_mount_point: bool) -> Result<Vec<u8>, ReparseError> {
    let print = go_runes(target.as_ref());
    let (substitute, relative) = nt_target(&print);
    let flags = (!is_mount_point).then_some(if relative { SYMLINK_FLAG_RELATIVE } else { 0 });
    encode_link(flags, substitute.encode_utf16().collect(), print.encode_utf16().collect())
}

/// The target go-winio finds in a link's buffer: `DecodeReparsePoint`, which reads the print name.
///
/// # Errors
/// [`ReparseError::NotALink`] for other tags, and [`ReparseError`] where go-winio would read outside the
/// buffer.
pub fn decode_go(buffer: &[u8]) -> Result<GoTarget, ReparseError> {
    let (tag, data) = split(buffer)?;
    if tag != IO_REPARSE_TAG_SYMLINK && tag != IO_REPARSE_TAG_MOUNT_POINT {
        return Err(ReparseError::NotALink { tag });
    }
    let link = Link::split(tag, data)?;
    // The reference divides an odd length by two; the left-over byte is ignored.
    let bytes = link.name_bytes("print", link.positions.print_offset, link.positions.print_length)?;
    Ok(GoTarget { target: String::from_utf16_lossy(&units(bytes)), is_mount_point: link.flags.is_none() })
}

/// The target of a link of [`IO_REPARSE_TAG_LX_SYMLINK`], as WSL wrote it: slashes, any bytes, up to a NUL.
/// `None` for other tags and for a link without one.
///
/// Source: go-winio `reparse.go` from pull request 336 on, `decodeLxReparsePointData`.
pub fn lx_target(buffer: &[u8]) -> Option<&[u8]> {
    let (tag, data) = split(buffer).ok()?;
    let target = data.get(LX_VERSION_SIZE..).filter(|_| tag == IO_REPARSE_TAG_LX_SYMLINK)?;
    let target = target.split(|&byte| byte == 0).next()?;
    (!target.is_empty()).then_some(target)
}

/// Tag and everything after the header.
fn split(buffer: &[u8]) -> Result<(u32, &[u8]), ReparseError> {
    let (header, data) = Header::ref_from_prefix(buffer)
        .map_err(|_| ReparseError::TooShort { needed: size_of::<Header>(), actual: buffer.len() })?;
    Ok((header.tag.get(), data))
}

/// A link's buffer after its header, split but not yet checked.
struct Link<'a> {
    positions: NamePositions,
    /// `None` in a mount point.
    flags: Option<u32>,
    names: &'a [u8],
}

impl<'a> Link<'a> {
    fn split(tag: u32, data: &'a [u8]) -> Result<Self, ReparseError> {
        let has_flags = tag == IO_REPARSE_TAG_SYMLINK;
        let fixed = size_of::<NamePositions>() + if has_flags { size_of::<U32>() } else { 0 };
        let too_short = || ReparseError::TooShort {
            needed: size_of::<Header>() + fixed,
            actual: size_of::<Header>() + data.len(),
        };
        let (positions, rest) = NamePositions::read_from_prefix(data).map_err(|_| too_short())?;
        if !has_flags {
            return Ok(Link { positions, flags: None, names: rest });
        }
        let (flags, names) = U32::read_from_prefix(rest).map_err(|_| too_short())?;
        Ok(Link { positions, flags: Some(flags.get()), names })
    }

    fn substitute(&self) -> Result<Vec<u16>, ReparseError> {
        self.whole_name("substitute", self.positions.substitute_offset, self.positions.substitute_length)
    }

    fn print(&self) -> Result<Vec<u16>, ReparseError> {
        self.whole_name("print", self.positions.print_offset, self.positions.print_length)
    }

    fn whole_name(&self, which: &'static str, offset: U16, length: U16) -> Result<Vec<u16>, ReparseError> {
        let bytes = self.name_bytes(which, offset, length)?;
        if bytes.len() % 2 != 0 {
            return Err(ReparseError::OddLength { which, length: length.get() });
        }
        Ok(units(bytes))
    }

    fn name_bytes(&self, which: &'static str, offset: U16, length: U16) -> Result<&'a [u8], ReparseError> {
        let (offset, length) = (offset.get(), length.get());
        let start = usize::from(offset);
        self.names.get(start..start + usize::from(length)).ok_or(ReparseError::NameOutside {
            which,
            offset,
            length,
            available: self.names.len(),
        })
    }
}

/// UTF-16LE bytes as units; half a unit at the end is left out.
fn units(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect()
}

/// Writes a link; `flags` are `None` in a mount point.
fn encode_link(flags: Option<u32>, substitute: Vec<u16>, print: Vec<u16>) -> Result<Vec<u8>, ReparseError> {
    let fixed = size_of::<NamePositions>() + flags.map_or(0, |_| size_of::<U32>());
    let length = fixed + (substitute.len() + 1 + print.len() + 1) * 2;
    check_length(length)?;
    // Every position is below `length`, which fits 16 bits.
    let field = |units: usize| U16::new((units * 2) as u16);
    let positions = NamePositions {
        substitute_offset: field(0),
        substitute_length: field(substitute.len()),
        print_offset: field(substitute.len() + 1),
        print_length: field(print.len()),
    };
    let tag = if flags.is_some() { IO_REPARSE_TAG_SYMLINK } else { IO_REPARSE_TAG_MOUNT_POINT };
    let mut buffer = header(tag, length);
    buffer.extend_from_slice(positions.as_bytes());
    buffer.extend(flags.map(u32::to_le_bytes).into_iter().flatten());
    for name in [substitute, print] {
        buffer.extend(name.into_iter().chain([0]).flat_map(u16::to_le_bytes));
    }
    Ok(buffer)
}

/// Writes the data of a tag that is not a link.
fn encode_raw(tag: u32, data: &[u8]) -> Result<Vec<u8>, ReparseError> {
    let guid = if tag & TAG_MICROSOFT == 0 { GUID_SIZE } else { 0 };
    let no_guid = ReparseError::NoGuid { tag, length: data.len() };
    let length = data.len().checked_sub(guid).ok_or(no_guid)?;
    check_length(length)?;
    let mut buffer = header(tag, length);
    buffer.extend_from_slice(data);
    Ok(buffer)
}

fn check_length(length: usize) -> Result<(), ReparseError> {
    let limit = usize::from(u16::MAX);
    if length > limit { Err(ReparseError::TooLong { length, limit }) } else { Ok(()) }
}

/// A buffer that holds only the header. `length` has passed [`check_length`].
fn header(tag: u32, length: usize) -> Vec<u8> {
    let header = Header { tag: U32::new(tag), data_length: U16::new(length as u16), reserved: U16::new(0) };
    header.as_bytes().to_vec()
}

/// The path the kernel follows for a Win32 link target, and whether it counts as relative.
fn nt_target(target: &str) -> (String, bool) {
    if let Some(rest) = target.strip_prefix(r"\\?\") {
        (format!(r"\??\{rest}"), false)
    } else if let Some(rest) = target.strip_prefix(r"\\") {
        (format!(r"\??\UNC\{rest}"), false)
    } else if matches!(target.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic()) {
        (format!(r"\??\{target}"), false)
    } else {
        (target.to_owned(), true)
    }
}

/// Bytes as Go's `[]rune` converts them: every byte that is not part of a UTF-8 character is U+FFFD, three of
/// them for half a surrogate pair.
fn go_runes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for piece in Pieces::new(bytes) {
        match piece {
            Piece::Char(code) => match char::from_u32(code) {
                Some(character) => text.push(character),
                None => text.push_str("\u{FFFD}\u{FFFD}\u{FFFD}"),
            },
            Piece::Byte(_) => text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn both_names_of_a_link_are_read_wherever_they_lie() {
        let buffer = encode_go(r"C:\Windows", false).unwrap();
        let expected = ReparsePoint::Symlink {
            substitute: br"\??\C:\Windows".to_vec(),
            print: br"C:\Windows".to_vec(),
            relative: false,
        };
        assert_eq!(ReparsePoint::decode(&buffer), Ok(expected));
        // As Windows writes one: print name first, no terminators.
        let windows =
            "0c0000a02400000008001000000008000000000043003a005c0078005c003f003f005c0043003a005c007800";
        let link = ReparsePoint::decode(&hex::decode(windows).unwrap());
        let (substitute, print) = (br"\??\C:\x".to_vec(), br"C:\x".to_vec());
        assert_eq!(link, Ok(ReparsePoint::Symlink { substitute, print, relative: false }));
    }

    #[test]
    fn the_tag_is_that_of_the_buffer() {
        let names = || (b"a".to_vec(), b"b".to_vec());
        let ((substitute, print), other) = (names(), 0x8000_0017);
        let symlink = ReparsePoint::Symlink { substitute, print, relative: true };
        let (substitute, print) = names();
        let mount_point = ReparsePoint::MountPoint { substitute, print };
        let foreign = ReparsePoint::Other { tag: other, data: vec![1] };
        for (point, tag) in
            [(symlink, IO_REPARSE_TAG_SYMLINK), (mount_point, IO_REPARSE_TAG_MOUNT_POINT), (foreign, other)]
        {
            assert_eq!(point.tag(), tag);
            assert_eq!(point.encode().unwrap()[..4], tag.to_le_bytes());
        }
    }

    /// The fixed part of a symbolic link includes flags, that of a mount point does not.
    #[test]
    fn a_link_that_ends_in_its_fixed_part_is_too_short() {
        for (is_mount_point, needed) in [(false, 20), (true, 16)] {
            let buffer = encode_go("", is_mount_point).unwrap();
            for actual in 8..needed {
                let expected = Err(ReparseError::TooShort { needed, actual });
                assert_eq!(ReparsePoint::decode(&buffer[..actual]), expected);
                assert_eq!(decode_go(&buffer[..actual]), Err(ReparseError::TooShort { needed, actual }));
            }
            let outside = ReparsePoint::decode(&buffer[..needed]);
            assert!(matches!(outside, Err(ReparseError::NameOutside { which: "print", available: 0, .. })));
        }
    }

    #[test]
    fn the_target_of_a_wsl_link_ends_at_a_nul_and_no_other_tag_has_one() {
        let link = |tag, data: &[u8]| ReparsePoint::Other { tag, data: data.to_vec() }.encode().unwrap();
        let of = |data: &[u8]| lx_target(&link(IO_REPARSE_TAG_LX_SYMLINK, data)).map(<[u8]>::to_vec);
        assert_eq!(of(b"\x02\0\0\0/usr/bin/sh"), Some(b"/usr/bin/sh".to_vec()));
        assert_eq!(of(b"\x02\0\0\0../\xffsh\0rest"), Some(b"../\xffsh".to_vec()));
        for none in [&b""[..], b"\x02\0\0", b"\x02\0\0\0", b"\x02\0\0\0\0x"] {
            assert_eq!(of(none), None);
        }
        // A socket (IO_REPARSE_TAG_AF_UNIX), and a buffer that is not a reparse buffer.
        assert_eq!(lx_target(&link(0x8000_0023, b"\x02\0\0\0/usr")), None);
        assert_eq!(lx_target(b"\x1d\0\0\xa0"), None);
    }

    #[test]
    fn a_length_that_would_wrap_is_an_error() {
        assert!(encode_go("y".repeat(16_375), false).is_ok());
        let error = encode_go("y".repeat(16_380), false);
        assert_eq!(error, Err(ReparseError::TooLong { length: 65_536, limit: 65_535 }));
    }

    #[test]
    fn half_a_unit_at_the_end_of_a_name_is_refused() {
        let buffer = hex::decode("030000a00b00000000000300040000006100620000").unwrap();
        let expected = ReparseError::OddLength { which: "substitute", length: 3 };
        assert_eq!(ReparsePoint::decode(&buffer), Err(expected));
    }

    #[test]
    fn the_guid_of_a_foreign_tag_is_not_counted() {
        let point = ReparsePoint::Other { tag: 0x0000_0042, data: (0..20).collect() };
        let buffer = point.encode().unwrap();
        assert_eq!(buffer[4..6], [4, 0]);
        assert_eq!(ReparsePoint::decode(&buffer), Ok(point));
        let short = ReparsePoint::Other { tag: 0x0000_0042, data: vec![0; 15] };
        assert_eq!(short.encode(), Err(ReparseError::NoGuid { tag: 0x42, length: 15 }));
    }

    #[test]
    fn bytes_that_are_not_utf8_become_replacement_characters_one_each() {
        let buffer = encode_go(b"a\xFF\xED\xA0\x80b", false).unwrap();
        assert_eq!(decode_go(&buffer).unwrap().target, "a\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}b");
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u16>(), 0..40).prop_map(|units| name::from_utf16(&units))
    }

    fn point() -> impl Strategy<Value = ReparsePoint> {
        let symlink = (name(), name(), any::<bool>())
            .prop_map(|(substitute, print, relative)| ReparsePoint::Symlink { substitute, print, relative });
        let mount_point =
            (name(), name()).prop_map(|(substitute, print)| ReparsePoint::MountPoint { substitute, print });
        let other = (any::<u32>(), vec(any::<u8>(), GUID_SIZE..80))
            .prop_filter("a link", |(tag, _)| {
                ![IO_REPARSE_TAG_SYMLINK, IO_REPARSE_TAG_MOUNT_POINT].contains(tag)
            })
            .prop_map(|(tag, data)| ReparsePoint::Other { tag, data });
        prop_oneof![symlink, mount_point, other]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(point in point()) {
            prop_assert_eq!(ReparsePoint::decode(&point.encode().unwrap()), Ok(point));
        }

        #[test]
        fn a_target_survives_go_winios_form(target: String, is_mount_point: bool) {
            let buffer = encode_go(&target, is_mount_point).unwrap();
            prop_assert_eq!(decode_go(&buffer), Ok(GoTarget { target, is_mount_point }));
        }

        #[test]
        fn any_bytes_are_read_or_refused(tag in 0..3_usize, data in vec(any::<u8>(), 0..60)) {
            let tag = [IO_REPARSE_TAG_SYMLINK, IO_REPARSE_TAG_MOUNT_POINT, 0x8000_0017][tag];
            let buffer = [&tag.to_le_bytes()[..], &data].concat();
            let _ = (ReparsePoint::decode(&buffer), decode_go(&buffer));
        }
    }
}
