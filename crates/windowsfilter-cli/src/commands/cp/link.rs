//! Which links may be made.

/// Whether a link with this target, `depth` directories below the copy's root, leads to somewhere inside the
/// copy.
///
/// Only `..` at the start counts upwards over directories that are known to be directories. Behind a name it
/// may follow another link to anywhere, so such targets are refused.
pub(super) fn stays_inside(target: &[u8], depth: usize) -> bool {
    if target.is_empty() || target.starts_with(b"/") {
        return false;
    }
    let mut parts = target.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
    let mut up = 0;
    while parts.next_if(|part| *part == b"..").is_some() {
        up += 1;
    }
    up <= depth && !parts.any(|part| part == b"..")
}

/// The target of a link at `link` that leads to `end`, both paths of the view without links on their way;
/// `None` if `end` is not below `root` as `link` is.
pub(super) fn relative(root: &[u8], link: &[u8], end: &[u8]) -> Option<Vec<u8>> {
    let parts = |path: &'_ [u8]| -> Vec<Vec<u8>> {
        path.split(|&b| b == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let (root, mut link, end) = (parts(root), parts(link), parts(end));
    link.pop();
    if !link.starts_with(&root) || !end.starts_with(&root) {
        return None;
    }
    let common = link.iter().zip(&end).take_while(|(a, b)| a == b).count();
    let mut way = vec![b"..".to_vec(); link.len() - common];
    way.extend_from_slice(&end[common..]);
    Some(if way.is_empty() { b".".to_vec() } else { way.join(&b'/') })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_lead_to_where_the_copy_reaches() {
        for (target, depth) in [("a", 0), ("a/b", 0), ("../a", 1), ("./../../a", 2), ("..", 1)] {
            assert!(stays_inside(target.as_bytes(), depth), "{target} at {depth}");
        }
    }

    #[test]
    fn a_link_that_could_lead_out_is_refused() {
        for (target, depth) in [
            ("/etc/passwd", 5),
            ("", 0),
            ("..", 0),
            ("../../a", 1),
            ("a/../../b", 3),
            ("a/..", 1),
            ("./..", 0),
        ] {
            assert!(!stays_inside(target.as_bytes(), depth), "{target} at {depth}");
        }
    }

    #[test]
    fn the_way_to_an_end_inside_the_copy_is_relative_and_stays_in_it() {
        let way = |root: &str, link: &str, end: &str| {
            relative(root.as_bytes(), link.as_bytes(), end.as_bytes())
                .map(|way| String::from_utf8(way).unwrap())
        };
        assert_eq!(way("Windows", "Windows/a/link", "Windows/b/c").as_deref(), Some("../b/c"));
        assert_eq!(way("Windows", "Windows/link", "Windows/b").as_deref(), Some("b"));
        assert_eq!(way("", "Windows/link", "Users").as_deref(), Some("../Users"));
        assert_eq!(way("Windows", "Windows/link", "Windows").as_deref(), Some("."));
        assert_eq!(way("Windows", "Windows/link", "Windows2/b"), None);
        assert_eq!(way("Users/a", "Users/a/link", "Users/b"), None);
    }
}
