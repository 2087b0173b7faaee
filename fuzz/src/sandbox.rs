//! A sandbox in memory, described by an input, on a fixed layer.
//!
//! An input is a list of entries, each two NUL-terminated strings: kind and path, and the value.
//!
//! | first letter | what it is | the second string |
//! | --- | --- | --- |
//! | `f` | file | its content |
//! | `d` | directory | `y`: it is opaque |
//! | `l` | symbolic link | its target |
//! | `h` | another name of a file | the path of the file |
//! | `w` | deletion | |
//! | `p` | pipe | |
//! | `a` | attribute: the path ends with `=` and the attribute's name | its value |
//! | `b` | the same | its value in hexadecimal digits |

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::sync::OnceLock;

use layer_mounts::linux::upper::{Attribute, UpperEntry, UpperKind, Wanted};
use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};
use wclayer::name;
use windowsfilter::support::sandbox_diff::{Upper, Walk};
use windowsfilter::{Driver, Error, LayerId, LayerStore, Node, StorageOptions, View};

/// The lower layer's files, by paths below `Files`; directories end with a slash, links have a target.
const BELOW: &[(&str, &str)] = &[
    ("Dir/", ""),
    ("Dir/Gone.txt", ""),
    ("Dir/Old.txt", ""),
    ("Dir/Sub/", ""),
    ("Dir/Sub/x", ""),
    ("Link", r"Dir\Sub"),
    ("Windows/", ""),
    ("Windows/System32/", ""),
    ("Windows/System32/a.dll", ""),
];
/// Length of a stream of `Dir/Old.txt` that is too large for the index.
const STREAM: usize = 100_000;

/// The store with the layer.
pub struct Base {
    /// Its store, in memory.
    pub store: LayerStore,
    /// The layer's ID.
    pub id: LayerId,
    /// Its view.
    pub view: View,
    _root: tempfile::TempDir,
}

/// The layer below all sandboxes.
pub fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let root = tempfile::tempdir_in("/dev/shm").expect("a place in memory");
        let store = LayerStore::open(root.path(), StorageOptions::default()).expect("an empty store");
        let id = LayerId::new("base").expect("a valid ID");
        store.apply_diff(&id, None, &mut &layer()[..]).expect("a layer");
        let view = store.view(&id).expect("its view");
        Base { store, id, view, _root: root }
    })
}

/// A layer with everything in [`BELOW`], and a file with a stream.
pub fn layer() -> Vec<u8> {
    let time = FileTime::from_unix(1_600_000_000, 0);
    let entry = |name: &str, attributes| {
        let info = FileInfo {
            attributes,
            creation_time: time,
            last_access_time: time,
            last_write_time: time,
            change_time: time,
        };
        LayerEntry::new(name.as_bytes(), info)
    };
    let mut tar = Writer::extended(Vec::new());
    let mut write = |entry: &LayerEntry| tar.write_file(entry, &mut std::io::empty()).expect("a vector");
    write(&entry("Files", FILE_ATTRIBUTE_DIRECTORY));
    for (path, target) in BELOW {
        let path = format!("Files/{path}");
        match (path.strip_suffix('/'), target.is_empty()) {
            (Some(directory), _) => write(&entry(directory, FILE_ATTRIBUTE_DIRECTORY)),
            (None, true) => write(&entry(&path, FILE_ATTRIBUTE_ARCHIVE)),
            (None, false) => {
                let mut link = entry(&path, FILE_ATTRIBUTE_REPARSE_POINT | FILE_ATTRIBUTE_DIRECTORY);
                link.reparse = wclayer::reparse::encode_go(target.as_bytes(), false).ok();
                write(&link);
            }
        }
    }
    let last = entry("Files/stream", FILE_ATTRIBUTE_ARCHIVE);
    write(&last);
    let stream = vec![b's'; STREAM];
    tar.write_stream(&last, b"big", STREAM as u64, &mut &stream[..]).expect("a vector");
    tar.finish().expect("a vector")
}

