//! Reading SDDL: one pass over the text, with the position kept for errors.

use super::super::condition::{Base, Sign, Token};
use super::super::{Ace, AceBody, Acl, AclSlot, SecurityDescriptor, Sid};
use super::{SddlError, claim, condition, tables};

/// Bytes of text that an error quotes.
const QUOTE: usize = 16;

pub(super) fn descriptor(text: &str, domain: Option<&Sid>) -> Result<SecurityDescriptor, SddlError> {
    let mut reader = Reader::new(text, domain);
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

/// A place in a text.
pub(super) struct Reader<'a> {
    text: &'a str,
    position: usize,
    domain: Option<&'a Sid>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, domain: Option<&'a Sid>) -> Self {
        Self { text, position: 0, domain }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    /// Takes that many bytes.
    pub(super) fn advance(&mut self, length: usize) -> &'a str {
        let taken = &self.rest()[..length];
        self.position += length;
        taken
    }

    /// The error for something that a condition or an attribute lacks here.
    pub(super) fn condition_error(&self, expected: &'static str) -> SddlError {
        SddlError::Condition { position: self.position, expected, found: quote(self.rest()) }
    }

    /// White space as conditions may have it.
    pub(super) fn skip_white_space(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start_matches(condition::is_white_space).len();
    }

    /// Blanks, which Windows skips in front of a field.
    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start_matches(' ').len();
    }

    /// Whether anything follows the spaces.
    fn skip_spaces(&mut self) -> bool {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_ascii_start().len();
        self.position < self.text.len()
    }

    pub(super) fn take_any_case(&mut self, word: &str) -> bool {
        let found = self.rest().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if found {
            self.position += word.len();
        }
        found
    }

    pub(super) fn take(&mut self, word: &str) -> bool {
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
        found.ok_or_else(|| SddlError::Part { position, found: quote(self.rest()) })
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
        self.skip_blanks();
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

    /// The SID of the next `length` bytes.
    pub(super) fn sid_of(&mut self, length: usize) -> Result<Sid, SddlError> {
        let position = self.position;
        let text = self.advance(length);
        self.sid(text, position)
    }

    /// Text in quotes; it cannot contain quotes or a NUL.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        let inner = self.rest().strip_prefix('"')?;
        let text = &inner[..inner.find('"')?];
        self.position += text.len() + 2;
        (!text.contains('\0')).then_some(text)
    }

    /// Hexadecimal digits, of which `#` is zero. An odd number of them has a zero in front.
    pub(super) fn octets(&mut self) -> Vec<u8> {
        let rest = self.rest();
        let length = rest.find(|c: char| c != '#' && !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        // Each is a digit.
        let digit = |c: char| if c == '#' { 0 } else { c.to_digit(16).unwrap_or(0) as u8 };
        let zero = (length % 2 == 1).then_some(0);
        let digits: Vec<u8> = zero.into_iter().chain(self.advance(length).chars().map(digit)).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// A number with or without sign, in any base; `None` where it does not fit 64 bits.
    pub(super) fn integer(&mut self) -> Option<Token> {
        let sign = match self.rest().as_bytes().first()? {
            b'+' => Sign::Plus,
            b'-' => Sign::Minus,
            _ => Sign::None,
        };
        self.position += usize::from(sign != Sign::None);
        let (digits, base) = self.digits()?;
        let value = match (sign, base) {
            (Sign::Minus, _) => 0_i64.checked_sub_unsigned(digits)?,
            // Without a sign, these are the bits.
            (Sign::None, Base::Octal | Base::Hexadecimal) => digits.cast_signed(),
            _ => i64::try_from(digits).ok()?,
        };
        Some(Token::Integer { value, sign, base })
    }

    /// A number without sign, in any base.
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        self.digits().map(|(value, _)| value)
    }

    fn digits(&mut self) -> Option<(u64, Base)> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let digits = self.advance(length);
        let (digits, radix, base) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&digits[2..], 16, Base::Hexadecimal),
            [b'0', _, ..] => (&digits[1..], 8, Base::Octal),
            _ => (digits, 10, Base::Decimal),
        };
        u64::from_str_radix(digits, radix).ok().map(|value| (value, base))
    }

    /// The next field of an ACE, without the blanks in front of it, and where it begins. It ends before `;`
    /// or `)`.
    fn field(&mut self, ace: usize) -> Result<(&'a str, usize), SddlError> {
        self.skip_blanks();
        let position = self.position;
        let length = self.rest().find([';', ')']).ok_or(SddlError::Unclosed { position: ace })?;
        Ok((self.advance(length), position))
    }

    /// An ACE; the reader stands on its opening parenthesis.
    fn ace(&mut self) -> Result<Ace, SddlError> {
        let position = self.position;
        self.position += 1;
        let (word, at) = self.field(position)?;
        let (ace_type, form) = ace_type(word, at)?;
        let mut fields = [("", at); 5];
        for (index, field) in fields.iter_mut().enumerate() {
            if !self.take(";") {
                return Err(self.missing_field(position, index + 1));
            }
            *field = self.field(position)?;
        }
        let [flags, rights, object_type, inherited_object_type, sid] = fields;
        let flags = ace_flags(flags.0, flags.1)?;
        let mask = mask(rights.0, rights.1)?;
        let guids =
            [guid(object_type.0, object_type.1)?, guid(inherited_object_type.0, inherited_object_type.1)?];
        // Windows skips blanks behind an alias, but not behind a SID.
        let alias = if sid.0.starts_with("S-") { sid.0 } else { sid.0.trim_end_matches(' ') };
        let account = self.sid(alias, sid.1)?;
        let extra = self.seventh_field(position, form)?;
        if !self.take(")") {
            return Err(self.missing_field(position, 6));
        }
        let body = match (guids, form.has_guids()) {
            ([object_type, inherited_object_type], true) => {
                AceBody::Object { mask, object_type, inherited_object_type, sid: account, extra }
            }
            ([None, None], false) => AceBody::Plain { mask, sid: account, extra },
            ([object, _], false) => {
                let (text, position) = if object.is_some() { object_type } else { inherited_object_type };
                return Err(SddlError::Guid { position, text: text.to_owned() });
            }
        };
        Ok(Ace { ace_type, flags, body })
    }

    /// The field after the SID; most types have none.
    fn seventh_field(&mut self, ace: usize, form: tables::Form) -> Result<Vec<u8>, SddlError> {
        if !form.has_seventh_field() {
            return Ok(Vec::new());
        }
        if !self.take(";") {
            return Err(self.missing_field(ace, 6));
        }
        self.skip_white_space();
        let too_large = self.condition_error("no more than an ACE holds");
        let extra = match form {
            tables::Form::ResourceAttribute => claim::read(self)?,
            _ => condition::read(self)?,
        };
        if extra.len() > usize::from(u16::MAX) {
            return Err(too_large);
        }
        self.skip_white_space();
        Ok(extra)
    }

    /// The error of an ACE that has no more than `count` fields, or more than it should.
    fn missing_field(&self, position: usize, count: usize) -> SddlError {
        let rest = self.rest();
        match rest.find(')') {
            None => SddlError::Unclosed { position },
            Some(end) => SddlError::Fields { position, count: count + rest[..end].matches(';').count() },
        }
    }
}

