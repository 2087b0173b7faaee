//! Formats of compressed data, detected by their first bytes; media types and file names are wrong too often.
//!
//! One table for layers and image archives: both can be read in the same formats, and errors name the other
//! known formats.

/// A format of compressed or packed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressedFormat {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz file format 1.2.
    Xz,
    /// Julian Seward's.
    Bzip2,
    /// The LZ4 frame format.
    Lz4,
    /// PKWARE's archives.
    Zip,
    /// Igor Pavlov's archives.
    SevenZip,
}

impl CompressedFormat {
    /// Number of bytes needed to detect a format.
    pub const MAGIC_LENGTH: usize = 10;

    /// Detects the format from the first bytes of a file. A tar cannot be mistaken: no entry name begins with
    /// these bytes.
    pub fn of(start: &[u8]) -> Option<Self> {
        Some(match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            // A frame, or a skippable frame, which parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A name could begin with the first four bytes, so check for the following block or end marker,
            // too.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Self::Bzip2,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Self::SevenZip,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "lz4",
            Self::Zip => "zip",
            Self::SevenZip => "7z",
        }
    }

    /// The command that unpacks a format that we cannot read; `None` for formats that we can.
    pub fn unpack_with(self) -> Option<&'static str> {
        Some(match self {
            Self::Gzip | Self::Zstd => return None,
            Self::Xz => "xz -d",
            Self::Bzip2 => "bzip2 -d",
            Self::Lz4 => "lz4 -d",
            Self::Zip => "unzip",
            Self::SevenZip => "7z x",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes_and_no_tar_is_taken_for_one() {
        for (start, format) in [
            (&b"\x1f\x8b\x08\0"[..], Some(CompressedFormat::Gzip)),
            (b"\x28\xb5\x2f\xfd", Some(CompressedFormat::Zstd)),
            (b"\x5a\x2a\x4d\x18", Some(CompressedFormat::Zstd)),
            (b"\xfd7zXZ\0", Some(CompressedFormat::Xz)),
            (b"BZh91AY&SY", Some(CompressedFormat::Bzip2)),
            (b"BZh9\x17\x72\x45\x38\x50\x90", Some(CompressedFormat::Bzip2)),
            (b"BZh9.txt\0\0", None),
            (b"\x04\x22\x4d\x18", Some(CompressedFormat::Lz4)),
            (b"PK\x03\x04", Some(CompressedFormat::Zip)),
            (b"7z\xbc\xaf\x27\x1c", Some(CompressedFormat::SevenZip)),
            (b"Files/\0\0\0\0", None),
            (b"", None),
        ] {
            assert_eq!(CompressedFormat::of(start), format, "{start:?}");
            assert!(format.is_none_or(|format| !format.name().is_empty()));
        }
    }
}