/// The content of a sandbox.
#[derive(Debug, Default)]
pub struct Sandbox {
    /// By path, so that each directory precedes its content.
    entries: BTreeMap<Vec<Vec<u8>>, Entry>,
    inodes: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    kind: UpperKind,
    inode: u64,
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Sandbox {
    /// Parses an input; skips impossible entries.
    pub fn read(input: &[u8]) -> Self {
        let mut sandbox = Self::default();
        sandbox.add(Vec::new(), UpperKind::Directory { opaque: false }, &[]);
        let mut strings = input.split(|&byte| byte == 0);
        while let (Some(what), Some(value)) = (strings.next(), strings.next()) {
            let Some((&letter, path)) = what.split_first() else { continue };
            sandbox.take(letter, path, value);
        }
        sandbox
    }

    fn take(&mut self, letter: u8, path: &[u8], value: &[u8]) {
        match letter {
            b'a' | b'b' => {
                let Some(end) = path.iter().position(|&byte| byte == b'=') else { return };
                let Some(names) = names(&path[..end]) else { return };
                let raw = Some(value.to_vec());
                let value = if letter == b'b' { hexadecimal(value) } else { raw };
                if let (Some(entry), Some(value)) = (self.entries.get_mut(&names), value) {
                    entry.attributes.insert(path[end + 1..].to_vec(), value);
                }
            }
            b'h' => {
                let file = names(value).and_then(|names| self.entries.get(&names)).cloned();
                let (Some(file), Some(names)) = (file, names(path)) else { return };
                if matches!(file.kind, UpperKind::File { .. }) && self.make_room(&names) {
                    self.entries.insert(names, file);
                }
            }
            _ => {
                let kind = match letter {
                    b'f' => UpperKind::File { size: value.len() as u64 },
                    b'd' => UpperKind::Directory { opaque: value == b"y" },
                    b'l' if !value.is_empty() && value.len() < 4096 => {
                        UpperKind::Symlink { target: value.to_vec() }
                    }
                    b'w' => UpperKind::Whiteout,
                    b'p' => UpperKind::Other { mode: 0o10_600 },
                    _ => return,
                };
                if let Some(names) = names(path).filter(|names| self.make_room(names)) {
                    self.add(names, kind, value);
                }
            }
        }
    }

    /// Creates the directories above a name. Returns whether that is possible.
    fn make_room(&mut self, names: &[Vec<u8>]) -> bool {
        for length in 1..names.len() {
            match self.entries.get(&names[..length]) {
                None => self.add(names[..length].to_vec(), UpperKind::Directory { opaque: false }, &[]),
                Some(entry) if !matches!(entry.kind, UpperKind::Directory { .. }) => return false,
                Some(_) => {}
            }
        }
        !self.entries.contains_key(names)
    }

    fn add(&mut self, names: Vec<Vec<u8>>, kind: UpperKind, content: &[u8]) {
        self.inodes += 1;
        let entry =
            Entry { kind, inode: self.inodes, content: content.to_vec(), attributes: BTreeMap::new() };
        self.entries.insert(names, entry);
    }

    fn upper_entry(&self, names: &[Vec<u8>], entry: &Entry, wanted: Wanted) -> UpperEntry {
        let links = self.entries.values().filter(|other| other.inode == entry.inode).count();
        let (known, others): (Vec<_>, Vec<_>) = entry.attributes.iter().partition(|(name, _)| wanted(name));
        UpperEntry {
            path: names.join(&b'/'),
            kind: entry.kind.clone(),
            mtime: (1_700_000_000, 100),
            inode: entry.inode,
            links: links as u64,
            xattrs: known.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            others: others.into_iter().map(|(name, value)| (name.clone(), value.len())).collect(),
        }
    }

    /// Whether no attribute changes a file's kind or name.
    pub fn is_what_it_seems(&self) -> bool {
        let names = self.entries.values().flat_map(|entry| entry.attributes.keys());
        names.into_iter().all(|name| !name.ends_with(b"win32.reparse") && !name.ends_with(b"win32.name"))
    }

    /// The paths, case folded, that the view must show: the lower layer's, as changed by the sandbox.
    pub fn expected(&self) -> BTreeSet<Vec<Vec<u8>>> {
        let fold = |names: &[Vec<u8>]| names.iter().map(|name| name::fold(name)).collect::<Vec<_>>();
        let view = &base().view;
        let mut there: BTreeMap<Vec<Vec<u8>>, bool> = BTreeMap::new();
        for (path, directory) in shown(view) {
            there.insert(path, directory);
        }
        let remove = |there: &mut BTreeMap<Vec<Vec<u8>>, bool>, path: &[Vec<u8>]| {
            there.retain(|other, _| !other.starts_with(path));
        };
        for (names, entry) in &self.entries {
            let path = fold(names);
            let replaces = self.entries.iter().any(|(other, twin)| {
                other != names && twin.kind == UpperKind::Whiteout && fold(other) == path
            });
            // The root always exists and is not listed.
            let lasting = path.is_empty() || there.get(&path) == Some(&true) && !replaces;
            match entry.kind {
                // A name that came back in another case is a replacement, made by its own entry.
                UpperKind::Whiteout => {
                    let back = |(other, twin): (&Vec<Vec<u8>>, &Entry)| {
                        twin.kind != UpperKind::Whiteout && fold(other) == path
                    };
                    if !self.entries.iter().any(back) {
                        remove(&mut there, &path);
                    }
                }
                UpperKind::Directory { opaque } => {
                    if !lasting || opaque {
                        remove(&mut there, &path);
                    }
                    if !path.is_empty() {
                        there.insert(path, true);
                    }
                }
                _ => {
                    remove(&mut there, &path);
                    there.insert(path, false);
                }
            }
        }
        there.into_keys().collect()
    }
}

/// The components of a path, if it is valid.
fn names(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let names: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect();
    let possible = |name: &Vec<u8>| (1..=255).contains(&name.len()) && name != b"." && name != b"..";
    (names.len() < 100 && names.iter().all(possible)).then_some(names)
}

fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

impl Upper for Sandbox {
    fn root(&self, wanted: Wanted) -> Result<UpperEntry, Error> {
        Ok(self.upper_entry(&[], &self.entries[&Vec::new()], wanted))
    }

