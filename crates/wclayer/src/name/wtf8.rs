//! Splits bytes into characters, halves of surrogate pairs, and bytes that are neither.
//!
//! The standard library's UTF-8 functions refuse halves of pairs and replace invalid bytes; names need both
//! kept.

/// A part of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A code point up to 0x10FFFF, half of a surrogate pair included.
    Char(u32),
    /// A byte that is not part of a character.
    Byte(u8),
}

/// The pieces of a name, in order. Writing them all with [`push`] gives the name again.
#[derive(Clone, Debug)]
pub(crate) struct Pieces<'a> {
    name: &'a [u8],
    offset: usize,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(name: &'a [u8]) -> Self {
        Pieces { name, offset: 0 }
    }

    /// Where the next piece starts.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let rest = &self.name[self.offset..];
        let first = *rest.first()?;
        let (piece, length) = match decode(rest) {
            Some((code, length)) => (Piece::Char(code), length),
            None => (Piece::Byte(first), 1),
        };
        self.offset += length;
        Some(piece)
    }
}

/// The code point at the start of `bytes` and its length, or `None` if there is none.
///
/// Overlong forms and values above 0x10FFFF are not code points; halves of surrogate pairs are.
fn decode(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let (length, smallest, bits) = match first {
        0x00..0x80 => return Some((first.into(), 1)),
        0xC2..0xE0 => (2, 0x80, first & 0x1F),
        0xE0..0xF0 => (3, 0x800, first & 0x0F),
        0xF0..0xF5 => (4, 0x10000, first & 0x07),
        _ => return None,
    };
    let mut code = u32::from(bits);
    for &byte in bytes.get(1..length)? {
        if byte & 0xC0 != 0x80 {
            return None;
        }
        code = code << 6 | u32::from(byte & 0x3F);
    }
    (smallest..=0x10FFFF).contains(&code).then_some((code, length))
}

/// Appends a piece's bytes.
pub(crate) fn push(piece: Piece, bytes: &mut Vec<u8>) {
    let continuation = |code: u32, shift: u32| 0x80 | (code >> shift & 0x3F) as u8;
    match piece {
        Piece::Byte(byte) => bytes.push(byte),
        Piece::Char(code @ 0..0x80) => bytes.push(code as u8),
        Piece::Char(code @ 0x80..0x800) => bytes.extend([0xC0 | (code >> 6) as u8, continuation(code, 0)]),
        Piece::Char(code @ 0x800..0x10000) => {
            bytes.extend([0xE0 | (code >> 12) as u8, continuation(code, 6), continuation(code, 0)]);
        }
        Piece::Char(code) => {
            let lead = 0xF0 | (code >> 18 & 0x07) as u8;
            bytes.extend([lead, continuation(code, 12), continuation(code, 6), continuation(code, 0)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(name: &[u8]) -> Vec<Piece> {
        Pieces::new(name).collect()
    }

    #[test]
    fn overlong_and_too_large_forms_are_bytes() {
        assert_eq!(pieces(b"\xC0\x80"), [Piece::Byte(0xC0), Piece::Byte(0x80)]);
        assert_eq!(pieces(b"\xE0\x9F\xBF").len(), 3);
        assert_eq!(pieces(b"\xF4\x90\x80\x80").len(), 4);
        assert_eq!(pieces(b"\xF4\x8F\xBF\xBF"), [Piece::Char(0x10FFFF)]);
    }

    #[test]
    fn half_a_surrogate_pair_is_a_character() {
        assert_eq!(pieces(b"\xED\xA0\x80"), [Piece::Char(0xD800)]);
    }

    proptest! {
        #[test]
        fn the_pieces_of_any_bytes_are_those_bytes(name: Vec<u8>) {
            let mut again = Vec::new();
            for piece in Pieces::new(&name) {
                push(piece, &mut again);
            }
            prop_assert_eq!(again, name);
        }

        #[test]
        fn text_is_taken_apart_as_the_standard_library_does(text: String) {
            let expected: Vec<Piece> = text.chars().map(|c| Piece::Char(c.into())).collect();
            prop_assert_eq!(pieces(text.as_bytes()), expected);
        }
    }
}
