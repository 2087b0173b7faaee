//! Filters of List, as containerd's `pkg/filters` reads them.
//!
//! ```text
//! filter    = selector { "," selector }              all of them must match
//! selector  = fieldpath [ operator value ]           without operator: the field is present
//! fieldpath = field { "." field }
//! field     = quoted | letters, digits, '-', '_'
//! operator  = "==" | "!=" | "~="
//! value     = quoted | anything but ',' and white space
//! quoted    = a string literal of Go in double quotes; after "~=" also between '/' or '|'
//! ```
//!
//! Fields of a snapshot: `name`, `parent`, `kind`, `labels.<label>`; an unknown field is absent and empty.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use crate::error::Error;
use crate::stop::Stop;

/// Filters of a call.
const MAX_FILTERS: usize = 1_000;
/// All filters of a call together, bytes.
const MAX_TEXT: usize = 64 << 10;
/// Regular expressions of a call.
const MAX_REGEXES: usize = 16;
/// Bytes one of them may take compiled, and again while it runs. Real filters take a hundredth.
const MAX_REGEX: usize = 1 << 20;

/// A snapshot's fields, as filters see them.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) parent: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
}

impl Subject<'_> {
    fn field(&self, path: &[String]) -> Option<&str> {
        match path {
            [field] if field == "name" => Some(self.name),
            [field] if field == "parent" => Some(self.parent),
            [field] if field == "kind" => Some(self.kind),
            [field, label @ ..] if field == "labels" => self.labels.get(&label.join(".")).map(String::as_str),
            _ => None,
        }
    }
}

/// Alternatives: one match is enough. An empty list matches everything.
#[derive(Debug, Default)]
pub(crate) struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// Parses the filters of a call; stops when the caller is gone.
    ///
    /// # Errors
    /// [`Error::Filter`], [`Error::TooMany`], [`Error::TooLong`], [`Error::Abandoned`].
    pub(crate) fn parse(filters: &[String], stop: &Stop) -> Result<Self, Error> {
        too_many("filters", filters.len(), MAX_FILTERS)?;
        let length = filters.iter().map(String::len).sum();
        if length > MAX_TEXT {
            return Err(Error::TooLong { what: "all filters together", length, limit: MAX_TEXT });
        }
        let mut regexes = 0;
        let mut parsed = Vec::new();
        for text in filters {
            stop.check()?;
            parsed.push(Parser { text, position: 0, regexes: &mut regexes }.filter()?);
        }
        Ok(Self(parsed))
    }

    /// Whether any of them matches.
    pub(crate) fn accept(&self, subject: &Subject<'_>) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|filter| filter.iter().all(|selector| selector.accepts(subject)))
    }
}

impl Selector {
    fn accepts(&self, subject: &Subject<'_>) -> bool {
        let field = subject.field(&self.path);
        let value = field.unwrap_or_default();
        match &self.test {
            Test::Present => field.is_some(),
            Test::Equal(expected) => field.is_some() && value == expected,
            Test::NotEqual(other) => value != other,
            Test::Matches(regex) => regex.is_match(value),
        }
    }
}

fn too_many(what: &'static str, count: usize, limit: usize) -> Result<(), Error> {
    if count > limit { Err(Error::TooMany { what, count, limit }) } else { Ok(()) }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    /// Regular expressions parsed so far in this call.
    regexes: &'a mut usize,
}

