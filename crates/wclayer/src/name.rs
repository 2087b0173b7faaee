//! Names of Windows files as bytes: compares them as NTFS does, and finds those that Windows cannot hold.
//!
//! A Windows name is a sequence of 16-bit units, nearly always UTF-16, sometimes with half a surrogate pair.
//! Here it is WTF-8: UTF-8 that also allows such a half. Names from a tar may be arbitrary bytes; those pass
//! through every function unchanged and compare as themselves, so that decoding never makes two names equal.
//!
//! Two names of one directory are the same file when their *folded* forms are equal: each unit is replaced by
//! its entry in the `$UpCase` table of the volume (see [`upcase`] for the choice of the table). Units are
//! folded one by one, so a character outside the basic plane, which is two units, has no other case.
//!
//! ```
//! use wclayer::name;
//!
//! assert!(name::eq(b"System32", b"SYSTEM32"));
//! assert!(!name::eq("straße".as_bytes(), b"STRASSE"));
//! assert_eq!(name::windows_problem(b"aux.c"), Some("is a device name"));
//! ```

pub mod upcase;
pub(crate) mod wtf8;

use wtf8::{Piece, Pieces};

/// UTF-16 units in the longest name NTFS can store (its length is one byte).
pub const MAX_UNITS: usize = 255;

/// The bytes are not WTF-8, so they have no form in UTF-16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("name is not WTF-8 at byte {offset}")]
pub struct NotWtf8 {
    /// The first byte that is not part of a character. The second half of a surrogate pair written as two
    /// characters counts too: it must be one character of four bytes.
    pub offset: usize,
}

/// The folded form of a name: equal names have equal bytes.
pub fn fold(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len());
    fold_into(name, &mut folded);
    folded
}

/// Appends the folded form of `name` to `folded`; for keys that are built in a reused buffer.
pub fn fold_into(name: &[u8], folded: &mut Vec<u8>) {
    let ascii = name.iter().take_while(|byte| byte.is_ascii()).count();
    let (ascii, rest) = name.split_at(ascii);
    let start = folded.len();
    folded.extend_from_slice(ascii);
    folded[start..].make_ascii_uppercase();
    for piece in Pieces::new(rest).map(fold_piece) {
        wtf8::push(piece, folded);
    }
}

/// Whether two names are the same file name. Allocates nothing.
pub fn eq(a: &[u8], b: &[u8]) -> bool {
    let equal_ascii = |(x, y): &(&u8, &u8)| x.is_ascii() && y.is_ascii() && x.eq_ignore_ascii_case(y);
    let equal = a.iter().zip(b).take_while(equal_ascii).count();
    let (a, b) = (&a[equal..], &b[equal..]);
    match (a.first(), b.first()) {
        (None, None) => true,
        (None, _) | (_, None) => false,
        // Nothing beyond ASCII folds to ASCII, so two different ASCII bytes decide.
        (Some(x), Some(y)) if x.is_ascii() && y.is_ascii() => false,
        _ => Pieces::new(a).map(fold_piece).eq(Pieces::new(b).map(fold_piece)),
    }
}

fn fold_piece(piece: Piece) -> Piece {
    match piece {
        // Surrogates are below 0x10000 too; the table maps them to themselves.
        Piece::Char(code) => match u16::try_from(code) {
            Ok(unit) => Piece::Char(upcase::upcase(unit).into()),
            Err(_) => piece,
        },
        Piece::Byte(_) => piece,
    }
}

/// The UTF-16 units of a name. [`from_utf16`] gives the same bytes back.
///
/// # Errors
/// [`NotWtf8`] when the bytes are not WTF-8.
pub fn to_utf16(name: &[u8]) -> Result<Vec<u16>, NotWtf8> {
    let mut units = Vec::with_capacity(name.len());
    let mut pieces = Pieces::new(name);
    loop {
        let offset = pieces.offset();
        let code = match pieces.next() {
            None => return Ok(units),
            Some(Piece::Byte(_)) => return Err(NotWtf8 { offset }),
            Some(Piece::Char(code)) => code,
        };
        // Whole pairs come as one character, so a lead at the end stands alone, and this trail would complete
        // it: a second spelling of a character, which `from_utf16` could not give back.
        if is_trail(code) && units.last().is_some_and(|unit| is_lead(*unit)) {
            return Err(NotWtf8 { offset });
        }
        match u16::try_from(code) {
            Ok(unit) => units.push(unit),
            Err(_) => units.extend([lead_of(code), trail_of(code)]),
        }
    }
}

