//! Two trees, or two layers, compared entry by entry with everything that Windows knows of an entry.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::images::digest;

/// What can be seen of a path of a mounted view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    kind: fs::FileType,
    /// Digest of a file's bytes, target of a link.
    content: String,
    modified: std::time::SystemTime,
    /// All extended attributes but the one that names the place in a store.
    attributes: BTreeMap<String, Vec<u8>>,
}

/// Names an entry of a layer in a store, so it differs from store to store.
const ORIGIN: &str = "user.win32.origin";

/// Everything below `dir`, by path.
pub fn tree(dir: &Path) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    add(dir, dir, &mut seen);
    seen
}

fn add(top: &Path, dir: &Path, seen: &mut BTreeMap<String, Seen>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().to_string_lossy().into_owned()
        } else if metadata.is_file() {
            digest(&fs::read(&path).unwrap())
        } else {
            String::new()
        };
        // Linux has no extended attributes of this kind on links.
        let attributes = if metadata.is_symlink() { BTreeMap::new() } else { attributes(&path) };
        let modified = metadata.modified().unwrap();
        let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
        seen.insert(name, Seen { kind: metadata.file_type(), content, modified, attributes });
        if metadata.is_dir() {
            add(top, &path, seen);
        }
    }
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::listxattr(path, &mut names).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut attributes = BTreeMap::new();
    for name in names.map(|name| String::from_utf8(name.to_vec()).unwrap()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::getxattr(path, name.as_str(), &mut value).unwrap();
        value.truncate(length);
        if name != ORIGIN {
            attributes.insert(name, value);
        }
    }
    attributes
}

/// One entry of a layer tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    kind: u8,
    link: Option<Vec<u8>>,
    size: u64,
    content: String,
    /// The records of the extended header: attributes, security descriptor, times, everything. Times of the
    /// test itself are [`NOW`].
    records: BTreeMap<String, Vec<u8>>,
}

impl Entry {
    /// A record of the extended header.
    pub fn record(&self, name: &str) -> Option<&[u8]> {
        self.records.get(name).map(Vec::as_slice)
    }
}

/// Stands for any time since a test began.
const NOW: &[u8] = b"now";

/// The entries of a layer tar, by name. Times at or after `began`, seconds since 1970, are not told apart.
pub fn entries(tar: &[u8], began: u64) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut records = BTreeMap::new();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            let value = record.value_bytes();
            let value = if is_since(value, began) { NOW } else { value };
            records.insert(record.key().unwrap().to_owned(), value.to_vec());
        }
        let header = entry.header();
        // The header's own time; a record overrides it where it is not whole seconds.
        records.entry("mtime".into()).or_insert_with(|| {
            let time = header.mtime().unwrap();
            if time >= began { NOW.to_vec() } else { time.to_string().into_bytes() }
        });
        let kind = header.entry_type().as_byte();
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let found = Entry { kind, link, size: entry.size(), content: digest(&content), records };
        assert_eq!(entries.insert(name.clone(), found), None, "{name} is in the layer twice");
    }
    entries
}

/// Whether a record is a time, as seconds with or without a fraction, at or after `began`.
fn is_since(value: &[u8], began: u64) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Dates of this century have ten digits; attributes have fewer.
    seconds.len() == 10 && is_number(fraction) && seconds.parse().is_ok_and(|seconds: u64| seconds >= began)
}

/// Fails with the first name at which two maps differ; whole maps are too long to read.
pub fn assert_same<T: PartialEq + std::fmt::Debug>(
    expected: &BTreeMap<String, T>,
    actual: &BTreeMap<String, T>,
    what: &str,
) {
    for (name, entry) in expected {
        assert_eq!(Some(entry), actual.get(name), "{what}: {name}");
    }
    let more: Vec<_> = actual.keys().filter(|name| !expected.contains_key(*name)).collect();
    assert!(more.is_empty(), "{what}: too many: {more:?}");
}
