//! Conditions of ACEs in binary: a small program, its operands before their operators.
//!
//! ```text
//! "artx" | token | token | … | zeros to a multiple of 4 bytes
//! token: code | u64 value, sign, base          integers
//!        code | u32 bytes | data               strings, octets, SIDs, names of attributes, lists of literals
//!        code                                  operators
//! ```
//!
//! All numbers are little-endian, strings UTF-16. Source: \[MS-DTYP\] 2.4.4.17.

use super::Sid;

/// `ACE_CONDITION_SIGNATURE`: the first bytes behind the SID.
const SIGNATURE: &[u8; 4] = b"artx";

/// Codes of tokens.
mod code {
    pub(super) const PADDING: u8 = 0x00;
    pub(super) const INT64: u8 = 0x04;
    pub(super) const UNICODE: u8 = 0x10;
    pub(super) const OCTETS: u8 = 0x18;
    pub(super) const COMPOSITE: u8 = 0x50;
    pub(super) const SID: u8 = 0x51;
}

/// How an integer was written; its token records that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Sign {
    Plus = 1,
    Minus = 2,
    None = 3,
}

/// The base in which an integer was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Base {
    Octal = 1,
    Decimal = 2,
    Hexadecimal = 3,
}

/// The owner of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    Local = 0xF8,
    User = 0xF9,
    Resource = 0xFA,
    Device = 0xFB,
}

impl Class {
    /// The prefixes of attributes in text, as Windows prints them.
    pub(super) const PREFIXES: [(&'static str, Class); 3] =
        [("@USER.", Class::User), ("@RESOURCE.", Class::Resource), ("@DEVICE.", Class::Device)];

    fn of(code: u8) -> Option<Class> {
        [Class::Local, Class::User, Class::Resource, Class::Device]
            .into_iter()
            .find(|class| *class as u8 == code)
    }
}

/// The kind of operands of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `Member_of {SID(BA)}`
    Member,
    /// `Exists @USER.a`
    Exists,
    /// `@USER.a == 1`
    Relation,
    /// `&&`, `||`
    Logical,
    /// `!`
    Not,
}

/// An operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) code: u8,
    /// As Windows prints it.
    pub(super) text: &'static str,
    pub(super) kind: Kind,
}

const fn operator(code: u8, text: &'static str, kind: Kind) -> Operator {
    Operator { code, text, kind }
}

pub(super) static AND: Operator = operator(0xA0, "&&", Kind::Logical);
pub(super) static OR: Operator = operator(0xA1, "||", Kind::Logical);
pub(super) static NOT: Operator = operator(0xA2, "!", Kind::Not);

/// Operators with operands of their own. Of symbols, the longer ones come first.
pub(super) static OPERATORS: [Operator; 20] = [
    operator(0x80, "==", Kind::Relation),
    operator(0x81, "!=", Kind::Relation),
    operator(0x83, "<=", Kind::Relation),
    operator(0x82, "<", Kind::Relation),
    operator(0x85, ">=", Kind::Relation),
    operator(0x84, ">", Kind::Relation),
    operator(0x86, "Contains", Kind::Relation),
    operator(0x88, "Any_of", Kind::Relation),
    operator(0x8E, "Not_Contains", Kind::Relation),
    operator(0x8F, "Not_Any_of", Kind::Relation),
    operator(0x87, "Exists", Kind::Exists),
    operator(0x8D, "Not_Exists", Kind::Exists),
    operator(0x89, "Member_of", Kind::Member),
    operator(0x8A, "Device_Member_of", Kind::Member),
    // \[MS-DTYP\] writes `Any` in all four; Windows prints this one so.
    operator(0x8B, "Member_of_any", Kind::Member),
    operator(0x8C, "Device_Member_of_Any", Kind::Member),
    operator(0x90, "Not_Member_of", Kind::Member),
    operator(0x91, "Not_Device_Member_of", Kind::Member),
    operator(0x92, "Not_Member_of_Any", Kind::Member),
    operator(0x93, "Not_Device_Member_of_Any", Kind::Member),
];

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Integer {
        value: i64,
        sign: Sign,
        base: Base,
    },
    Unicode(Vec<u16>),
    Octets(Vec<u8>),
    Sid(Sid),
    /// Literals, none of them a list.
    Composite(Vec<Token>),
    Attribute(Class, Vec<u16>),
    Operator(&'static Operator),
}