fn is_lead(unit: u16) -> bool {
    (0xD800..0xDC00).contains(&unit)
}

fn is_trail(code: u32) -> bool {
    (0xDC00..0xE000).contains(&code)
}

fn lead_of(code: u32) -> u16 {
    // `code` is at most 0x10FFFF: ten bits remain.
    0xD800 + ((code - 0x10000) >> 10) as u16
}

fn trail_of(code: u32) -> u16 {
    0xDC00 + (code & 0x3FF) as u16
}

/// The WTF-8 form of UTF-16 units; halves of surrogate pairs that stand alone are kept.
pub fn from_utf16(units: &[u16]) -> Vec<u8> {
    let mut name = Vec::with_capacity(units.len());
    for unit in char::decode_utf16(units.iter().copied()) {
        let code = unit.map_or_else(|alone| alone.unpaired_surrogate().into(), u32::from);
        wtf8::push(Piece::Char(code), &mut name);
    }
    name
}

/// Why Windows cannot hold a file of this name in a directory, as the end of a sentence that starts with the
/// name; `None` when it can.
///
/// Names that only the native API can create (device names, a dot or space at the end) count as names
/// Windows cannot hold: no Windows program could open or delete the file.
///
/// Source: "Naming Files, Paths, and Namespaces" (Win32), \[MS-FSCC\] 2.1.5.
pub fn windows_problem(name: &[u8]) -> Option<&'static str> {
    let Ok(units) = to_utf16(name) else { return Some("is not valid Unicode") };
    if units.is_empty() {
        return Some("is empty");
    }
    if units.len() > MAX_UNITS {
        return Some("is longer than 255 UTF-16 units");
    }
    if name == b"." || name == b".." {
        return Some("means a directory itself");
    }
    if name.iter().any(|&byte| byte < 0x20) {
        return Some("contains a control character");
    }
    if name.iter().any(|byte| br#"<>:"/\|?*"#.contains(byte)) {
        return Some(r#"contains one of < > : " / \ | ? *"#);
    }
    match name.last() {
        Some(b'.') => Some("ends in a dot"),
        Some(b' ') => Some("ends in a space"),
        _ if is_device(name) => Some("is a device name"),
        _ => None,
    }
}

