//! Reading SDDL: one pass over the text, with the position kept for errors.

use super::super::{Ace, AceBody, Acl, AclSlot, SecurityDescriptor, Sid};
use super::{SddlError, tables};

/// Bytes of text that an error quotes.
const QUOTE: usize = 16;

pub(super) fn descriptor(text: &str, domain: Option<&Sid>) -> Result<SecurityDescriptor, SddlError> {
    let mut reader = Reader { text, position: 0, domain };
    let mut descriptor = SecurityDescriptor::default();
    let mut seen = Vec::new();
    while reader.skip_spaces() {
        let position = reader.position;
        let part = reader.part()?;
        if seen.contains(&part) {
            return Err(SddlError::Repeated { position, part });
        }
        seen.push(part);
        match part {
            'O' => descriptor.owner = Some(reader.outer_sid()?),
            'G' => descriptor.group = Some(reader.outer_sid()?),
            'D' => descriptor.dacl = reader.slot(&mut descriptor.control, |(_, dacl, _)| *dacl)?,
            _ => descriptor.sacl = reader.slot(&mut descriptor.control, |(_, _, sacl)| *sacl)?,
        }
    }
    Ok(descriptor)
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    domain: Option<&'a Sid>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    /// Whether anything follows the spaces.
    fn skip_spaces(&mut self) -> bool {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_ascii_start().len();
        self.position < self.text.len()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.position += word.len();
        }
        found
    }

    fn part(&mut self) -> Result<char, SddlError> {
        let found = ['O', 'G', 'D', 'S'].into_iter().find(|&part| {
            let mut start = self.rest().chars();
            start.next() == Some(part) && start.next() == Some(':')
        });
        let position = self.position;
        self.position += 2 * usize::from(found.is_some());
        found.ok_or_else(|| SddlError::Part { position, found: self.rest().chars().take(QUOTE).collect() })
    }

    /// The SID of `O:` or `G:`, which ends where the next part begins.
    fn outer_sid(&mut self) -> Result<Sid, SddlError> {
        let rest = self.rest();
        // A digit of a hexadecimal authority may look like the start of a part, but no colon follows it.
        let next_part = rest.find(':').map_or(rest.len(), |colon| rest[..colon].len().saturating_sub(1));
        let space = rest.find(|character: char| character.is_ascii_whitespace()).unwrap_or(rest.len());
        let end = rest.floor_char_boundary(next_part.min(space));
        let sid = self.sid(&rest[..end], self.position)?;
        self.position += end;
        Ok(sid)
    }

    fn sid(&self, text: &str, position: usize) -> Result<Sid, SddlError> {
        if let Ok(sid) = text.parse() {
            return Ok(sid);
        }
        let fixed = tables::SIDS.iter().chain([&tables::USER_MODE_DRIVERS]);
        if let Some((_, sid)) = fixed.into_iter().find(|(alias, _)| *alias == text) {
            return Ok(*sid);
        }
        let unknown = || SddlError::Sid { position, text: text.to_owned() };
        let (_, rid) = tables::DOMAIN_RIDS.iter().find(|(alias, _)| *alias == text).ok_or_else(unknown)?;
        let domain = self.domain.ok_or_else(|| SddlError::Domain { position, alias: text.to_owned() })?;
        domain.with_rid(*rid).ok_or_else(unknown)
    }

    /// A list after `D:` or `S:`; `bit` chooses the control bit of a flag.
    fn slot(
        &mut self,
        control: &mut u16,
        bit: impl Fn(&(&str, u16, u16)) -> u16,
    ) -> Result<AclSlot, SddlError> {
        while let Some(flag) = tables::ACL_FLAGS.iter().find(|(word, ..)| self.take(word)) {
            *control |= bit(flag);
        }
        if self.take(tables::NULL_ACL) {
            return Ok(AclSlot::Null);
        }
        let mut aces = Vec::new();
        while self.skip_spaces() && self.rest().starts_with('(') {
            aces.push(self.ace()?);
        }
        Ok(AclSlot::List(Acl::new(aces)))
    }

    /// An ACE; the reader stands on its opening parenthesis.
    fn ace(&mut self) -> Result<Ace, SddlError> {
        let position = self.position;
        let inner = &self.rest()[1..];
        let type_end = inner.find([';', ')']).ok_or(SddlError::Unclosed { position })?;
        let ace_type = ace_type(&inner[..type_end], position + 1)?;
        let end = inner.find(')').ok_or(SddlError::Unclosed { position })?;
        let fields: Vec<&str> = inner[..end].split(';').collect();
        let count = fields.len();
        let fields: [&str; 6] = fields.try_into().map_err(|_| SddlError::Fields { position, count })?;
        // Where each field starts, for errors.
        let mut starts = [0; 6];
        fields.iter().zip(&mut starts).fold(position + 1, |start, (field, slot)| {
            *slot = start;
            start + field.len() + 1
        });
        let flags = ace_flags(fields[1], starts[1])?;
        let mask = mask(fields[2], starts[2])?;
        let object_type = guid(fields[3], starts[3])?;
        let inherited_object_type = guid(fields[4], starts[4])?;
        let sid = self.sid(fields[5], starts[5])?;
        self.position = position + end + 2;
        let extra = Vec::new();
        if fields[0].starts_with('O') {
            let body = AceBody::Object { mask, object_type, inherited_object_type, sid, extra };
            return Ok(Ace { ace_type, flags, body });
        }
        if let Some(index) = [3, 4].into_iter().find(|&index| !fields[index].is_empty()) {
            return Err(SddlError::Guid { position: starts[index], text: fields[index].to_owned() });
        }
        Ok(Ace { ace_type, flags, body: AceBody::Plain { mask, sid, extra } })
    }
}

