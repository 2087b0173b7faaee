//! Conditions as text: `(@USER.Title == "PM" && Member_of {SID(BA)})`.
//!
//! Reading uses a stack of its own, so nesting costs no more than its length. Writing prints as Windows does,
//! with parentheses around every comparison and around all operands of `&&`, `||` and `!`.
//!
//! Source: \[MS-DTYP\] 2.5.1.1 (`cond-expr`). Details that it leaves open follow Windows, whose behaviour
//! Samba recorded (`libcli/security/tests/windows`): words in any case, `@USER.` in capitals, numbers in the
//! base they came in, `#` for a zero in octets, a list or a single SID behind `Member_of`.

use super::super::condition::{
    AND, Base, Class, Kind, NOT, OPERATORS, OR, Operator, Sign, Token, begin, end, parse,
};
use super::read::Reader;
use super::write::sid_text;
use super::{SddlError, names};
use std::fmt::Write;

/// An operator that waits for its right side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Parenthesis,
    Not,
    And,
    Or,
}

/// A condition being read.
struct Condition<'r, 'a> {
    reader: &'r mut Reader<'a>,
    bytes: Vec<u8>,
    pending: Vec<Pending>,
}

/// Reads the condition that begins at the reader's place with a parenthesis; returns its bytes.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<u8>, SddlError> {
    let mut condition = Condition { reader, bytes: begin(), pending: Vec::new() };
    if !condition.reader.take("(") {
        return Err(condition.reader.condition_error("a condition in parentheses"));
    }
    condition.pending.push(Pending::Parenthesis);
    condition.expression()?;
    end(&mut condition.bytes);
    Ok(condition.bytes)
}