    fn walk(&self, wanted: Wanted, _: Option<u64>) -> Result<Walk<'_>, Error> {
        let below = self.entries.iter().skip(1);
        Ok(Box::new(below.map(move |(names, entry)| Ok(self.upper_entry(names, entry, wanted)))))
    }

    fn attributes(&self, path: &[u8], wanted: Wanted) -> Result<Vec<Attribute>, Error> {
        let names = names(path).unwrap_or_default();
        Ok(self.upper_entry(&names, &self.entries[&names], wanted).xattrs)
    }

    fn open_file(&self, path: &[u8]) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(Cursor::new(self.entries[&names(path).unwrap_or_default()].content.clone())))
    }
}

/// The view's paths, case folded, and whether they are directories.
pub fn shown(view: &View) -> Vec<(Vec<Vec<u8>>, bool)> {
    let mut all = Vec::new();
    let mut directories: Vec<(Vec<Vec<u8>>, Node)> = vec![(Vec::new(), view.root())];
    while let Some((path, directory)) = directories.pop() {
        for (name, node) in view.list(&directory).expect("a directory of the view") {
            let path = [&path[..], &[name::fold(&name)]].concat();
            let is_directory = node.is_directory();
            all.push((path.clone(), is_directory));
            if is_directory {
                directories.push((path, node));
            }
        }
    }
    all
}
