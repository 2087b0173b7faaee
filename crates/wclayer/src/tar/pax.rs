//! PAX extended headers: `length key=value\n` records.
//!
//! Source: POSIX.1-2001 `pax`, "pax Extended Header"; Go's `archive/tar` `parsePAX`, `parsePAXRecord` and
//! `validPAXRecord` for what is accepted.

use std::ops::Range;

use super::sparse;

/// The records of one extended header, in the order of the archive, each key once: a repeated key has the
/// last value and its place.
///
/// All of them share one buffer: a layer has a header like this before nearly every one of its entries.
#[derive(Clone, Default)]
pub struct PaxRecords {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// The place of a record, `key=value`, in the buffer.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    equals: u32,
    end: u32,
}

impl PaxRecords {
    /// The value of `key`; `Some(b"")` for an empty record.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.spans.iter().rev().find(|span| self.key(span) == key).map(|span| self.value(span))
    }

    /// All records, in the order of the archive.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| (self.key(span), self.value(span)))
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Adds a record, in place of one with the same key.
    ///
    /// This does not check that the record can be written; [`Writer`](super::Writer) does.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.remove(key);
        self.push(key, value);
    }

    /// Removes a record; false if there was none.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let before = self.spans.len();
        let bytes = &self.bytes;
        self.spans.retain(|span| &bytes[span.key_range()] != key);
        self.spans.len() < before
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        let equals = start + key.len() as u32;
        self.spans.push(Span { start, equals, end: self.bytes.len() as u32 });
    }

    fn key(&self, span: &Span) -> &[u8] {
        &self.bytes[span.key_range()]
    }

    fn value(&self, span: &Span) -> &[u8] {
        &self.bytes[span.equals as usize + 1..span.end as usize]
    }

    /// Reads the data of an extended header. The error is the number of the bad record and what is wrong with
    /// it.
    ///
    /// The records of GNU's sparse format 0.0, which repeat their keys, are joined into the one of format
    /// 0.1.
    pub(super) fn parse(data: Vec<u8>) -> Result<Self, (usize, &'static str)> {
        let mut records =
            Self { bytes: Vec::new(), spans: Vec::with_capacity(data.len().min(4096) / 40 + 1) };
        let mut sparse_map = sparse::Format00::default();
        let mut at = 0;
        let mut number = 0;
        while at < data.len() {
            let (span, next) = record(&data, at).map_err(|problem| (number, problem))?;
            let key = &data[span.key_range()];
            let value = &data[span.equals as usize + 1..span.end as usize];
            if !sparse_map.take(key, value).map_err(|problem| (number, problem))? {
                records.spans.push(span);
            }
            at = next;
            number += 1;
        }
        records.bytes = data;
        if let Some(map) = sparse_map.finish() {
            records.push(sparse::MAP, &map);
        }
        records.keep_last_of_each_key();
        Ok(records)
    }

    fn keep_last_of_each_key(&mut self) {
        // Real headers have a handful of records; a hostile one has 200,000, so no search per record.
        let mut order: Vec<u32> = (0..self.spans.len() as u32).collect();
        let key = |&i: &u32| self.key(&self.spans[i as usize]);
        order.sort_by(|a, b| key(a).cmp(key(b)));
        let repeated: Vec<u32> =
            order.windows(2).filter(|pair| key(&pair[0]) == key(&pair[1])).map(|pair| pair[0]).collect();
        if repeated.is_empty() {
            return;
        }
        let mut keep = vec![true; self.spans.len()];
        for i in repeated {
            keep[i as usize] = false;
        }
        let mut keep = keep.into_iter();
        self.spans.retain(|_| keep.next().unwrap_or(true));
    }
}

impl std::fmt::Debug for PaxRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(key, value)| (text(key), text(value)))).finish()
    }
}

