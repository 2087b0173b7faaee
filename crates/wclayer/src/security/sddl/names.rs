//! Names of attributes in text: characters that could end them are written as `%0020`.
//!
//! Source: \[MS-DTYP\] 2.5.1.1 (`attr-char2`).

/// Characters that end a name, besides white space.
pub(super) const ENDS: &str = "!\"&()<=>|";

/// Whether a character other than letters and digits stands for itself and may not be written as a number.
const LITERAL: &str = "#$'*+-;?@[\\]^_`{}~:/.";

/// The units of a name; `None` if one is wrongly written as a number.
pub(super) fn decode(text: &str) -> Option<Vec<u16>> {
    let mut units = Vec::new();
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        units.extend(rest[..percent].encode_utf16());
        let digits = rest.get(percent + 1..percent + 5)?;
        let unit = u16::from_str_radix(digits.strip_prefix('+').map_or(digits, |_| "-"), 16).ok()?;
        let is_literal = |c: char| c.is_ascii_alphanumeric() || LITERAL.contains(c);
        if char::from_u32(unit.into()).is_some_and(is_literal) {
            return None;
        }
        units.push(unit);
        rest = &rest[percent + 5..];
    }
    units.extend(rest.encode_utf16());
    Some(units)
}

/// Appends a name.
pub(super) fn encode(text: &mut String, units: &[u16]) {
    for &unit in units {
        match u8::try_from(unit).map(char::from) {
            Ok(c @ '!'..='~') if !matches!(c, '%' | ',') && !ENDS.contains(c) => text.push(c),
            _ => {
                text.push('%');
                for shift in [12, 8, 4, 0] {
                    text.push(char::from(b"0123456789abcdef"[usize::from(unit >> shift & 0xF)]));
                }
            }
        }
    }
}
