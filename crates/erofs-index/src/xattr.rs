//! Extended attributes, for writer and reader: their namespaces, and the name filter.

use crate::format;

/// The part of an attribute's name before its first dot; the image stores it as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// `user.`: for everyone; Linux allows it on files and directories only.
    User,
    /// `trusted.`: visible only with CAP_SYS_ADMIN, on every type of file.
    Trusted,
    /// `security.`: for security modules.
    Security,
}

impl Namespace {
    /// The prefix with its dot, as Linux names the attribute.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::User => "user.",
            Self::Trusted => "trusted.",
            Self::Security => "security.",
        }
    }

    pub(crate) fn to_disk(self) -> u8 {
        match self {
            Self::User => format::XATTR_USER,
            Self::Trusted => format::XATTR_TRUSTED,
            Self::Security => format::XATTR_SECURITY,
        }
    }

    pub(crate) fn from_disk(index: u8) -> Option<Self> {
        match index {
            format::XATTR_USER => Some(Self::User),
            format::XATTR_TRUSTED => Some(Self::Trusted),
            format::XATTR_SECURITY => Some(Self::Security),
            _ => None,
        }
    }
}

/// The name filter's bit for one attribute: of 32, the one that the hash of its name picks.
///
/// An inode's filter has a bit *cleared* for each of its attributes, so that Linux can answer "no such
/// attribute" without reading them; overlayfs reads `trusted.overlay.*` on every lookup. Source:
/// `EROFS_XATTR_FILTER_SEED` in `erofs_fs.h` and `erofs_getxattr` in `fs/erofs/xattr.c`.
pub(crate) fn filter_bit(namespace: Namespace, name: &[u8]) -> u32 {
    const SEED: u32 = 0x25bb_e08f;
    1 << (xxh32(name, SEED + u32::from(namespace.to_disk())) % 32)
}

const PRIME_1: u32 = 0x9e37_79b1;
const PRIME_2: u32 = 0x85eb_ca77;
const PRIME_3: u32 = 0xc2b2_ae3d;
const PRIME_4: u32 = 0x27d4_eb2f;
const PRIME_5: u32 = 0x1656_67b1;

/// XXH32. Source: `doc/xxhash_spec.md` of the xxHash project.
fn xxh32(data: &[u8], seed: u32) -> u32 {
    let (stripes, tail) = data.as_chunks::<16>();
    let mut hash = if stripes.is_empty() { seed.wrapping_add(PRIME_5) } else { xxh32_stripes(stripes, seed) };
    hash = hash.wrapping_add(data.len() as u32);
    let (words, bytes) = tail.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3));
        hash = hash.rotate_left(17).wrapping_mul(PRIME_4);
    }
    for &byte in bytes {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(PRIME_5));
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 16)
}

fn xxh32_stripes(stripes: &[[u8; 16]], seed: u32) -> u32 {
    let mut lanes = [
        seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
        seed.wrapping_add(PRIME_2),
        seed,
        seed.wrapping_sub(PRIME_1),
    ];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
            *lane = lane.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_2));
            *lane = lane.rotate_left(13).wrapping_mul(PRIME_1);
        }
    }
    let [a, b, c, d] = lanes;
    let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7));
    sum.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from the xxHash project's own sanity checks (`cli/xsum_sanity_check.c`) and well-known
    /// examples.
    #[test]
    fn xxh32_agrees_with_published_values() {
        assert_eq!(xxh32(b"", 0), 0x02cc_5d05);
        assert_eq!(xxh32(b"", PRIME_1), 0x36b7_8ae7);
        assert_eq!(xxh32(b"a", 0), 0x550d_7456);
        assert_eq!(xxh32(b"abc", 0), 0x32d1_53ff);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition", 0), 0xe229_3b2f);
    }
}