/// Whether the name, without extension and the spaces before it, is one of the reserved DOS devices. The
/// superscript digits one to three count as digits.
fn is_device(name: &[u8]) -> bool {
    const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let base = name.split(|&byte| byte == b'.').next().unwrap_or(name);
    let Ok(base) = std::str::from_utf8(base) else { return false };
    let base = base.trim_end_matches(' ');
    if DEVICES.iter().any(|device| base.eq_ignore_ascii_case(device)) {
        return true;
    }
    let port = |prefix: &str| {
        let (start, number) = base.split_at_checked(prefix.len())?;
        let number = start.eq_ignore_ascii_case(prefix).then_some(number)?;
        Some(matches!(number, "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"))
    };
    port("COM").or_else(|| port("LPT")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONE_LEAD: &[u8] = b"\xED\xA0\xBD";
    const LONE_TRAIL: &[u8] = b"\xED\xB8\x80";

    #[test]
    fn case_is_ignored_in_every_alphabet_the_table_knows() {
        assert!(eq("grüße.TXT".as_bytes(), "GRÜßE.txt".as_bytes()));
        assert!(eq("привет".as_bytes(), "ПРИВЕТ".as_bytes()));
        assert!(eq("ɐ".as_bytes(), "Ɐ".as_bytes()));
        assert_eq!(fold("naïve".as_bytes()), "NAÏVE".as_bytes());
    }

    #[test]
    fn letters_without_a_partner_in_the_table_stay_themselves() {
        for (lower, unicode_upper) in
            [("ß", "SS"), ("ı", "I"), ("ſ", "S"), ("ς", "Σ"), ("µ", "Μ"), ("ა", "Ა")]
        {
            assert!(!eq(lower.as_bytes(), unicode_upper.as_bytes()), "{lower}");
        }
        assert!(eq("σ".as_bytes(), "Σ".as_bytes()));
    }

    #[test]
    fn characters_of_two_units_have_no_other_case() {
        assert!(!eq("𐐨".as_bytes(), "𐐀".as_bytes()));
        assert_eq!(fold("𐐨".as_bytes()), "𐐨".as_bytes());
    }

    #[test]
    fn half_a_surrogate_pair_is_a_name_like_any_other() {
        let name = [LONE_TRAIL, b"x", LONE_LEAD].concat();
        assert_eq!(to_utf16(&name), Ok(vec![0xDE00, u16::from(b'x'), 0xD83D]));
        assert_eq!(fold(&name), [LONE_TRAIL, b"X", LONE_LEAD].concat());
        assert_eq!(windows_problem(&name), None);
    }

    #[test]
    fn a_pair_written_as_two_halves_has_no_utf16_form() {
        let name = [b"a", LONE_LEAD, LONE_TRAIL].concat();
        assert_eq!(to_utf16(&name), Err(NotWtf8 { offset: 4 }));
        assert!(!eq(&name, "a😀".as_bytes()));
    }

    #[test]
    fn bytes_that_are_no_text_compare_as_themselves() {
        assert!(eq(b"a\xFFb", b"A\xFFB"));
        assert!(!eq(b"a\xFFb", b"a\xFEb"));
        assert_eq!(to_utf16(b"ab\xC3"), Err(NotWtf8 { offset: 2 }));
    }

    #[test]
    fn names_windows_cannot_hold_say_why() {
        let problems: [(&[u8], &str); 18] = [
            (b"", "is empty"),
            (b".", "means a directory itself"),
            (b"..", "means a directory itself"),
            (b"a\xFF", "is not valid Unicode"),
            (b"a\x1Fb", "contains a control character"),
            (b"a\0b", "contains a control character"),
            (b"a:b", r#"contains one of < > : " / \ | ? *"#),
            (b"a\\b", r#"contains one of < > : " / \ | ? *"#),
            (b"a?", r#"contains one of < > : " / \ | ? *"#),
            (b"trailing.", "ends in a dot"),
            (b"trailing ", "ends in a space"),
            (b"nul", "is a device name"),
            (b"Aux.tar.gz", "is a device name"),
            (b"con .txt", "is a device name"),
            (b"COM9", "is a device name"),
            ("lpt³.log".as_bytes(), "is a device name"),
            (b"conin$", "is a device name"),
            (&[b'x'; 256], "is longer than 255 UTF-16 units"),
        ];
        for (name, problem) in problems {
            assert_eq!(windows_problem(name), Some(problem), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn names_windows_can_hold_have_no_problem() {
        for name in
            ["com0", "COM10", "console", "nul_", "lpt", ".hidden", "a.b.c", " x", "日本語", "$Recycle.Bin"]
        {
            assert_eq!(windows_problem(name.as_bytes()), None, "{name}");
        }
        assert_eq!(windows_problem("日".repeat(255).as_bytes()), None);
        assert!(windows_problem("😀".repeat(128).as_bytes()).is_some());
    }

    /// Bytes with many letters, halves of pairs and broken sequences.
    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            "[a-zA-Zµßıſςσǅ]".prop_map(String::into_bytes),
            any::<u8>().prop_map(|byte| vec![byte]),
            (0xD800..0xE000_u16).prop_map(|unit| from_utf16(&[unit])),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn utf16_survives_wtf8(units: Vec<u16>) {
            prop_assert_eq!(to_utf16(&from_utf16(&units)), Ok(units));
        }

        #[test]
        fn what_has_a_utf16_form_comes_back_from_it(name in any_name()) {
            if let Ok(units) = to_utf16(&name) {
                prop_assert_eq!(from_utf16(&units), name);
            }
        }

        #[test]
        fn folding_a_name_is_folding_its_units(units: Vec<u16>) {
            let folded: Vec<u16> = units.iter().map(|&unit| upcase::upcase(unit)).collect();
            prop_assert_eq!(fold(&from_utf16(&units)), from_utf16(&folded));
        }

        #[test]
        fn equal_means_equal_folded_bytes(a in any_name(), b in any_name()) {
            prop_assert_eq!(eq(&a, &b), fold(&a) == fold(&b));
            prop_assert!(eq(&a, &fold(&a)));
        }

        #[test]
        fn folding_appends_to_what_is_there(name in any_name()) {
            let mut key = b"dir/".to_vec();
            fold_into(&name, &mut key);
            prop_assert_eq!(key, [b"dir/".to_vec(), fold(&name)].concat());
        }
    }
}
