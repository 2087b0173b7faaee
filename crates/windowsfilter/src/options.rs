//! Storage options: `size=` and nothing else.
//!
//! Docker passes them as `--storage-opt size=20GB`. The original accepts any key, in any case, and lets the
//! last one in map order win (`windows.go`, `parseStorageOpt`); ours refuses unknown and repeated keys, and
//! names them. Sizes are Docker's `RAMInBytes` (docker/go-units `size.go`): units are binary in every
//! spelling.

pub use layer_mounts::{MAXIMUM_SANDBOX_SIZE, MINIMUM_SANDBOX_SIZE};

use crate::error::Error;

/// Default size of a sandbox: 127 GB, the default size of a VHD in Hyper-V (`windows.go`,
/// `defaultSandboxSize`).
pub const DEFAULT_SANDBOX_SIZE: u64 = 127 << 30;

/// Options that apply to every sandbox of a store, or to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageOptions {
    /// Sandbox size in bytes; `None` means the default. For one sandbox, 0 means the size of its store; for a
    /// store, the engine's own default: 20 GB for Windows' engine, [`DEFAULT_SANDBOX_SIZE`] for the portable
    /// one.
    pub size: Option<u64>,
}

impl StorageOptions {
    /// Reads `key=value` options as Docker passes them. Keys compare without case.
    ///
    /// # Errors
    /// [`Error::UnknownOption`], [`Error::RepeatedOption`], [`Error::InvalidSize`].
    pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut parsed = Self::default();
        let mut seen = false;
        for option in options {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            if !key.eq_ignore_ascii_case("size") {
                return Err(Error::UnknownOption { option: option.to_owned() });
            }
            if std::mem::replace(&mut seen, true) {
                return Err(Error::RepeatedOption { option: key.to_owned() });
            }
            parsed.size = Some(parse_size(value)?);
        }
        Ok(parsed)
    }
}

/// Docker's `RAMInBytes`: a number, an optional space, and an optional unit `b`, `k`, `m`, `g`, `t` or `p`,
/// each optionally followed by `b` or `ib`, in any case; always powers of 1,024. Fractions are cut to whole
/// bytes.
///
/// # Errors
/// [`Error::InvalidSize`] with the text and the reason.
pub fn parse_size(text: &str) -> Result<u64, Error> {
    let invalid = |reason| Error::InvalidSize { text: text.chars().take(60).collect(), reason };
    // go-units cuts at the last digit, dot or space; what follows must be a unit.
    let cut = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').map_or(0, |i| i + 1);
    let (mut number, unit) = text.split_at(cut);
    // Hexadecimal and Inf/NaN spellings end in letters, which belong to the number only if a digit follows.
    number = number.strip_suffix(' ').unwrap_or(number);
    let value = parse_go_float(number)
        .ok_or_else(|| invalid("it is not a number with an optional unit such as MB or GiB"))?;
    if value < 0.0 {
        return Err(invalid("it is negative"));
    }
    let exponent = unit_exponent(unit).ok_or_else(|| invalid("its unit is none of B, KB, MB, GB, TB, PB"))?;
    let bytes = value * 1024f64.powi(exponent);
    // 2^63 is exact in f64; the reference's int64 overflows from there on.
    if !bytes.is_finite() || bytes >= 9_223_372_036_854_775_808.0 {
        return Err(invalid("it does not fit into 63 bits"));
    }
    // In range and not negative, checked above; the fraction is cut on purpose.
    Ok(bytes as u64)
}

fn unit_exponent(unit: &str) -> Option<i32> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "" | "b") {
        return Some(0);
    }
    let mut chars = unit.chars();
    let exponent = "kmgtp".find(chars.next()?)? as i32 + 1;
    matches!(chars.as_str(), "" | "b" | "ib").then_some(exponent)
}

/// Accepts what Go's `strconv.ParseFloat` accepts: also hexadecimal floats (`0x1p4`) and, as go-units'
/// vectors show, underscores between digits.
fn parse_go_float(text: &str) -> Option<f64> {
    let (sign, magnitude) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if let Some(hex) = magnitude.strip_prefix("0x").or_else(|| magnitude.strip_prefix("0X")) {
        return parse_hex_float(hex).map(|v| sign * v);
    }
    // Go also reads "inf" and "nan", which are not sizes.
    let plain = magnitude.starts_with(|c: char| c.is_ascii_digit() || c == '.') && !magnitude.ends_with('_');
    let magnitude = magnitude.replace('_', "");
    plain.then(|| magnitude.parse::<f64>().ok()).flatten().map(|v| sign * v)
}

fn parse_hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let mantissa = mantissa.replace('_', "");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((&mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let exponent: i32 = exponent.parse().ok()?;
    Some(value * 2f64.powi(exponent.saturating_sub(4 * i32::try_from(fraction.len()).ok()?)))
}

/// A size with a binary unit, for messages: `127.0 GiB`.
pub(crate) fn shown_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(bits, _)| bytes >> bits > 0) {
        Some((bits, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << bits) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/size-options.json");
        let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 115, "only {} cases: the vectors are incomplete", cases.len());
        for case in cases {
            let input = case["input"].as_str().unwrap();
            let expected = case["bytes"].as_u64().filter(|_| case.get("overflow").is_none());
            assert_eq!(parse_size(input).ok(), expected, "{case}");
        }
    }

    #[test]
    fn options_are_checked_and_named() {
        let size = |options: &[&str]| StorageOptions::parse(options.iter().copied()).map(|o| o.size);
        assert_eq!(size(&[]).unwrap(), None);
        assert_eq!(size(&["size=20GB"]).unwrap(), Some(20 << 30));
        assert_eq!(size(&["SIZE=1"]).unwrap(), Some(1));
        assert_eq!(size(&["size=0"]).unwrap(), Some(0));
        assert_eq!(size(&["size=1e3g"]).unwrap(), Some(1000 << 30));
        let error = size(&["sise=1"]).unwrap_err().to_string();
        assert_eq!(error, "unknown storage option \"sise=1\": the only one is size=SIZE, as in size=20GB");
        assert!(matches!(size(&["sise=1"]), Err(Error::UnknownOption { option }) if option == "sise=1"));
        assert!(
            matches!(size(&["size=1", "SIZE=2"]), Err(Error::RepeatedOption { option }) if option == "SIZE")
        );
        for bad in ["size", "size=", "SIZE=", "size=-1", "size=1e3x"] {
            assert!(matches!(size(&[bad]), Err(Error::InvalidSize { .. })), "{bad}");
        }
    }
}