impl Token {
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Token::Integer { value, sign, base } => {
                bytes.push(code::INT64);
                bytes.extend(value.to_le_bytes());
                bytes.extend([*sign as u8, *base as u8]);
            }
            Token::Unicode(text) => write_sized(bytes, code::UNICODE, &units_to_bytes(text)),
            Token::Octets(octets) => write_sized(bytes, code::OCTETS, octets),
            Token::Sid(sid) => write_sized(bytes, code::SID, &sid.to_bytes()),
            Token::Composite(members) => {
                let mut inner = Vec::new();
                members.iter().for_each(|member| member.write(&mut inner));
                write_sized(bytes, code::COMPOSITE, &inner);
            }
            Token::Attribute(class, name) => write_sized(bytes, *class as u8, &units_to_bytes(name)),
            Token::Operator(operator) => bytes.push(operator.code),
        }
    }
}

fn write_sized(bytes: &mut Vec<u8>, code: u8, data: &[u8]) {
    bytes.push(code);
    // If it is more than an ACE holds, writing the ACE fails.
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(data);
}

pub(super) fn units_to_bytes(units: &[u16]) -> Vec<u8> {
    units.iter().flat_map(|unit| unit.to_le_bytes()).collect()
}

/// The units of an even number of bytes.
pub(super) fn units_of(bytes: &[u8]) -> Option<Vec<u16>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
}

/// Begins the bytes of a condition.
pub(super) fn begin() -> Vec<u8> {
    SIGNATURE.to_vec()
}

/// Ends the bytes of a condition.
pub(super) fn end(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), code::PADDING);
}

/// The tokens of a condition; `None` if they are invalid, or one has no text form. Takes linear time: lists
/// do not nest.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Token>> {
    let mut reader = Reader { rest: bytes.strip_prefix(SIGNATURE)? };
    let mut tokens = Vec::new();
    while reader.rest.iter().any(|&byte| byte != code::PADDING) {
        tokens.push(reader.token()?);
    }
    Some(tokens)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let size = u32::from_le_bytes(self.array()?);
        self.take(size as usize)
    }

    fn token(&mut self) -> Option<Token> {
        let [first] = self.array()?;
        if let Some(class) = Class::of(first) {
            return Some(Token::Attribute(class, units_of(self.sized()?)?));
        }
        if first == code::COMPOSITE {
            let mut inner = Reader { rest: self.sized()? };
            let mut members = Vec::new();
            while !inner.rest.is_empty() {
                let [first] = inner.array()?;
                members.push(inner.literal(first)?);
            }
            return Some(Token::Composite(members));
        }
        let all = OPERATORS.iter().chain([&AND, &OR, &NOT]);
        match all.into_iter().find(|operator| operator.code == first) {
            Some(operator) => Some(Token::Operator(operator)),
            None => self.literal(first),
        }
    }

    fn literal(&mut self, first: u8) -> Option<Token> {
        Some(match first {
            code::INT64 => {
                let value = i64::from_le_bytes(self.array()?);
                let [sign, base] = self.array()?;
                let sign =
                    [Sign::Plus, Sign::Minus, Sign::None].into_iter().find(|known| *known as u8 == sign)?;
                let bases = [Base::Octal, Base::Decimal, Base::Hexadecimal];
                let base = bases.into_iter().find(|known| *known as u8 == base)?;
                Token::Integer { value, sign, base }
            }
            code::UNICODE => Token::Unicode(units_of(self.sized()?)?),
            code::OCTETS => Token::Octets(self.sized()?.to_vec()),
            code::SID => {
                let bytes = self.sized()?;
                let sid = Sid::parse(bytes).ok()?;
                (sid.size() == bytes.len()).then_some(Token::Sid(sid))?
            }
            _ => return None,
        })
    }
}
