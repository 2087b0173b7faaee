//! Times in PAX records: decimal seconds since 1970 with an optional fraction, as text.
//!
//! Used by `mtime`, `atime`, `ctime` and `LIBARCHIVE.creationtime`. Reading accepts exactly the same as Go's
//! `archive/tar`, and writing gives its text, because layers must have exactly the reference's bytes.
//!
//! Source: pax(1), "pax Extended Header", and the recorded behaviour of Go in `vectors/paxtime.json`.

use std::fmt;

const NANOS_PER_SECOND: u32 = 1_000_000_000;
/// Digits of the fraction that count; PAX allows any number.
const FRACTION_DIGITS: usize = 9;

/// A time as PAX can write it: `secs` since 1970-01-01 UTC plus `nanos` (0..=999,999,999), so a time
/// before 1970 has negative `secs` and its `nanos` still count forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaxTime {
    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub secs: i64,
    /// Nanoseconds after `secs`, below one thousand million.
    pub nanos: u32,
}

/// Why the text of a PAX time was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PaxTimeError {
    /// The whole seconds are missing, or have characters other than a sign and digits.
    #[error("time {text:?}: the seconds must be decimal digits after an optional sign")]
    Seconds {
        /// The text as found (bytes that are not UTF-8 replaced).
        text: String,
    },
    /// Something other than a digit follows the point.
    #[error("time {text:?}: the fraction must be decimal digits")]
    Fraction {
        /// The text as found (bytes that are not UTF-8 replaced).
        text: String,
    },
    /// The seconds exceed 64 bits.
    #[error("time {text:?}: the seconds do not fit 64 bits")]
    Range {
        /// The text as found.
        text: String,
    },
}

/// Reads the text of a PAX time.
///
/// An optional sign, one or more digits, then optionally a point and any number of digits, of which nine
/// count. No spaces, no exponent.
///
/// # Errors
/// [`PaxTimeError`] when the text has another form or the seconds do not fit `i64`.
pub fn parse(text: &[u8]) -> Result<PaxTime, PaxTimeError> {
    let lossy = || String::from_utf8_lossy(text).into_owned();
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let digits = whole.strip_prefix(b"-").or_else(|| whole.strip_prefix(b"+")).unwrap_or(whole);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(PaxTimeError::Seconds { text: lossy() });
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(PaxTimeError::Fraction { text: lossy() });
    }
    let out_of_range = || PaxTimeError::Range { text: lossy() };
    let whole = std::str::from_utf8(whole).map_err(|_| PaxTimeError::Seconds { text: lossy() })?;
    let secs: i64 = whole.parse().map_err(|_| out_of_range())?;
    let nanos = fraction_nanos(fraction);
    if nanos == 0 || !whole.starts_with('-') {
        return Ok(PaxTime { secs, nanos });
    }
    let secs = secs.checked_sub(1).ok_or_else(out_of_range)?;
    Ok(PaxTime { secs, nanos: NANOS_PER_SECOND - nanos })
}

/// The nanoseconds of a fraction's digits; digits after the ninth are cut off.
fn fraction_nanos(digits: &[u8]) -> u32 {
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0'));
    padded.take(FRACTION_DIGITS).fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'))
}

/// Writes a time as the reference does: the fraction without trailing zeros, and none when it is zero.
pub fn format(time: PaxTime) -> String {
    time.to_string()
}

impl fmt::Display for PaxTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PaxTime { secs, nanos } = *self;
        if nanos == 0 {
            return write!(f, "{secs}");
        }
        // Text counts away from zero, the fields count forwards.
        let (sign, secs, nanos) = match secs {
            ..0 => ("-", (secs + 1).unsigned_abs(), NANOS_PER_SECOND.saturating_sub(nanos)),
            _ => ("", secs.unsigned_abs(), nanos),
        };
        let fraction = format!("{nanos:09}");
        write!(f, "{sign}{secs}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fraction_below_the_smallest_second_is_refused() {
        let text = b"-9223372036854775808.5";
        assert!(matches!(parse(text), Err(PaxTimeError::Range { .. })));
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert!(matches!(parse(b"1\xff"), Err(PaxTimeError::Seconds { .. })));
        assert!(matches!(parse(b"1.\xff"), Err(PaxTimeError::Fraction { .. })));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(secs: i64, nanos in 0..NANOS_PER_SECOND) {
            prop_assume!(secs > i64::MIN || nanos == 0);
            let time = PaxTime { secs, nanos };
            prop_assert_eq!(parse(format(time).as_bytes()), Ok(time));
        }

        #[test]
        fn any_bytes_give_a_time_or_an_error(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(time) = parse(&text) {
                prop_assert!(time.nanos < NANOS_PER_SECOND);
            }
        }
    }
}
