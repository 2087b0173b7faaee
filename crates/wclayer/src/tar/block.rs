//! One 512-byte header block: the places of its fields, and their formats of numbers and text.
//!
//! Source: POSIX.1-2001 `ustar`, GNU tar's `tar.h` (`struct oldgnu_header`, `struct star_header`), and the
//! leniency of Go's `archive/tar` `format.go` and `strconv.go`.

use std::ops::Range;

/// Everything in a tar starts at a multiple of this many bytes.
pub const BLOCK_SIZE: usize = 512;

/// A header as it lies in the archive.
pub(super) type Block = [u8; BLOCK_SIZE];

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPE_FLAG: usize = 156;
pub(super) const LINK_NAME: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..263;
pub(super) const VERSION: Range<usize> = 263..265;
pub(super) const UNAME: Range<usize> = 265..297;
pub(super) const GNAME: Range<usize> = 297..329;
pub(super) const DEV_MAJOR: Range<usize> = 329..337;
pub(super) const DEV_MINOR: Range<usize> = 337..345;
pub(super) const USTAR_PREFIX: Range<usize> = 345..500;
pub(super) const STAR_PREFIX: Range<usize> = 345..476;
pub(super) const STAR_ATIME: Range<usize> = 476..488;
pub(super) const STAR_CTIME: Range<usize> = 488..500;
pub(super) const STAR_TRAILER: Range<usize> = 508..512;
pub(super) const GNU_ATIME: Range<usize> = 345..357;
pub(super) const GNU_CTIME: Range<usize> = 357..369;
pub(super) const GNU_SPARSE: Range<usize> = 386..483;
pub(super) const GNU_REAL_SIZE: Range<usize> = 483..495;

/// The tar dialect of a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    /// USTAR or PAX: they differ in the headers before this one.
    Ustar,
    Gnu,
    Star,
}

/// A numeric field that does not hold a number, or one beyond 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotANumber;

/// The dialect of a block; `None` if its checksum is wrong, as in anything but a tar header.
pub(super) fn format(block: &Block) -> Option<Format> {
    let stated = octal(&block[CHECKSUM]).ok()?;
    // Nearly every tar has the first of the two.
    if stated != checksum(block) && stated != signed_checksum(block) {
        return None;
    }
    Some(if &block[MAGIC] == b"ustar\0" {
        if &block[STAR_TRAILER] == b"tar\0" { Format::Star } else { Format::Ustar }
    } else if &block[MAGIC] == b"ustar " && &block[VERSION] == b" \0" {
        Format::Gnu
    } else {
        Format::V7
    })
}

/// The sum of all bytes, the checksum field taken as spaces.
pub(super) fn checksum(block: &Block) -> i64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    i64::from(sum(&block[..CHECKSUM.start]) + sum(&block[CHECKSUM.end..]) + 8 * u32::from(b' '))
}

/// The checksum of old Sun tars, which treated bytes as signed: one from 0x80 up counts 256 less.
fn signed_checksum(block: &Block) -> i64 {
    let high = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte >> 7)).sum::<u32>();
    checksum(block) - 256 * i64::from(high(&block[..CHECKSUM.start]) + high(&block[CHECKSUM.end..]))
}

/// The bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.iter().position(|&b| b == 0).map_or(field, |end| &field[..end])
}

/// A number in octal, or in base 256 when the top bit of the field is set (GNU and star). May be negative.
pub(super) fn number(field: &[u8]) -> Result<i64, NotANumber> {
    let first = *field.first().ok_or(NotANumber)?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // Two's complement; a negative number is read inverted, because -a-1 == !a.
    let inversion = if first & 0x40 != 0 { 0xff } else { 0 };
    let mut value = 0u64;
    for (i, &byte) in field.iter().enumerate() {
        let byte = byte ^ inversion;
        let byte = if i == 0 { byte & 0x7f } else { byte };
        if value >> 56 > 0 {
            return Err(NotANumber);
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| NotANumber)?;
    Ok(if inversion == 0 { value } else { !value })
}

/// A number in octal between any spaces and NULs; an empty field is zero.
pub(super) fn octal(field: &[u8]) -> Result<i64, NotANumber> {
    let is_padding = |&b: &u8| b == b' ' || b == 0;
    let Some(start) = field.iter().position(|b| !is_padding(b)) else { return Ok(0) };
    let end = field.iter().rposition(|b| !is_padding(b)).map_or(start, |last| last + 1);
    let mut value = 0i64;
    for &digit in text(&field[start..end]) {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(NotANumber);
        }
        // The longest field has twelve digits, 36 bits.
        value = value << 3 | i64::from(digit - b'0');
    }
    Ok(value)
}

/// Writes `value` as zero-padded octal with a closing NUL.
///
/// A value that does not fit leaves the field as zeros, as Go does: such values are in a PAX record as well.
pub(super) fn put_octal(field: &mut [u8], value: i64) {
    let mut rest = if fits_octal(field.len(), value) { value } else { 0 };
    let (digits, end) = field.split_at_mut(field.len() - 1);
    end[0] = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
}

/// Whether `value` can be written in a field of `width` bytes whose last is NUL.
pub(super) fn fits_octal(width: usize, value: i64) -> bool {
    let bits = (width as u32 - 1) * 3;
    value >= 0 && (bits >= 63 || value >> bits == 0)
}

/// Fills in the magic of USTAR and PAX, then the checksum, which has to come last.
pub(super) fn seal(block: &mut Block) {
    block[MAGIC].copy_from_slice(b"ustar\0");
    block[VERSION].copy_from_slice(b"00");
    let sum = checksum(block);
    // Six digits, NUL, space: not the layout of the other fields.
    put_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 1], sum);
    block[CHECKSUM.end - 1] = b' ';
}

/// Bytes from `size` to the next block boundary.
pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() & (BLOCK_SIZE as u64 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields_may_be_padded_on_both_sides_and_may_be_empty() {
        assert_eq!(octal(b"  0644 \0"), Ok(0o644));
        assert_eq!(octal(b"\0\0\0\0"), Ok(0));
        assert_eq!(octal(b"00000008"), Err(NotANumber));
        assert_eq!(octal(b"77777777"), Ok(0o77_777_777));
        assert_eq!(octal(b"12\0garb"), Ok(0o12));
    }

    #[test]
    fn base_256_numbers_are_signed_and_bounded_by_63_bits() {
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 1]), Ok(1));
        assert_eq!(number(&[0xff; 8]), Ok(-1));
        assert_eq!(number(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Ok(i64::MAX));
        assert_eq!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(NotANumber));
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(NotANumber));
    }

    #[test]
    fn octal_numbers_that_do_not_fit_are_written_as_zero() {
        let mut field = [b'x'; 8];
        put_octal(&mut field, 0o1_234_567);
        assert_eq!(&field, b"1234567\0");
        put_octal(&mut field, -1);
        assert_eq!(&field, b"0000000\0");
        put_octal(&mut field, 0o10_000_000);
        assert_eq!(&field, b"0000000\0");
    }
}