impl PartialEq for PaxRecords {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for PaxRecords {}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for PaxRecords {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(records: I) -> Self {
        let mut all = Self::default();
        for (key, value) in records {
            all.push(key, value);
        }
        all.keep_last_of_each_key();
        all
    }
}

impl Span {
    fn key_range(&self) -> Range<usize> {
        self.start as usize..self.equals as usize
    }
}

/// The record at `at`, and where the next one starts. Positions fit 32 bits: the data is at most 1 MiB.
fn record(data: &[u8], at: usize) -> Result<(Span, usize), &'static str> {
    let space = data[at..].iter().position(|&b| b == b' ').ok_or("no space after its length")? + at;
    let length = decimal_i64(&data[at..space]).ok_or("its length is not a number")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    if length < 5 || length > data.len() - at || at + length <= space + 1 {
        return Err("its length is not that of a record");
    }
    let end = at + length - 1;
    if data[end] != b'\n' {
        return Err("no line feed at its end");
    }
    let equals =
        data[space + 1..end].iter().position(|&b| b == b'=').ok_or("no equals sign after its key")?
            + space
            + 1;
    let span = Span { start: space as u32 + 1, equals: equals as u32, end: end as u32 };
    if !is_valid(&data[span.key_range()], &data[equals + 1..end]) {
        return Err("an empty key, or a NUL where none may be");
    }
    Ok((span, end + 1))
}

/// Whether a record can be in an extended header. Only the records that replace text fields of the header
/// have to be free of NUL: others carry binary data, in spite of POSIX.
pub(super) fn is_valid(key: &[u8], value: &[u8]) -> bool {
    if key.is_empty() || key.contains(&b'=') {
        return false;
    }
    match key {
        b"path" | b"linkpath" | b"uname" | b"gname" => !value.contains(&0),
        _ => !key.contains(&0),
    }
}

/// Appends `length key=value\n`. The length counts its own digits.
pub fn append_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if rest + digits(length) != length {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A decimal number with an optional sign, as Go's `strconv.ParseInt(s, 10, 64)` accepts it.
pub(super) fn decimal_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0i64, |value, &digit| {
        let digit = i64::from(digit.is_ascii_digit().then_some(digit)? - b'0');
        let value = value.checked_mul(10)?;
        if negative { value.checked_sub(digit) } else { value.checked_add(digit) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[u8]) -> Result<PaxRecords, (usize, &'static str)> {
        PaxRecords::parse(data.to_vec())
    }

    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for length in [1, 3, 4, 5, 90, 91, 92, 93, 94, 990, 991, 992, 9990] {
            let value = vec![b'v'; length];
            let mut data = Vec::new();
            append_record(&mut data, b"k", &value);
            let text = data.split(|&b| b == b' ').next().unwrap();
            assert_eq!(std::str::from_utf8(text).unwrap().parse::<usize>().unwrap(), data.len());
            assert_eq!(parse(&data).unwrap().get(b"k"), Some(&value[..]));
        }
    }

    #[test]
    fn the_last_of_a_repeated_record_counts() {
        let records = parse(b"6 a=1\n6 b=2\n6 a=3\n").unwrap();
        assert_eq!(records.iter().collect::<Vec<_>>(), [(&b"b"[..], &b"2"[..]), (b"a", b"3")]);
    }

    #[test]
    fn records_that_are_none_are_refused() {
        for bad in [
            &b"6a=1\n"[..],
            b"4 a=1\n",
            b"7 a=1\n",
            b"5 a=1\n",
            b"-6 a=1\n",
            b"x a=1\n",
            b" a=1\n",
            b"000000000005 a=\n",
            b"6 a-1\n",
            b"5 =1\n",
            b"99999999999999999999 a=1\n",
            b"8 a\0b=1\n",
            b"10 path=\0\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(parse(b"+8 a==1\n").unwrap().get(b"a"), Some(&b"=1"[..]));
        assert_eq!(parse(b"6 a=\0\n").unwrap().get(b"a"), Some(&b"\0"[..]));
    }

    #[test]
    fn inserting_replaces_and_removing_forgets() {
        let mut records = PaxRecords::default();
        records.insert(b"a", b"1");
        records.insert(b"b", b"2");
        records.insert(b"a", b"3");
        assert_eq!((records.len(), records.get(b"a")), (2, Some(&b"3"[..])));
        assert!(records.remove(b"a") && !records.remove(b"a"));
        assert!(!records.is_empty());
    }
}