/// The next few characters, for errors.
fn quote(text: &str) -> String {
    text.chars().take(QUOTE).collect()
}

fn ace_type(text: &str, position: usize) -> Result<(u8, tables::Form), SddlError> {
    if let Some((_, number, form)) = tables::ACE_TYPES.iter().find(|(word, ..)| *word == text) {
        return Ok((*number, *form));
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

/// Names of rights in a row, with blanks before any of them, or one number: decimal, `0x` hexadecimal, or
/// octal with a leading zero.
fn mask(text: &str, position: usize) -> Result<u32, SddlError> {
    let number = |digits: &str, radix| {
        let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
        all_digits.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let mask = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => number(&text[2..], 16),
        [b'0', _, ..] => number(text, 8),
        [b'0'..=b'9', ..] => number(text, 10),
        _ if text.ends_with(' ') => None,
        _ => words(text, right).map(|rights| rights.into_iter().fold(0, |all, right| all | right)),
    };
    mask.ok_or_else(|| SddlError::Rights { position, text: text.to_owned() })
}

fn right(word: &str) -> Option<u32> {
    let mut all = tables::RIGHTS.iter().chain(&tables::MASKS).chain(&tables::LABEL_POLICIES);
    all.find(|(name, _)| *name == word).map(|(_, mask)| *mask)
}

/// The values of words of two letters, between which there may be blanks.
fn words<T>(text: &str, value: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let mut words = text.split(' ').flat_map(|words| words.as_bytes().chunks(2));
    words.try_fold(Vec::new(), |mut values, word| {
        values.push(value(std::str::from_utf8(word).ok()?)?);
        Some(values)
    })
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
