//! `tombstones.txt`: the deletions of a layer in its transport directory.
//!
//! HCS writes it when it exports a layer and hcsshim reads it. UTF-8 with a byte order mark; the first line
//! is `Version 1.0`; every further line is a deleted path below `Files`, with backslashes and a leading one:
//!
//! ```text
//! <EF BB BF>Version 1.0
//! \Windows\Temp\gone.txt
//! ```
//!
//! Lines end in CR LF; LF alone is read too. Everything else is refused: dropping or misreading a line would
//! bring a deleted file back.
//!
//! Source: `readTombstones` in hcsshim's `internal/wclayer/legacy.go`.

/// The first line.
const HEADER: &[u8] = b"\xEF\xBB\xBFVersion 1.0";

/// Why a tombstones file cannot be read or written. Line numbers start at 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TombstonesError {
    /// The first line is something else.
    #[error("tombstones.txt starts with {found:?}, not with a byte order mark and \"Version 1.0\"")]
    Header {
        /// The start of the first line, with bytes that are not UTF-8 replaced.
        found: String,
    },
    /// A line does not start with a backslash.
    #[error("tombstones.txt line {line}: {path:?} does not start with a backslash")]
    NoBackslash {
        /// The line's number.
        line: usize,
        /// The line, with bytes that are not UTF-8 replaced.
        path: String,
    },
    /// A path is empty, has an empty part, `.` or `..`, or a control character.
    #[error("tombstones.txt line {line}: {path:?} is not the path of a file below Files")]
    Path {
        /// The number that the line has, or would have.
        line: usize,
        /// The path, with bytes that are not UTF-8 replaced.
        path: String,
    },
}

/// Reads the deleted paths, in order: relative to `Files`, parts separated by backslashes, none in front.
/// WTF-8 as HCS wrote it.
///
/// # Errors
/// [`TombstonesError`] for everything outside the format.
pub fn parse(file: &[u8]) -> Result<Vec<Vec<u8>>, TombstonesError> {
    let file = file.strip_suffix(b"\n").unwrap_or(file);
    let lines = file.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut lines = (1..).zip(lines);
    let first = lines.next().map_or(&[][..], |(_, line)| line);
    if first != HEADER {
        let start = &first[..first.len().min(HEADER.len())];
        return Err(TombstonesError::Header { found: text(start) });
    }
    let path = |(line, path): (usize, &[u8])| {
        let no_backslash = TombstonesError::NoBackslash { line, path: text(path) };
        let path = path.strip_prefix(b"\\").ok_or(no_backslash)?;
        check(path, line).map(|()| path.to_vec())
    };
    lines.map(path).collect()
}

/// Writes the deleted paths, in the form that [`parse`] returns.
///
/// # Errors
/// [`TombstonesError::Path`] for a path that would not read back.
pub fn write<P: AsRef<[u8]>>(paths: &[P]) -> Result<Vec<u8>, TombstonesError> {
    let mut file = [HEADER, b"\r\n"].concat();
    for (line, path) in (2..).zip(paths) {
        check(path.as_ref(), line)?;
        file.push(b'\\');
        file.extend_from_slice(path.as_ref());
        file.extend_from_slice(b"\r\n");
    }
    Ok(file)
}

fn check(path: &[u8], line: usize) -> Result<(), TombstonesError> {
    let is_name = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    let no_control = path.iter().all(|&byte| byte >= 0x20);
    if no_control && path.split(|&byte| byte == b'\\').all(is_name) {
        return Ok(());
    }
    Err(TombstonesError::Path { line, path: text(path) })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_as_hcs_writes_it_is_read() {
        let file = b"\xEF\xBB\xBFVersion 1.0\r\n\\a.txt\r\n\\Windows\\b c\r\n";
        assert_eq!(parse(file), Ok(vec![b"a.txt".to_vec(), b"Windows\\b c".to_vec()]));
        assert_eq!(write(&["a.txt", "Windows\\b c"]).unwrap(), file);
    }

    #[test]
    fn lines_may_end_in_lf_and_the_last_one_in_nothing() {
        assert_eq!(parse(b"\xEF\xBB\xBFVersion 1.0\n\\a\n\\b"), Ok(vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(parse(HEADER), Ok(vec![]));
    }

    #[test]
    fn a_wrong_first_line_is_refused() {
        for file in
            [&b""[..], b"Version 1.0\r\n", b"\xEF\xBB\xBFVersion 2.0\r\n", b"\xEF\xBB\xBFVersion 1.0 \r\n"]
        {
            assert!(matches!(parse(file), Err(TombstonesError::Header { .. })), "{}", file.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_is_no_path_is_refused_with_its_number() {
        let parse_line = |line: &[u8]| parse(&[HEADER, b"\r\n\\ok\r\n", line, b"\r\n"].concat());
        assert!(matches!(parse_line(b"x"), Err(TombstonesError::NoBackslash { line: 3, .. })));
        assert!(matches!(parse_line(b""), Err(TombstonesError::NoBackslash { line: 3, .. })));
        for line in [&b"\\"[..], b"\\\\x", b"\\x\\", b"\\..\\x", b"\\.", b"\\a\tb", b"\\a\rb"] {
            assert!(matches!(parse_line(line), Err(TombstonesError::Path { line: 3, .. })), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(paths in proptest::collection::vec("[^\\x00-\\x1f.]{1,20}", 0..8)) {
            if let Ok(file) = write(&paths) {
                let paths: Vec<Vec<u8>> = paths.into_iter().map(String::into_bytes).collect();
                prop_assert_eq!(parse(&file), Ok(paths));
            }
        }

        #[test]
        fn what_is_read_is_written_the_same(tail: Vec<u8>) {
            if let Ok(paths) = parse(&[HEADER, b"\n", &tail].concat()) {
                prop_assert_eq!(parse(&write(&paths).unwrap()), Ok(paths));
            }
        }
    }
}
