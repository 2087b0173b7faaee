//! Resource attributes as text: `("Project",TS,0x0,"Windows","SQL")`.
//!
//! Source: \[MS-DTYP\] 2.5.1.1 (`attribute-data`). Unlike in conditions, SIDs stand bare and octets without a
//! `#` in front; an odd number of digits means a zero before them.

use super::super::claim::{Claim, Values};
use super::super::condition::Token;
use super::condition::{is_white_space, write_octets, write_quoted};
use super::read::Reader;
use super::write::sid_text;
use super::{SddlError, names};
use std::fmt::Write;

/// Flags that \[MS-DTYP\] 2.4.10.1 reserves.
const RESERVED_FLAGS: u32 = 0xFF00;

/// Reads the attribute that begins at the reader's place with a parenthesis; returns its bytes.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<u8>, SddlError> {
    let expect = |reader: &mut Reader<'_>, text: &'static str| {
        reader.skip_white_space();
        if reader.take(text) { Ok(()) } else { Err(reader.condition_error(text)) }
    };
    expect(reader, "(")?;
    reader.skip_white_space();
    let name = reader.quoted().and_then(names::decode).filter(|name| !name.is_empty() && !name.contains(&0));
    let name = name.ok_or_else(|| reader.condition_error("the name of an attribute in quotes"))?;
    expect(reader, ",")?;
    reader.skip_white_space();
    let types = ["TI", "TU", "TS", "TD", "TX", "TB"];
    let kind = types.into_iter().find(|word| reader.take(word));
    let kind = kind.ok_or_else(|| reader.condition_error("TI, TU, TS, TD, TX or TB"))?;
    expect(reader, ",")?;
    reader.skip_white_space();
    let flags = reader.unsigned().and_then(|flags| u32::try_from(flags).ok());
    let flags = flags.filter(|flags| flags & RESERVED_FLAGS == 0);
    let flags = flags.ok_or_else(|| reader.condition_error("flags such as 0x0"))?;
    let values = match kind {
        "TI" => Values::Int(list(reader, "a number of 64 bits", |reader| match reader.integer() {
            Some(Token::Integer { value, .. }) => Some(value),
            _ => None,
        })?),
        "TU" => Values::Uint(list(reader, "a number of 64 bits", Reader::unsigned)?),
        "TS" => Values::String(list(reader, "text in quotes", |reader| {
            reader.quoted().map(|text| text.encode_utf16().collect())
        })?),
        "TD" => Values::Sid(list(reader, "a SID", |reader| {
            let is_end = |c: char| matches!(c, ',' | ')') || is_white_space(c);
            let end = reader.rest().find(is_end)?;
            reader.sid_of(end).ok()
        })?),
        "TX" => Values::Octets(list(reader, "octets", |reader| {
            Some(reader.octets()).filter(|octets| !octets.is_empty())
        })?),
        _ => Values::Boolean(list(reader, "0 or 1", |reader| match reader.unsigned() {
            Some(value @ 0..=1) => Some(value == 1),
            _ => None,
        })?),
    };
    Ok(Claim { name, flags, values }.to_bytes())
}

/// Values, each behind a comma, up to the closing parenthesis.
fn list<'a, T>(
    reader: &mut Reader<'a>,
    expected: &'static str,
    mut value: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Result<Vec<T>, SddlError> {
    let mut values = Vec::new();
    loop {
        reader.skip_white_space();
        if reader.take(")") {
            return Ok(values);
        }
        if !reader.take(",") {
            return Err(reader.condition_error(", or )"));
        }
        reader.skip_white_space();
        let place = reader.condition_error(expected);
        values.push(value(reader).ok_or(place)?);
    }
}

/// The text of the attribute in these bytes, if there is one that reads back as the same bytes.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let claim = Claim::parse(bytes)?;
    let mut text = String::from("(\"");
    names::encode(&mut text, &claim.name);
    let kind = match &claim.values {
        Values::Int(_) => "TI",
        Values::Uint(_) => "TU",
        Values::String(_) => "TS",
        Values::Sid(_) => "TD",
        Values::Boolean(_) => "TB",
        Values::Octets(_) => "TX",
    };
    // Writing to a string cannot fail, here and below.
    let _ = write!(text, "\",{kind},{:#x}", claim.flags);
    write_values(&mut text, &claim.values)?;
    text.push(')');
    let mut reader = Reader::new(&text, None);
    let read = read(&mut reader).ok()?;
    (reader.rest().is_empty() && read == bytes).then_some(text)
}

fn write_values(text: &mut String, values: &Values) -> Option<()> {
    match values {
        Values::Int(values) => values.iter().for_each(|value| {
            let _ = write!(text, ",{value}");
        }),
        Values::Uint(values) => values.iter().for_each(|value| {
            let _ = write!(text, ",{value}");
        }),
        Values::String(values) => values.iter().try_for_each(|value| {
            text.push(',');
            write_quoted(text, value)
        })?,
        Values::Sid(values) => values.iter().for_each(|sid| {
            text.push(',');
            text.push_str(&sid_text(sid));
        }),
        Values::Boolean(values) => values.iter().for_each(|&value| {
            text.push_str(if value { ",1" } else { ",0" });
        }),
        Values::Octets(values) => values.iter().for_each(|value| {
            text.push(',');
            write_octets(text, value);
        }),
    }
    Some(())
}