impl Parser<'_> {
    fn filter(mut self) -> Result<Vec<Selector>, Error> {
        if self.text.is_empty() {
            return Ok(Vec::new());
        }
        let mut selectors = vec![self.selector()?];
        while self.skip_space().is_some() {
            self.expect(',')?;
            selectors.push(self.selector()?);
        }
        Ok(selectors)
    }

    fn selector(&mut self) -> Result<Selector, Error> {
        let mut path = vec![self.field()?];
        while self.skip_space() == Some('.') {
            self.expect('.')?;
            path.push(self.field()?);
        }
        if matches!(self.skip_space(), None | Some(',')) {
            return Ok(Selector { path, test: Test::Present });
        }
        let start = self.position;
        let operator = self.take_while(|c| matches!(c, '=' | '!' | '~'));
        let test = match operator.as_str() {
            "==" => Test::Equal(self.value(&['"'])?),
            "!=" => Test::NotEqual(self.value(&['"'])?),
            "~=" => Test::Matches(self.regex()?),
            _ => return Err(self.error(start, "expected ==, != or ~=")),
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, Error> {
        if self.skip_space() == Some('"') {
            return self.quoted('"');
        }
        let start = self.position;
        let field = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if field.is_empty() { Err(self.error(start, "expected the name of a field")) } else { Ok(field) }
    }

    fn value(&mut self, quotes: &[char]) -> Result<String, Error> {
        let start = self.position;
        match self.skip_space() {
            Some(quote) if quotes.contains(&quote) => self.quoted(quote),
            _ => {
                let value = self.take_while(|c| c != ',' && !c.is_whitespace());
                if value.is_empty() { Err(self.error(start, "expected a value")) } else { Ok(value) }
            }
        }
    }

    fn regex(&mut self) -> Result<Regex, Error> {
        let start = self.position;
        let text = self.value(&['"', '/', '|'])?;
        *self.regexes += 1;
        too_many("regular expressions in the filters", *self.regexes, MAX_REGEXES)?;
        let regex = RegexBuilder::new(&text).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
        regex.map_err(|error| self.error(start, &error.to_string()))
    }

    /// The text between two `quote`s, unescaped.
    fn quoted(&mut self, quote: char) -> Result<String, Error> {
        let start = self.position;
        self.expect(quote)?;
        let mut text = Vec::new();
        loop {
            let Some(c) = self.next() else { return Err(self.error(start, "the quote does not end")) };
            match c {
                c if c == quote => break,
                '\n' => return Err(self.error(start, "the quote does not end")),
                '\\' => self.escape(quote, &mut text)?,
                c => push(&mut text, c),
            }
        }
        String::from_utf8(text).map_err(|_| self.error(start, "the quoted text is not UTF-8"))
    }

    /// Go's escapes: `strconv.Unquote`, and the quote itself.
    fn escape(&mut self, quote: char, text: &mut Vec<u8>) -> Result<(), Error> {
        let start = self.position;
        let illegal = |parser: &Self| parser.error(start, "unknown escape");
        match self.next().ok_or_else(|| illegal(self))? {
            'a' => text.push(7),
            'b' => text.push(8),
            't' => text.push(b'\t'),
            'n' => text.push(b'\n'),
            'v' => text.push(11),
            'f' => text.push(12),
            'r' => text.push(b'\r'),
            '\\' => text.push(b'\\'),
            'x' => text.push(u8::try_from(self.digits(16, 2)?).map_err(|_| illegal(self))?),
            'u' => push(text, char::from_u32(self.digits(16, 4)?).ok_or_else(|| illegal(self))?),
            'U' => push(text, char::from_u32(self.digits(16, 8)?).ok_or_else(|| illegal(self))?),
            '0'..='7' => {
                self.position -= 1;
                text.push(u8::try_from(self.digits(8, 3)?).map_err(|_| illegal(self))?);
            }
            c if c == quote => push(text, c),
            // Regular expressions between slashes are full of other escapes: keep them.
            c if quote != '"' => {
                text.push(b'\\');
                push(text, c);
            }
            _ => return Err(illegal(self)),
        }
        Ok(())
    }

    fn digits(&mut self, radix: u32, count: usize) -> Result<u32, Error> {
        let start = self.position;
        let digits = self.text.get(start..start + count);
        let value = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        self.position += count;
        value.ok_or_else(|| self.error(start, "the escape needs more digits"))
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.position..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    fn skip_space(&mut self) -> Option<char> {
        self.take_while(char::is_whitespace);
        self.peek()
    }

    fn take_while(&mut self, mut accept: impl FnMut(char) -> bool) -> String {
        let start = self.position;
        while self.peek().is_some_and(&mut accept) {
            self.next();
        }
        self.text[start..self.position].to_owned()
    }

    fn expect(&mut self, expected: char) -> Result<(), Error> {
        let position = self.position;
        match self.next() {
            Some(c) if c == expected => Ok(()),
            _ => Err(self.error(position, &format!("expected {expected:?}"))),
        }
    }

    fn error(&self, position: usize, reason: &str) -> Error {
        let filter = self.text.chars().take(200).collect();
        Error::Filter { filter, position, reason: reason.to_owned() }
    }
}

fn push(text: &mut Vec<u8>, c: char) {
    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("containerd.io/snapshot.ref", "sha256:ab"), ("a.b", "x,y"), ("n", "1\n2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    fn accepts(filters: &[&str]) -> bool {
        let labels = labels();
        let subject = Subject { name: "default/3/sha256:ab", parent: "", kind: "committed", labels: &labels };
        let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        Filters::parse(&filters, &Stop::default()).unwrap().accept(&subject)
    }

    #[test]
    fn no_filter_and_an_empty_one_match_everything() {
        assert!(accepts(&[]));
        assert!(accepts(&[""]));
        assert!(accepts(&["kind==view", ""]));
    }

    #[test]
    fn what_containerd_asks_for_a_layer_that_is_there_matches() {
        assert!(accepts(&[r#"labels."containerd.io/snapshot.ref"==sha256:ab,parent=="""#]));
        assert!(!accepts(&[r#"labels."containerd.io/snapshot.ref"==sha256:ab,parent=="default/2/x""#]));
    }

    #[test]
    fn alternatives_and_conjunctions() {
        assert!(accepts(&["kind==view", "name==default/3/sha256:ab"]));
        assert!(!accepts(&["kind==view", "name==x"]));
        assert!(!accepts(&["kind==committed,name==x"]));
        assert!(accepts(&["kind == committed , name~=^default"]));
        assert!(accepts(&["parent==\"\""]));
    }

    #[test]
    fn fields_are_present_or_not() {
        assert!(accepts(&["parent"]));
        assert!(accepts(&["labels.a.b"]));
        assert!(accepts(&["labels.\"a.b\""]));
        assert!(!accepts(&["labels.a"]));
        assert!(!accepts(&["size"]));
        assert!(!accepts(&["labels.missing==\"\""]));
        assert!(accepts(&["labels.missing!=x"]));
        assert!(!accepts(&["name.x"]));
    }

    #[test]
    fn quotes_escapes_and_regular_expressions() {
        assert!(accepts(&[r#"labels.a.b=="x,y""#]));
        assert!(accepts(&[r#"labels.n=="1\n2""#]));
        assert!(accepts(&[r#"labels.n=="\x31\0122""#]));
        assert!(accepts(&[r#"labels."a\u002eb"!=z"#]));
        assert!(accepts(&[r"name~=/^default\/\d\/sha/"]));
        assert!(accepts(&["labels.a.b~=|^x,.$|"]));
        assert!(accepts(&["name~=sha256"]));
        assert!(!accepts(&["name~=sha512"]));
    }

    #[test]
    fn what_does_not_parse_is_refused_with_its_place() {
        let cases = [
            ("==x", 0),
            ("name=x", 4),
            ("name==", 6),
            ("name==a b", 8),
            ("name==\"a", 6),
            ("name,", 5),
            ("name==a,,", 8),
            ("name~=\"(\"", 6),
            ("labels.", 7),
            (r#"name=="\q""#, 8),
            (r#"name=="\u12""#, 9),
            ("é", 0),
            ("name==\"\\xff\"", 6),
        ];
        for (text, place) in cases {
            match parse(&[text]) {
                Err(Error::Filter { position, .. }) => assert_eq!(position, place, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    fn parse(filters: &[&str]) -> Result<Filters, Error> {
        let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        Filters::parse(&filters, &Stop::default())
    }

    #[test]
    fn filters_have_limits_on_number_size_and_what_they_compile_to() {
        assert!(matches!(parse(&[&"n".repeat(70_000)]), Err(Error::TooLong { .. })));
        let half = format!("name=={}", "n".repeat(40_000));
        parse(&[&half]).unwrap();
        assert!(matches!(parse(&[&half, &half]), Err(Error::TooLong { .. })));
        parse(&["name"; 1_000]).unwrap();
        assert!(matches!(parse(&["name"; 1_001]), Err(Error::TooMany { count: 1_001, .. })));
        parse(&["name~=^default/,parent~=x"; 8]).unwrap();
        assert!(matches!(parse(&["name~=^default/,parent~=x"; 9]), Err(Error::TooMany { .. })));
        for bomb in [r#"name~="(\\pL|x){90}""#, r"name~=/((a{99}){99}){99}/"] {
            let error = parse(&[bomb]).unwrap_err();
            assert!(error.to_string().contains("exceeds size limit"), "{error}");
        }
        parse(&[r"labels.x~=/^(\pL|[0-9_.-])+@sha256:[0-9a-f]{64}$/"]).unwrap();
    }

    #[test]
    fn filters_that_nobody_waits_for_are_not_read_to_their_end() {
        let stop = Stop::default();
        drop(stop.on_drop());
        assert!(matches!(Filters::parse(&["name".to_owned()], &stop), Err(Error::Abandoned)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            let _ = parse(&[&text]);
        }

        #[test]
        fn no_filter_like_text_makes_the_parser_panic(text in r#"(name|labels|\.|==|!=|~=|"|/|\\u00e9|\\x|é|,| ){0,12}"#) {
            let _ = parse(&[&text]);
        }

        #[test]
        fn a_quoted_value_matches_itself(value in "\\PC*") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let filters = parse(&[&format!("name==\"{quoted}\"")]).unwrap();
            let labels = BTreeMap::new();
            let subject = Subject { name: &value, parent: "", kind: "view", labels: &labels };
            proptest::prop_assert!(filters.accept(&subject));
        }
    }
}