fn ace_type(text: &str, position: usize) -> Result<u8, SddlError> {
    if let Some((_, number)) = tables::ACE_TYPES.iter().find(|(word, _)| *word == text) {
        return Ok(*number);
    }
    let text = text.to_owned();
    match tables::UNSUPPORTED_TYPES.contains(&text.as_str()) {
        true => Err(SddlError::Unsupported { position, text }),
        false => Err(SddlError::AceType { position, text }),
    }
}

fn ace_flags(text: &str, position: usize) -> Result<u8, SddlError> {
    words(text, |word| tables::ACE_FLAGS.iter().find(|(name, _)| *name == word).map(|(_, bit)| *bit))
        .map(|flags| flags.into_iter().fold(0, |all, flag| all | flag))
        .ok_or_else(|| SddlError::AceFlags { position, text: text.to_owned() })
}

/// Names of rights in a row, or one number: decimal, `0x` hexadecimal, or octal with a leading zero.
fn mask(text: &str, position: usize) -> Result<u32, SddlError> {
    let number = |digits: &str, radix| {
        let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
        all_digits.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let mask = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => number(&text[2..], 16),
        [b'0', _, ..] => number(text, 8),
        [b'0'..=b'9', ..] => number(text, 10),
        _ => words(text, right).map(|rights| rights.into_iter().fold(0, |all, right| all | right)),
    };
    mask.ok_or_else(|| SddlError::Rights { position, text: text.to_owned() })
}

fn right(word: &str) -> Option<u32> {
    let mut all = tables::RIGHTS.iter().chain(&tables::MASKS).chain(&tables::LABEL_POLICIES);
    all.find(|(name, _)| *name == word).map(|(_, mask)| *mask)
}

/// The values of words of two letters that follow each other without separator.
fn words<T>(text: &str, value: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.as_bytes().chunks(2).map(|word| value(std::str::from_utf8(word).ok()?)).collect()
}

/// `00299570-246d-11d0-a768-00aa006e0529`: three little-endian numbers, then bytes.
fn guid(text: &str, position: usize) -> Result<Option<[u8; 16]>, SddlError> {
    if text.is_empty() {
        return Ok(None);
    }
    guid_bytes(text).map(Some).ok_or_else(|| SddlError::Guid { position, text: text.to_owned() })
}

fn guid_bytes(text: &str) -> Option<[u8; 16]> {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split('-').collect();
    let hexadecimal = |group: &&str| group.bytes().all(|digit| digit.is_ascii_hexdigit());
    if groups.len() != LENGTHS.len() || !groups.iter().all(hexadecimal) {
        return None;
    }
    if groups.iter().zip(LENGTHS).any(|(group, length)| group.len() != length) {
        return None;
    }
    let mut bytes = u128::from_str_radix(&groups.concat(), 16).ok()?.to_be_bytes();
    swap_guid(&mut bytes);
    Some(bytes)
}

/// Between the order of a GUID's text and that of its bytes on disk; its own inverse.
pub(super) fn swap_guid(bytes: &mut [u8; 16]) {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
}
