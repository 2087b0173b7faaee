//! Labels of snapshots: limits, Update's mask, and the sizes in them.

use std::collections::{BTreeMap, HashMap};

use windowsfilter::DiffId;
use windowsfilter::options::{MAXIMUM_SANDBOX_SIZE, MINIMUM_SANDBOX_SIZE};

use crate::error::Error;

/// Name that the snapshot will get at commit: the chain ID of an image's layers.
pub(crate) const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
/// Chain ID of the layers below the one to apply, if the snapshot does not have them as parent yet;
/// containerd 2.3 and newer.
pub(crate) const PARENT_REF: &str = "containerd.io/snapshot/parent-chain-id";
/// diffID of the layer to apply; containerd 2.3 and newer.
const DIFF_ID: &str = "containerd.io/snapshot/diff-id";
/// Size of a sandbox in bytes.
const SIZE_BYTES: &str = "containerd.io/snapshot/windows/rootfs.sizebytes";
/// Size of a sandbox in "GB", meaning GiB; the older label.
const SIZE_GB: &str = "containerd.io/snapshot/io.microsoft.container.storage.rootfs.size-gb";

/// A hint of how many bytes an active snapshot may use, a decimal int64; containerd 2.4 and newer
/// (`LabelSnapshotMaxSize` of its `core/snapshots`).
const MAX_SIZE: &str = "containerd.io/snapshot/max-size";

/// All labels of a snapshot together, bytes.
const MAX_LABELS: usize = 1 << 20;
/// One label with its name, bytes: what containerd allows (`maxSize` of its `pkg/labels`).
const MAX_LABEL: usize = 4096;

/// A request's labels, checked against the limits.
pub(crate) fn checked(labels: HashMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let length = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if length > MAX_LABELS {
        return Err(Error::TooLong { what: "the labels of the snapshot", length, limit: MAX_LABELS });
    }
    if let Some(length) = labels.iter().map(|(key, value)| key.len() + value.len()).find(|&l| l > MAX_LABEL) {
        return Err(Error::TooLong { what: "a label of the snapshot", length, limit: MAX_LABEL });
    }
    Ok(labels.into_iter().collect())
}

/// The labels after an update of `paths` with `given`.
pub(crate) fn updated(
    current: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
    paths: &[String],
) -> Result<BTreeMap<String, String>, Error> {
    if paths.is_empty() {
        return Ok(given.clone());
    }
    let mut labels = current.clone();
    for path in paths {
        match path.strip_prefix("labels") {
            Some("") => labels.clone_from(given),
            Some(rest) if rest.starts_with('.') => {
                let key = &rest[1..];
                match given.get(key) {
                    Some(value) => labels.insert(key.to_owned(), value.clone()),
                    None => labels.remove(key),
                };
            }
            _ => return Err(Error::FieldMask { path: path.chars().take(200).collect() }),
        }
    }
    Ok(labels)
}

/// The sandbox size in the labels, bytes. Absent or 0 means the default. Windows' own labels come first,
/// and invalid ones are refused; the hint is clamped to the possible sizes, as in containerd's own
/// snapshotters.
pub(crate) fn sandbox_size(labels: &BTreeMap<String, String>) -> Result<Option<u64>, Error> {
    let read = |label: &'static str, unit: u64| {
        let Some(value) = labels.get(label) else { return Ok(None) };
        let size = value.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        let reason = "expected a whole number of bytes or, of the older label, gigabytes";
        let shown = || value.chars().take(60).collect();
        size.map(Some).ok_or_else(|| Error::Label { label, value: shown(), reason })
    };
    let size = match read(SIZE_BYTES, 1)? {
        Some(size) => Some(size),
        None => read(SIZE_GB, 1 << 30)?,
    };
    let size = size.or_else(|| labels.get(MAX_SIZE).and_then(|value| hinted_size(value)));
    Ok(size.filter(|&size| size != 0))
}

fn hinted_size(value: &str) -> Option<u64> {
    match value.parse::<i64>() {
        Ok(size @ 1..) => Some(size.unsigned_abs().clamp(MINIMUM_SANDBOX_SIZE, MAXIMUM_SANDBOX_SIZE)),
        _ => {
            let value: String = value.chars().take(60).collect();
            tracing::warn!("label {MAX_SIZE} is {value:?}, which is not a size: it is ignored");
            None
        }
    }
}

