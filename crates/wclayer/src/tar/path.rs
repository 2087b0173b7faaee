//! Slash-separated paths, split as by Go's `path` package, on bytes.
//!
//! The reference cleans paths in several places, and the results are part of the bytes of a layer.

/// The path without `.`, `..` and empty elements as far as that is possible without a file system; never
/// empty.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    if rooted {
        out.push(b'/');
    }
    // `..` cannot remove anything before here: the root, or `..`s that lead out.
    let mut fixed = out.len();
    for element in path.split(|&byte| byte == b'/') {
        match element {
            b"" | b"." => {}
            b".." if out.len() > fixed => {
                let cut = out[fixed..].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                out.truncate(fixed + cut);
            }
            b".." if rooted => {}
            _ => {
                if !out.is_empty() && out != b"/" {
                    out.push(b'/');
                }
                out.extend_from_slice(element);
                if element == b".." {
                    fixed = out.len();
                }
            }
        }
    }
    if out.is_empty() {
        out.push(b'.');
    }
    out
}

/// Everything up to and including the last slash, and the rest.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1))
}

/// The elements that are not empty, joined and cleaned; empty if there is none.
pub(crate) fn join(elements: &[&[u8]]) -> Vec<u8> {
    let elements: Vec<&[u8]> = elements.iter().copied().filter(|element| !element.is_empty()).collect();
    if elements.is_empty() { Vec::new() } else { clean(&elements.join(&b'/')) }
}

/// The last element; trailing slashes do not count.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    if path.is_empty() {
        return b".";
    }
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    if end == 0 { b"/" } else { split(&path[..end]).1 }
}

/// All but the last element, cleaned. A trailing slash makes the last element an empty one.
pub(crate) fn dir(path: &[u8]) -> Vec<u8> {
    clean(split(path).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        String::from_utf8(clean(path.as_bytes())).unwrap()
    }

    #[test]
    fn cleaning_is_that_of_go() {
        // The table of Go's documentation and tests of `path.Clean`.
        for (path, cleaned) in [
            ("", "."),
            ("abc/def", "abc/def"),
            ("a/b/c/", "a/b/c"),
            ("../..", "../.."),
            ("../../abc", "../../abc"),
            ("/", "/"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("//abc//", "/abc"),
            ("abc/./def", "abc/def"),
            ("/./abc/def", "/abc/def"),
            ("abc/def/ghi/../jkl", "abc/def/jkl"),
            ("abc/def/../..", "."),
            ("/abc/def/../..", "/"),
            ("abc/def/../../..", ".."),
            ("/abc/def/../../..", "/"),
            ("abc/def/../../../ghi/jkl/../../../mno", "../../mno"),
            ("/../abc", "/abc"),
            ("abc/./../def", "def"),
            ("abc/../../././../def", "../../def"),
        ] {
            assert_eq!(text(path), cleaned, "{path:?}");
        }
    }

    #[test]
    fn a_trailing_slash_counts_for_dir_but_not_for_base() {
        assert_eq!((base(b"a/b/"), dir(b"a/b/")), (&b"b"[..], b"a/b".to_vec()));
        assert_eq!((base(b"b"), dir(b"b")), (&b"b"[..], b".".to_vec()));
        assert_eq!((base(b"//"), base(b"")), (&b"/"[..], &b"."[..]));
        assert_eq!(join(&[b"", b"a/../", b"b"]), b"b");
        assert_eq!(join(&[b"", b""]), b"");
    }
}
