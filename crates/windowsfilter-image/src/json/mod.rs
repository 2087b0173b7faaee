//! JSON that Go programs write, read as Go's `encoding/json` reads it. Every document of another program goes
//! through here.
//!
//! What Go does and serde does not (go1.25 `src/encoding/json`: `decode.go`, `object`, `array`,
//! `literalStore`, `unquoteBytes`; `fold.go`; `scanner.go`, `maxNestingDepth`):
//!
//! - A key means the field with exactly this name, otherwise one with this name in any case ([`fold`]).
//! - A field that comes twice, in one spelling or two, is set twice: the later value replaces the earlier
//!   one, but objects are merged. So of two spellings the last one counts, not the exact one.
//! - `null` sets nothing: a field stays absent, an element of a list or a value of a map gets its default,
//!   a list or map becomes empty.
//! - Bytes in a string that are not UTF-8, and halves of surrogate pairs, each become U+FFFD.
//! - Unknown members are skipped. They only have to be JSON.
//! - More than 10,000 levels of nesting, or a byte order mark, are errors.
//!
//! Values stay text until a field is read, so a document takes no more memory than its bytes and the fields
//! that are read.

mod edit;
mod read;

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, Visitor};

use crate::error::Error;
pub(crate) use edit::Object;
use read::Node;

/// Most nested levels of lists and objects: Go's `maxNestingDepth`.
const MAX_DEPTH: usize = 10_000;
/// The newtype name by which [`Raw`] asks for a value's text.
const RAW: &str = "windowsfilter_image::json::Raw";

/// Why a document is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Path of the value: `manifests[0].digest`; empty for the document itself.
    path: String,
    reason: String,
}

impl JsonError {
    fn new(reason: impl fmt::Display) -> Self {
        Self { path: String::new(), reason: reason.to_string() }
    }

    /// The same error, with the enclosing list's or object's step before its path.
    pub(crate) fn within(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

impl std::error::Error for JsonError {}

impl serde::de::Error for JsonError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }
}

/// Parses the document `bytes`; errors call it `what`.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    read(bytes).map_err(|source| Error::Json { what: what.into(), source })
}

/// Parses the document `bytes`.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    T::deserialize(Node::new(&checked(bytes)?))
}

/// The document as text, trimmed, after a check that it is JSON.
fn checked(bytes: &[u8]) -> Result<Cow<'_, str>, JsonError> {
    let text = text(bytes);
    // `IgnoredAny` skips without recursion and does not check numbers and escapes.
    serde_json::from_str::<IgnoredAny>(&text).map_err(JsonError::new)?;
    if depth(&text) > MAX_DEPTH {
        return Err(JsonError::new(format!("it is nested deeper than {MAX_DEPTH} levels")));
    }
    let trim = |text: &str| text.trim_matches(is_space).to_owned();
    Ok(if text.trim_matches(is_space).len() == text.len() { text } else { Cow::Owned(trim(&text)) })
}

/// Replaces each invalid byte by U+FFFD.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for (_, byte) in Structure::of(text) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The bytes of a JSON text outside of strings, with their positions.
struct Structure<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Structure<'a> {
    fn of(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), place: 0 }
    }
}

impl Iterator for Structure<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        if self.bytes.get(self.place) == Some(&b'"') {
            self.place += string_length(&self.bytes[self.place..]);
        }
        let byte = *self.bytes.get(self.place)?;
        self.place += 1;
        Some((self.place - 1, byte))
    }
}

/// Length of the string at the start of `bytes`, quotes included.
fn string_length(bytes: &[u8]) -> usize {
    let mut place = 1;
    loop {
        match bytes.get(place) {
            None => return bytes.len(),
            Some(b'"') => return place + 1,
            Some(b'\\') => place += 2,
            Some(_) => place += 1,
        }
    }
}

/// The parts of a list or object, split at its own commas.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            return None;
        }
        let mut depth = 0_usize;
        let own_comma = |&(_, byte): &(usize, u8)| {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            byte == b',' && depth == 0
        };
        let end = Structure::of(rest).find(own_comma).map_or(rest.len(), |(place, _)| place);
        let part = rest[..end].trim_end_matches(is_space);
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(part)
    })
}

/// An object's members: key, with quotes, and value.
fn members(text: &str) -> impl Iterator<Item = (&str, &str)> {
    parts(text).map(|part| {
        let (key, value) = part.split_at(string_length(part.as_bytes()));
        (key, value.trim_start_matches(is_space).trim_start_matches(':').trim_start_matches(is_space))
    })
}

/// A string's value.
fn unquoted(text: &str) -> Cow<'_, str> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    if !text.contains('\\') {
        return Cow::Borrowed(text.trim_matches('"'));
    }
    // Read as bytes, because halves of surrogate pairs come as three invalid bytes each.
    let bytes = serde_json::Deserializer::from_str(text).deserialize_bytes(Bytes).unwrap_or_default();
    let mut said = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        said.push_str(chunk.valid());
        let halves = chunk.invalid().iter().filter(|byte| **byte == 0xed);
        said.extend(halves.map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(said)
}

/// The field for a key: exact name first, then any case.
fn field(fields: &'static [&'static str], key: &str) -> Option<&'static str> {
    let exact = fields.iter().find(|field| **field == key);
    exact.or_else(|| fields.iter().find(|field| equal_fold(field, key))).copied()
}

/// Whether two texts differ in case only, as Go's `strings.EqualFold` does for ASCII.
pub(crate) fn equal_fold(ascii: &str, other: &str) -> bool {
    ascii.chars().map(fold).eq(other.chars().map(fold))
}

/// Two non-ASCII characters fold to ASCII letters: the long s and the Kelvin sign.
fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 'S',
        '\u{212a}' => 'K',
        c => c.to_ascii_uppercase(),
    }
}

/// A value as its text, for reading later or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw(String);

impl Raw {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as `serde_json::Value`; as text, if Rust's numbers and strings cannot hold it (Go skips
    /// such values).
    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_else(|_| serde_json::Value::String(self.0.clone()))
    }

    /// Parses the value.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        T::deserialize(Node::new(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a document")
            }

            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw(text.to_owned()))
            }
        }
        deserializer.deserialize_newtype_struct(RAW, Text)
    }
}

/// A value that counts as absent if it is invalid: for fields that are read before it is known whether they
/// matter.
#[derive(Clone, Debug)]
pub(crate) struct Lenient<T>(pub(crate) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> serde::Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Raw::deserialize(deserializer)?.read().ok()))
    }
}

#[cfg(test)]
mod tests;