/// The diffID that the layer must have, if containerd sent one.
pub(crate) fn diff_id(labels: &BTreeMap<String, String>) -> Result<Option<DiffId>, Error> {
    let Some(value) = labels.get(DIFF_ID) else { return Ok(None) };
    let shown = value.chars().take(100).collect();
    let invalid = |_| Error::Label { label: DIFF_ID, value: shown, reason: "expected a sha256 digest" };
    value.parse().map(Some).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn update(current: &[(&str, &str)], given: &[(&str, &str)], paths: &[&str]) -> BTreeMap<String, String> {
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        updated(&map(current), &map(given), &paths).unwrap()
    }

    #[test]
    fn without_a_mask_or_with_labels_all_are_replaced() {
        let (current, given) = ([("a", "1"), ("b", "2")], [("c", "3")]);
        assert_eq!(update(&current, &given, &[]), map(&given));
        assert_eq!(update(&current, &given, &["labels"]), map(&given));
    }

    #[test]
    fn a_single_label_is_set_or_deleted() {
        let current = [("a.b/c", "1"), ("b", "2")];
        assert_eq!(
            update(&current, &[("a.b/c", "3"), ("x", "y")], &["labels.a.b/c"]),
            map(&[("a.b/c", "3"), ("b", "2")])
        );
        assert_eq!(update(&current, &[], &["labels.a.b/c", "labels.missing"]), map(&[("b", "2")]));
    }

    #[test]
    fn nothing_but_labels_can_be_changed() {
        for path in ["parent", "kind", "name", "labelsx", "", "created_at"] {
            let error = updated(&map(&[]), &map(&[]), &[path.to_owned()]).unwrap_err();
            assert!(matches!(error, Error::FieldMask { .. }), "{path}");
        }
    }

    #[test]
    fn sizes_come_in_bytes_or_gigabytes_and_0_means_the_default() {
        let size = |pairs: &[(&str, &str)]| sandbox_size(&map(pairs));
        assert_eq!(size(&[]).unwrap(), None);
        assert_eq!(size(&[(SIZE_BYTES, "21474836480")]).unwrap(), Some(20 << 30));
        assert_eq!(size(&[(SIZE_GB, "20")]).unwrap(), Some(20 << 30));
        assert_eq!(size(&[(SIZE_GB, "20"), (SIZE_BYTES, "5")]).unwrap(), Some(5));
        assert_eq!(size(&[(SIZE_BYTES, "0")]).unwrap(), None);
        for bad in ["", "-1", "20GB", "99999999999999999999"] {
            assert!(size(&[(SIZE_BYTES, bad)]).is_err(), "{bad}");
        }
        assert!(size(&[(SIZE_GB, "18446744073709551615")]).is_err());
    }

    #[test]
    fn the_hint_of_a_size_is_followed_as_far_as_it_goes() {
        let size = |pairs: &[(&str, &str)]| sandbox_size(&map(pairs)).unwrap();
        assert_eq!(size(&[(MAX_SIZE, "21474836480")]), Some(20 << 30));
        assert_eq!(size(&[(MAX_SIZE, "1")]), Some(MINIMUM_SANDBOX_SIZE));
        assert_eq!(size(&[(MAX_SIZE, "9223372036854775807")]), Some(MAXIMUM_SANDBOX_SIZE));
        for none in ["", "0", "-5", "20GB", "9223372036854775808"] {
            assert_eq!(size(&[(MAX_SIZE, none)]), None, "{none}");
        }
        assert_eq!(size(&[(MAX_SIZE, "21474836480"), (SIZE_GB, "30")]), Some(30 << 30));
        assert_eq!(size(&[(MAX_SIZE, "21474836480"), (SIZE_BYTES, "0")]), None);
    }

    #[test]
    fn a_label_may_be_as_long_as_containerd_allows() {
        let label = |length: usize| checked([("k".to_owned(), "v".repeat(length))].into());
        label(4095).unwrap();
        assert!(matches!(label(4096), Err(Error::TooLong { length: 4097, .. })));
    }

    #[test]
    fn a_flood_of_labels_is_refused() {
        let flood = (0..1000).map(|i| (format!("containerd.io/snapshot/{i}"), "x".repeat(2000))).collect();
        assert!(matches!(checked(flood), Err(Error::TooLong { .. })));
    }
}
