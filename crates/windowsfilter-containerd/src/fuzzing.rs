//! Entry points for the fuzz targets of `fuzz/`; nothing else may use them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::filter::{Filters, Subject};
use crate::labels;
use crate::records::{Kind, Record, Records};
use crate::stop::Stop;

/// Runs the calls encoded in `input` on a server with a new store at `root`, without mounts, and compares
/// the results with a naive model.
///
/// # Panics
/// If the results differ.
pub fn calls(input: &[u8], root: &Path) {
    crate::machine::run(input, root, false);
}

/// Parses filters and applies them to a snapshot.
pub fn filters(filters: &[String], name: &str, value: &str) {
    let Ok(filters) = Filters::parse(filters, &Stop::default()) else { return };
    let labels = [("label".to_owned(), value.to_owned())].into();
    filters.accept(&Subject { name, parent: value, kind: "committed", labels: &labels });
}

/// Updates labels and reads sizes and digests from them. A refused path changes nothing; named labels are
/// set, all others are unchanged.
///
/// # Panics
/// If an update changes a label that it does not name.
pub fn labels(current: HashMap<String, String>, given: HashMap<String, String>, paths: &[String]) {
    let (Ok(current), Ok(given)) = (labels::checked(current), labels::checked(given)) else { return };
    for labels in [&current, &given] {
        let _ = labels::diff_id(labels);
        if let Ok(Some(size)) = labels::sandbox_size(labels) {
            assert_ne!(size, 0);
        }
    }
    let Ok(updated) = labels::updated(&current, &given, paths) else { return };
    let all = paths.is_empty() || paths.iter().any(|path| path == "labels");
    let names = current.keys().chain(given.keys()).chain(updated.keys());
    for name in names {
        let is_named = paths.iter().any(|path| path.strip_prefix("labels.") == Some(name));
        let expected = if is_named || all { given.get(name) } else { current.get(name) };
        assert_eq!(updated.get(name), expected, "{name:?}");
    }
}

/// The bytes of valid records.
///
/// # Panics
/// If they cannot be written.
pub fn records(path: &Path) -> Vec<u8> {
    let records = Records::open(path).expect("an empty place");
    for number in 0..5 {
        let kind = [Kind::View, Kind::Unpack, Kind::Sandbox, Kind::Committed][number % 4];
        let record = Record {
            key: format!("default/{number}/key"),
            number: records.allocate(),
            kind,
            parent: String::new(),
            namespace: "default".into(),
            labels: BTreeMap::from([("containerd.io/snapshot.ref".into(), "sha256:1".into())]),
            created: 1,
            updated: 2,
            layer: None,
            empty: None,
            applied: number == 1,
            thrown: false,
        };
        records.begin(&[record.number]).expect("room");
        records.add(&record, |_| Ok(())).expect("room");
    }
    drop(records);
    std::fs::read(path).expect("it is there")
}

/// Reads any bytes as records and returns their keys; `None` if they are damaged.
pub fn read_records(path: &Path) -> Option<Vec<String>> {
    let state = Records::read_copy(path).ok()??;
    Some(state.all().map(|record| record.key.clone()).collect())
}
