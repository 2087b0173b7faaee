//! The PAX records of a layer tar, and the text in them.
//!
//! Source: go-winio `backuptar/tar.go`; for base64, what Go's `encoding/base64` `StdEncoding` accepts.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// File attributes, decimal.
pub(super) const FILE_ATTRIBUTES: &[u8] = b"MSWINDOWS.fileattr";
/// Security descriptor, self-relative, base64.
pub(super) const RAW_SECURITY: &[u8] = b"MSWINDOWS.rawsd";
/// Security descriptor as SDDL text, in layers from before 2016.
pub(super) const SDDL: &[u8] = b"MSWINDOWS.sd";
/// Present: the symbolic link is a mount point.
pub(super) const MOUNT_POINT: &[u8] = b"MSWINDOWS.mountpoint";
/// Before the name of an extended attribute; its value, base64.
pub(super) const EA_PREFIX: &[u8] = b"MSWINDOWS.xattr.";
/// Creation time, PAX time.
pub(super) const CREATION_TIME: &[u8] = b"LIBARCHIVE.creationtime";
/// Ours: a whole reparse buffer, base64, if the entry's type and target lack part of it.
pub(super) const RAW_REPARSE: &[u8] = b"WINDOWSFILTER.reparse";
/// Ours: a whole chain of extended attributes, base64, if single records lack part of it.
pub(super) const RAW_EA: &[u8] = b"WINDOWSFILTER.ea";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// Reads base64 as Go does: requires padding, skips line breaks, ignores unused bits.
pub(super) fn decode_base64(text: &[u8]) -> Result<Vec<u8>, base64::DecodeError> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let text: Cow<'_, [u8]> = match text.iter().any(is_break) {
        true => text.iter().copied().filter(|byte| !is_break(byte)).collect(),
        false => text.into(),
    };
    BASE64.decode(text)
}

/// Writes base64.
pub(super) fn encode_base64(data: &[u8]) -> String {
    BASE64.encode(data)
}

/// A decimal number of 32 bits: digits only, any number of leading zeros.
pub(super) fn decode_u32(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        assert_eq!(decode_base64(b"QU\r\nJD\n").unwrap(), b"ABC");
        assert_eq!(decode_base64(b"QR==").unwrap(), b"A", "low bits of the last digit do not count");
        assert_eq!(decode_base64(b"").unwrap(), b"");
        for bad in [&b"QQ"[..], b"QQ=", b"QUJ-", b"QQ==QQ==", b"QQ== ", b"="] {
            assert!(decode_base64(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn attributes_are_plain_decimal() {
        assert_eq!(decode_u32(b"00032"), Some(32));
        assert_eq!(decode_u32(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"+1", b"-1", b"0x20", b"4294967296", b" 1", b"1 "] {
            assert_eq!(decode_u32(bad), None, "{bad:?}");
        }
    }
}