impl<'a> Condition<'_, 'a> {
    fn error(&self, expected: &'static str) -> SddlError {
        self.reader.condition_error(expected)
    }

    fn expression(&mut self) -> Result<(), SddlError> {
        while !self.pending.is_empty() {
            self.operand()?;
            self.negate();
            while !self.pending.is_empty() {
                self.reader.skip_white_space();
                if self.reader.take(")") {
                    self.close();
                } else if self.reader.take("&&") {
                    self.reduce(|top| top == Pending::And);
                    self.pending.push(Pending::And);
                    break;
                } else if self.reader.take("||") {
                    self.reduce(|top| matches!(top, Pending::And | Pending::Or));
                    self.pending.push(Pending::Or);
                    break;
                } else {
                    return Err(self.error("&&, || or )"));
                }
            }
        }
        Ok(())
    }

    /// Reads up to the end of an attribute or comparison.
    fn operand(&mut self) -> Result<(), SddlError> {
        loop {
            self.reader.skip_white_space();
            if self.reader.take("(") {
                self.pending.push(Pending::Parenthesis);
            } else if self.reader.take("!") {
                self.pending.push(Pending::Not);
                self.reader.skip_white_space();
                if !self.reader.rest().starts_with(['(', '@']) {
                    return Err(self.error("( or an attribute such as @User.name behind !"));
                }
            } else {
                return self.term();
            }
        }
    }

    /// Ends an expression in parentheses.
    fn close(&mut self) {
        self.reduce(|top| top != Pending::Parenthesis);
        self.pending.pop();
        self.negate();
    }

    /// Writes the operators at the top of the stack that bind as close as the one that follows.
    fn reduce(&mut self, binds: impl Fn(Pending) -> bool) {
        while let Some(top) = self.pending.pop_if(|top| binds(*top)) {
            let operator = match top {
                Pending::And => &AND,
                Pending::Or => &OR,
                Pending::Not => &NOT,
                Pending::Parenthesis => continue,
            };
            self.bytes.push(operator.code);
        }
    }

    fn negate(&mut self) {
        self.reduce(|top| top == Pending::Not);
    }

    fn put(&mut self, token: Token) {
        token.write(&mut self.bytes);
    }

    fn term(&mut self) -> Result<(), SddlError> {
        if self.reader.rest().starts_with('@') {
            let attribute = self.attribute()?;
            self.put(attribute);
            return self.relation();
        }
        let word = self.word();
        if word.is_empty() {
            return Err(self.error("an attribute, Member_of, Exists, ! or ("));
        }
        let operator = OPERATORS.iter().find(|operator| operator.text.eq_ignore_ascii_case(word));
        match operator {
            Some(operator) if operator.kind == Kind::Member => {
                let literal = self.literal()?;
                self.put(literal);
                self.put(Token::Operator(operator));
                Ok(())
            }
            Some(operator) if operator.kind == Kind::Exists => {
                self.reader.skip_white_space();
                let attribute = if self.reader.rest().starts_with('@') {
                    self.attribute()?
                } else {
                    self.local_attribute()?
                };
                self.put(attribute);
                self.put(Token::Operator(operator));
                Ok(())
            }
            _ => {
                self.put(Token::Attribute(Class::Local, word.encode_utf16().collect()));
                self.relation()
            }
        }
    }

    fn local_attribute(&mut self) -> Result<Token, SddlError> {
        match self.word() {
            "" => Err(self.error("an attribute")),
            word => Ok(Token::Attribute(Class::Local, word.encode_utf16().collect())),
        }
    }

    /// Takes a word, which may be empty: the name of a local attribute, or an operator.
    fn word(&mut self) -> &'a str {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '/' | '_' | '@');
        let rest = self.reader.rest();
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        self.reader.advance(length)
    }

    /// Takes an attribute with its prefix.
    fn attribute(&mut self) -> Result<Token, SddlError> {
        let prefix = Class::PREFIXES.into_iter().find(|(prefix, _)| self.reader.take_any_case(prefix));
        let (_, class) = prefix.ok_or_else(|| self.error("@User., @Device. or @Resource."))?;
        let rest = self.reader.rest();
        let is_end = |c: char| names::ENDS.contains(c) || is_white_space(c);
        let length = rest.find(is_end).unwrap_or(rest.len());
        let Some(name) = names::decode(&rest[..length]).filter(|name| !name.is_empty()) else {
            return Err(self.error("the name of an attribute, with %0020 for a space"));
        };
        self.reader.advance(length);
        Ok(Token::Attribute(class, name))
    }

    /// Reads the other side of a comparison of an attribute, if there is one.
    fn relation(&mut self) -> Result<(), SddlError> {
        self.reader.skip_white_space();
        let is_next = |operator: &&Operator| match operator.text.as_bytes()[0].is_ascii_alphabetic() {
            false => self.reader.rest().starts_with(operator.text),
            true => {
                let rest = self.reader.rest().as_bytes();
                let length = operator.text.len();
                rest.get(..length).is_some_and(|word| word.eq_ignore_ascii_case(operator.text.as_bytes()))
                    && !rest.get(length).is_some_and(|&next| next.is_ascii_alphanumeric() || next == b'_')
            }
        };
        let mut relations = OPERATORS.iter().filter(|operator| operator.kind == Kind::Relation);
        let Some(operator) = relations.find(is_next) else { return Ok(()) };
        self.reader.advance(operator.text.len());
        self.reader.skip_white_space();
        let right = if self.reader.rest().starts_with('@') { self.attribute()? } else { self.literal()? };
        self.put(right);
        self.put(Token::Operator(operator));
        Ok(())
    }

    /// Takes a literal or a list of them, in any number of parentheses.
    fn literal(&mut self) -> Result<Token, SddlError> {
        let mut open = 0_usize;
        self.reader.skip_white_space();
        while self.reader.take("(") {
            open += 1;
            self.reader.skip_white_space();
        }
        let literal = if self.reader.take("{") { self.list()? } else { self.single()? };
        for _ in 0..open {
            self.reader.skip_white_space();
            if !self.reader.take(")") {
                return Err(self.error(")"));
            }
        }
        Ok(literal)
    }

    fn list(&mut self) -> Result<Token, SddlError> {
        let mut members = Vec::new();
        self.reader.skip_white_space();
        while !self.reader.take("}") {
            if !members.is_empty() && !self.reader.take(",") {
                return Err(self.error(", or }"));
            }
            self.reader.skip_white_space();
            members.push(self.single()?);
            self.reader.skip_white_space();
        }
        Ok(Token::Composite(members))
    }

    fn single(&mut self) -> Result<Token, SddlError> {
        let rest = self.reader.rest();
        match rest.as_bytes().first() {
            Some(b'"') => {
                let text = self.reader.quoted().ok_or_else(|| self.error("a second \""))?;
                Ok(Token::Unicode(text.encode_utf16().collect()))
            }
            Some(b'#') => {
                self.reader.advance(1);
                Ok(Token::Octets(self.reader.octets()))
            }
            Some(b'0'..=b'9' | b'+' | b'-') => {
                let place = self.error("a number of 64 bits");
                self.reader.integer().ok_or(place)
            }
            _ if self.reader.take_any_case("SID(") => {
                let end = self.reader.rest().find(')').ok_or_else(|| self.error("SID(…)"))?;
                let sid = self.reader.sid_of(end)?;
                self.reader.advance(1);
                Ok(Token::Sid(sid))
            }
            _ => Err(self.error("a number, \"text\", #octets, SID(…) or a list of these in braces")),
        }
    }
}

/// `wspace` of the grammar.
pub(super) fn is_white_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

/// The text of the condition in these bytes, if there is one that reads back as the same bytes.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let tokens = parse(bytes)?;
    let text = tree_text(&tokens)?;
    let mut reader = Reader::new(&text, None);
    let read = read(&mut reader).ok()?;
    (reader.rest().is_empty() && read == bytes).then_some(text)
}

