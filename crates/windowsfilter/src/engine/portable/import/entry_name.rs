//! Parses the names of tar entries.
//!
//! Tars of different makers spell one name as `Files/a`, `./Files/a`, `Files//a`, `Files\a` or `files/a/`. It
//! is split once, here; all other code works with components. A name that cannot be a Windows path is
//! refused, not guessed at.

use wclayer::name;

/// Most bytes of a component; no file system has names that long.
const MAX_COMPONENT: usize = 32 << 10;
/// The directories a layer consists of, spelled right.
const TOP: [&[u8]; 3] = [b"Files", b"Hives", b"UtilityVM"];

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The meaning of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntryName<'a> {
    /// Not part of a layer: outside its directories.
    Outside,
    /// Not part of a layer: aufs' own files.
    Aufs,
    /// Spelled like a deletion, but as a directory: `.wh.a/`. The reference would delete `a` in a directory
    /// `.wh.a`, which does not exist.
    NoWhiteout,
    /// A file or directory.
    Path(Vec<&'a [u8]>),
    /// A named stream of a file or directory.
    Stream { host: Vec<&'a [u8]>, stream: &'a [u8] },
    /// The deletion of this path.
    Whiteout(Vec<&'a [u8]>),
    /// This directory hides its entries of lower layers.
    Opaque(Vec<&'a [u8]>),
}

/// Parses a name; the error says what is wrong with it.
pub(super) fn parse(name: &[u8]) -> Result<EntryName<'_>, &'static str> {
    let (mut path, stream) = components(name)?;
    let Some(top) = path.first().and_then(|first| TOP.into_iter().find(|top| name::eq(top, first))) else {
        return Ok(EntryName::Outside);
    };
    path[0] = top;
    let Some((&last, directories)) = path.split_last() else { return Ok(EntryName::Outside) };
    if last != OPAQUE && path.iter().any(|component| component.starts_with(AUFS)) {
        return Ok(EntryName::Aufs);
    }
    if directories.iter().any(|component| component.starts_with(WHITEOUT)) {
        return Err("it lies in a deletion (.wh.)");
    }
    if let Some(stream) = stream {
        return match stream {
            b"" => Err("it is a stream without a name"),
            _ if last.starts_with(WHITEOUT) => Err("a stream cannot be deleted (.wh.)"),
            _ => Ok(EntryName::Stream { host: path, stream }),
        };
    }
    if last.starts_with(WHITEOUT) && name.last().is_some_and(is_separator) {
        return Ok(EntryName::NoWhiteout);
    }
    if last == OPAQUE {
        path.pop();
        return Ok(EntryName::Opaque(path));
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(EntryName::Path(path)),
        Some(b"" | b"." | b"..") => Err("it deletes nothing (.wh. without a name)"),
        Some(deleted) => {
            path.pop();
            path.push(deleted);
            Ok(EntryName::Whiteout(path))
        }
    }
}

/// Windows allows neither in a name, and a tar made on Windows may use the backslash.
pub(in crate::engine::portable) fn is_separator(byte: &u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// A path, and the stream that is meant.
type Components<'a> = (Vec<&'a [u8]>, Option<&'a [u8]>);

/// The components of a name, and the stream that the last one names, if any.
fn components(name: &[u8]) -> Result<Components<'_>, &'static str> {
    if name.first().is_some_and(is_separator) {
        return Err("its name is absolute");
    }
    if name.contains(&0) {
        return Err("its name has a NUL in it");
    }
    let mut path = Vec::with_capacity(16);
    let mut stream = None;
    for component in name.split(is_separator).filter(|&part| !matches!(part, b"" | b".")) {
        if stream.is_some() {
            return Err("a directory in its name has a colon");
        }
        if component == b".." {
            return Err("its name has .. in it");
        }
        if component.len() > MAX_COMPONENT {
            return Err("a component of its name is longer than 32 KiB");
        }
        match component.iter().position(|&byte| byte == b':') {
            None => path.push(component),
            Some(0) => return Err("it is a stream of a file without a name"),
            Some(colon) => {
                path.push(&component[..colon]);
                stream = Some(&component[colon + 1..]);
            }
        }
    }
    Ok((path, stream))
}

/// The path as text, for messages and for targets of links.
pub(super) fn join(path: &[&[u8]]) -> Vec<u8> {
    path.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> Vec<u8> {
        match parse(name.as_bytes()) {
            Ok(EntryName::Path(path)) => join(&path),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn one_name_has_many_spellings() {
        for name in
            ["Files/a", "./Files/a", "files//a", "FILES/a/", "././Files/./a//", r"Files\a", r".\Files/.\\a\"]
        {
            assert_eq!(path(name), b"Files/a", "{name}");
        }
        assert_eq!(path("utilityvm/files/A"), b"UtilityVM/files/A");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "/Files/a",
            "../Files/a",
            "Files/..",
            "Files/a/../b",
            r"\Files\a",
            r"Files\..\a",
            "Files/a\0",
            "C:/Files",
            "Files/a:b/c",
            "Files/:a",
            "Files/a:",
            "Files/.wh.",
            "Files/.wh...",
            "Files/.wh.a/b",
            "Files/.wh.a:b",
        ] {
            assert!(parse(name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_not_of_a_layer_is_foreign() {
        for name in ["", ".", "./", r".\", "etc/passwd", "File/a", ".wh.Files", r"Windows\a"] {
            assert_eq!(parse(name.as_bytes()), Ok(EntryName::Outside), "{name}");
        }
        for name in ["Files/.wh..wh.aufs", "Files/.wh..wh.plnk/1.2", "files/.wh..wh.orph/"] {
            assert_eq!(parse(name.as_bytes()), Ok(EntryName::Aufs), "{name}");
        }
    }

    #[test]
    fn deletions_and_streams_are_told_apart() {
        assert_eq!(parse(b"Files/.wh.a"), Ok(EntryName::Whiteout(vec![b"Files", b"a"])));
        assert_eq!(parse(br"Files\d\.wh.a"), Ok(EntryName::Whiteout(vec![b"Files", b"d", b"a"])));
        for name in ["Files/.wh.a/", "Files/.wh.a//", r"Files/.wh.a\", "Files/d/.wh..wh..opq/"] {
            assert_eq!(parse(name.as_bytes()), Ok(EntryName::NoWhiteout), "{name}");
        }
        assert_eq!(parse(b"Files/d/.wh..wh..opq"), Ok(EntryName::Opaque(vec![b"Files", b"d"])));
        assert_eq!(parse(b"Files/a:b"), Ok(EntryName::Stream { host: vec![b"Files", b"a"], stream: b"b" }));
        assert_eq!(parse(b"files:b"), Ok(EntryName::Stream { host: vec![b"Files"], stream: b"b" }));
    }
}
