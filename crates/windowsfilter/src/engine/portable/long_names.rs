//! Names longer than Linux allows. An index has shortened ones, and the true ones in an attribute of the
//! inode.
//!
//! The shortened name is the start of the true one, `~`, and a hash that is the same for all its spellings.
//! An inode with several names may have several long ones: the attribute has them all, separated by `/`,
//! which no name contains.

use erofs_index::{Image, NAME_MAX, Namespace, Nid, ReadAt, ReadError};
use wclayer::name;

use crate::digest::Digest;
use crate::engine::portable::xattrs::MAX_VALUE;

/// The attribute for the names that Linux cannot hold.
pub(super) const TRUE_NAME: &[u8] = b"win32.name";

/// Bytes of the `~` and the hash of the true name at the end of a shortened one.
pub(super) const SUFFIX: usize = 9;

/// The suffix of a name that may be a shortened one. It is the same for all spellings of the true name.
pub(super) fn short_suffix(name: &[u8]) -> Option<[u8; SUFFIX]> {
    let suffix = *name.last_chunk::<SUFFIX>()?;
    // Shortened ones are at least 252 bytes.
    (name.len() > 200 && suffix[0] == b'~').then_some(suffix)
}

/// Whether Linux cannot hold a name.
pub(super) fn is_long(name: &[u8]) -> bool {
    name.len() > NAME_MAX
}

/// The name in the index.
pub(super) fn linux_name(name: &[u8]) -> Vec<u8> {
    if !is_long(name) {
        return name.to_vec();
    }
    let hash = &Digest::of(&name::fold(name)).hex()[..8];
    let mut end = NAME_MAX - 1 - hash.len();
    // Do not cut inside a character; bytes that are not UTF-8 are cut anywhere.
    for _ in 0..3 {
        if name[end] & 0xc0 == 0x80 {
            end -= 1;
        }
    }
    [&name[..end], b"~", hash.as_bytes()].concat()
}

/// The attribute's value; `None` without names. An attribute holds at least some hundred long names; further
/// ones are only in the tar.
pub(super) fn join<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    for name in names {
        if value.len() + 1 + name.len() > MAX_VALUE {
            break;
        }
        if !value.is_empty() {
            value.push(b'/');
        }
        value.extend_from_slice(name);
    }
    (!value.is_empty()).then_some(value)
}

/// The name in the attribute's `value` that is `shown` in the index.
pub(super) fn pick<'v>(value: &'v [u8], shown: &[u8]) -> Option<&'v [u8]> {
    value.split(|&byte| byte == b'/').find(|name| linux_name(name) == shown)
}

/// The name on Windows and in the tar of an entry whose `name` in an index is a shortened one.
pub(super) fn true_name<S: ReadAt>(
    image: &Image<S>,
    nid: Nid,
    name: &[u8],
) -> Result<Option<Vec<u8>>, ReadError> {
    if short_suffix(name).is_none() {
        return Ok(None);
    }
    let inode = image.inode(nid)?;
    for namespace in [Namespace::User, Namespace::Trusted] {
        if let Some(value) = image.xattr(&inode, namespace, TRUE_NAME)? {
            return Ok(pick(&value, name).map(<[u8]>::to_vec));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters_and_the_same_in_any_case() {
        let long = "ü".repeat(200);
        let short = linux_name(long.as_bytes());
        assert!(short.len() <= NAME_MAX && std::str::from_utf8(&short).is_ok());
        let upper = linux_name(long.to_uppercase().as_bytes());
        assert_eq!(short[short.len() - 9..], upper[upper.len() - 9..]);
        assert_eq!(linux_name(&[b'a'; 255]), [b'a'; 255]);
        assert_eq!(linux_name(&[0x80; 300]).len(), NAME_MAX - 3);
    }

    #[test]
    fn each_of_several_long_names_is_found_by_what_is_shown_of_it() {
        let names = ["ä", "ö", "Ü"].map(|letter| letter.repeat(200).into_bytes());
        let value = join(names.iter().map(|name| &name[..])).unwrap();
        for name in &names {
            assert_eq!(pick(&value, &linux_name(name)), Some(&name[..]));
        }
        assert_eq!(pick(&value, &linux_name("ß".repeat(200).as_bytes())), None);
        assert_eq!(join([]), None);
        let many = join(std::iter::repeat_n(&names[0][..], 1000)).unwrap();
        assert!(many.len() <= MAX_VALUE && pick(&many, &linux_name(&names[0])).is_some());
    }
}