/// An operator or operand, with the places of its own operands among the tokens.
struct Node<'t> {
    token: &'t Token,
    left: Option<usize>,
    right: Option<usize>,
}

fn tree_text(tokens: &[Token]) -> Option<String> {
    let mut nodes: Vec<Node<'_>> = Vec::with_capacity(tokens.len());
    let mut operands = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let mut node = Node { token, left: None, right: None };
        if let Token::Operator(operator) = token {
            node.right = Some(operands.pop()?);
            if matches!(operator.kind, Kind::Relation | Kind::Logical) {
                node.left = Some(operands.pop()?);
            }
        }
        nodes.push(node);
        operands.push(index);
    }
    let [root] = operands[..] else { return None };
    write_tree(&nodes, root)
}

/// A piece still to be written.
enum Todo {
    Node { index: usize, in_parentheses: bool },
    Text(&'static str),
}

fn write_tree(nodes: &[Node<'_>], root: usize) -> Option<String> {
    let mut text = String::new();
    let mut todo = vec![Todo::Node { index: root, in_parentheses: true }];
    while let Some(next) = todo.pop() {
        let (index, in_parentheses) = match next {
            Todo::Node { index, in_parentheses } => (index, in_parentheses),
            Todo::Text(literal) => {
                text.push_str(literal);
                continue;
            }
        };
        let node = &nodes[index];
        if in_parentheses {
            text.push('(');
            todo.push(Todo::Text(")"));
        }
        let Token::Operator(operator) = node.token else {
            write_operand(&mut text, node.token)?;
            continue;
        };
        let child = |index: usize| {
            let logical = matches!(operator.kind, Kind::Logical | Kind::Not);
            Todo::Node { index, in_parentheses: logical || is_in_parentheses(&nodes[index]) }
        };
        // Last first: it is a stack.
        todo.extend(node.right.map(child));
        if operator.kind != Kind::Not {
            todo.push(Todo::Text(" "));
        }
        todo.push(Todo::Text(operator.text));
        if let Some(left) = node.left {
            todo.push(Todo::Text(" "));
            todo.push(child(left));
        }
    }
    Some(text)
}

/// Whether Windows always puts it into parentheses.
fn is_in_parentheses(node: &Node<'_>) -> bool {
    matches!(
        node.token,
        Token::Operator(Operator { kind: Kind::Relation | Kind::Logical | Kind::Member, .. })
    )
}

fn write_operand(text: &mut String, token: &Token) -> Option<()> {
    match token {
        Token::Integer { value, sign, base } => write_integer(text, *value, *sign, *base),
        Token::Unicode(units) => write_quoted(text, units)?,
        Token::Octets(octets) => {
            text.push('#');
            write_octets(text, octets);
        }
        Token::Sid(sid) => {
            text.push_str("SID(");
            text.push_str(&sid_text(sid));
            text.push(')');
        }
        Token::Composite(members) => {
            text.push('{');
            for (index, member) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_single(text, member)?;
            }
            text.push('}');
        }
        Token::Attribute(class, name) => {
            let prefix = Class::PREFIXES.iter().find(|(_, known)| known == class);
            text.push_str(prefix.map_or("", |(prefix, _)| prefix));
            names::encode(text, name);
        }
        Token::Operator(_) => return None,
    }
    Some(())
}

/// A member of a list, which is not a list itself.
fn write_single(text: &mut String, token: &Token) -> Option<()> {
    match token {
        Token::Composite(_) | Token::Attribute(..) => None,
        token => write_operand(text, token),
    }
}

pub(super) fn write_quoted(text: &mut String, units: &[u16]) -> Option<()> {
    let string = String::from_utf16(units).ok().filter(|string| !string.contains(['"', '\0']))?;
    text.push('"');
    text.push_str(&string);
    text.push('"');
    Some(())
}

pub(super) fn write_octets(text: &mut String, octets: &[u8]) {
    for octet in octets {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
}

fn write_integer(text: &mut String, value: i64, sign: Sign, base: Base) {
    // Without a sign, octal and hexadecimal numbers are those of the 64 bits.
    let digits = if sign == Sign::None { value.cast_unsigned() } else { value.unsigned_abs() };
    text.push_str(match sign {
        Sign::Plus => "+",
        Sign::Minus => "-",
        Sign::None => "",
    });
    let _ = match base {
        Base::Octal => write!(text, "0{digits:o}"),
        Base::Hexadecimal => write!(text, "{digits:#x}"),
        Base::Decimal if sign == Sign::None => write!(text, "{value}"),
        Base::Decimal => write!(text, "{digits}"),
    };
}
