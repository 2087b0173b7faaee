//! Keys and names of snapshots, as containerd's metadata store makes them: `<namespace>/<number>/<client
//! key>`.
//!
//! They are opaque except for two facts: the namespace, and whether containerd will unpack a layer into the
//! snapshot. Clients that talk to the snapshotter directly send bare keys.

use windowsfilter::Digest;

use crate::error::Error;

/// Longest key or name, bytes. containerd sets no limit, and the records keep keys in memory.
pub(crate) const MAX_KEY: usize = 16 << 10;

/// Prefix of the client key of a snapshot that containerd unpacks a layer into (`UnpackKeyPrefix` of its
/// `core/snapshots`).
const UNPACK_PREFIX: &str = "extract-";

/// Refuses an invalid key.
pub(crate) fn check(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::Missing { what: "the snapshot's key" });
    }
    if key.len() > MAX_KEY {
        return Err(Error::TooLong { what: "the snapshot's key", length: key.len(), limit: MAX_KEY });
    }
    Ok(())
}

/// Namespace and client key, if the key has containerd's form.
pub(crate) fn parts(key: &str) -> Option<(&str, &str)> {
    let (namespace, rest) = key.split_once('/')?;
    let (number, client) = rest.split_once('/')?;
    let numbered = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (numbered && !namespace.is_empty()).then_some((namespace, client))
}

/// The namespace in the key, if there is one.
pub(crate) fn namespace(key: &str) -> Option<&str> {
    parts(key).map(|(namespace, _)| namespace)
}

/// Whether containerd will unpack a layer into the snapshot.
pub(crate) fn is_for_unpacking(key: &str) -> bool {
    parts(key).map_or(key, |(_, client)| client).starts_with(UNPACK_PREFIX)
}

/// The chain ID of the layer that a client will unpack, at the key's end: `extract-<anything>
/// sha256:<digits>`.
pub(crate) fn unpacked_chain(key: &str) -> Option<Digest> {
    let client = parts(key).map_or(key, |(_, client)| client);
    client.strip_prefix(UNPACK_PREFIX)?.split_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_the_first_part_of_a_key_that_containerd_made() {
        assert_eq!(namespace("default/3/extract-955493122-n1tQ sha256:ab"), Some("default"));
        assert_eq!(namespace("k8s.io/12//mnt/x"), Some("k8s.io"));
        assert_eq!(namespace("a/b/c"), None);
        assert_eq!(namespace("/1/x"), None);
        assert_eq!(namespace("plain"), None);
    }

    #[test]
    fn unpacking_is_told_by_the_client_part() {
        assert!(is_for_unpacking("default/3/extract-955493122-n1tQ sha256:ab"));
        assert!(is_for_unpacking("extract-1 sha256:ab"));
        assert!(!is_for_unpacking("default/3/my-extract-1"));
        assert!(!is_for_unpacking("extract-ns/3/box"));
        assert!(!is_for_unpacking("default/4//extract-dir"));
    }

    #[test]
    fn the_layer_that_is_unpacked_ends_the_key() {
        let digest = Digest::of(b"x");
        for key in [format!("buildkit/3/extract-9q2 {digest}"), format!("extract-1 {digest}")] {
            assert_eq!(unpacked_chain(&key), Some(digest));
        }
        for key in ["buildkit/3/extract-9q2", "extract-1 sha256:ab", "extract-1 x", "box sha256:ab"] {
            assert_eq!(unpacked_chain(key), None, "{key}");
        }
    }

    #[test]
    fn a_key_may_be_long_but_not_endless_or_empty() {
        check(&"k".repeat(10_000)).unwrap();
        assert!(check("").is_err());
        assert!(check(&"k".repeat(MAX_KEY + 1)).is_err());
    }
}
