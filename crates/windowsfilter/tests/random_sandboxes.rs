//! Random changes in a sandbox: committed as a layer and mounted again, they give the sandbox's tree. Nothing
//! is lost, and no deleted file comes back.
//!
//! In a binary of its own: starting a program while another test unmounts would keep that mount busy.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

#[path = "contract/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rustix::fs::XattrFlags;
use wclayer::filetime::FileTime;
use windowsfilter::{Driver, Error, StorageOptions};

use support::{TestLayer, TestStore, id};

/// An action in a mounted sandbox. Impossible ones are skipped.
#[derive(Clone, Debug)]
enum Act {
    Write(PathBuf, u16),
    MakeDirectory(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    LinkTo(PathBuf, PathBuf),
    Attribute(PathBuf, &'static str, u8),
    Touch(PathBuf, u32),
}

/// Few names, so that they collide; on Windows `A` is `a`.
fn path() -> impl Strategy<Value = PathBuf> {
    let name = select(vec!["a", "A", "b", "c", "d", "linked", "new~1", "Ü"]);
    vec(name, 1..4).prop_map(|names| names.iter().collect())
}

fn act() -> impl Strategy<Value = Act> {
    let attribute = select(vec!["user.DOSATTRIB", "user.DosStream.s:$DATA", "user.win32.ea.NAME"]);
    prop_oneof![
        4 => (path(), any::<u16>()).prop_map(|(path, number)| Act::Write(path, number)),
        3 => path().prop_map(Act::MakeDirectory),
        3 => path().prop_map(Act::Remove),
        4 => (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Act::Link(from, to)),
        1 => (path(), path()).prop_map(|(at, to)| Act::LinkTo(at, to)),
        2 => (path(), attribute, 0_u8..16).prop_map(|(path, name, value)| Act::Attribute(path, name, value)),
        1 => (path(), any::<u32>()).prop_map(|(path, time)| Act::Touch(path, time)),
    ]
}

impl Act {
    fn happen(&self, root: &Path) -> io::Result<()> {
        let at = |path: &Path| root.join(path);
        match self {
            Self::Write(path, number) => fs::write(at(path), number.to_string()),
            Self::MakeDirectory(path) => fs::create_dir_all(at(path)),
            Self::Remove(path) if at(path).symlink_metadata()?.is_dir() => fs::remove_dir_all(at(path)),
            Self::Remove(path) => fs::remove_file(at(path)),
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::Link(from, to) => fs::hard_link(at(from), at(to)),
            Self::LinkTo(path, target) => symlink(target, at(path)),
            Self::Attribute(path, name, value) => {
                let value = format!("0x{value:x}");
                Ok(rustix::fs::lsetxattr(at(path), *name, value.as_bytes(), XattrFlags::empty())?)
            }
            Self::Touch(path, time) => {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(u64::from(*time) * 100);
                fs::File::open(at(path))?.set_modified(time)
            }
        }
    }
}

/// Two layers: files with several names, in one directory and in two, an upper that changes, deletes and
/// replaces.
fn parents(store: &TestStore) {
    let base = TestLayer::new()
        .dir("Files")
        .dir("Files/a")
        .file("Files/a/a", b"of the base")
        .file("Files/a/b", b"two names")
        .link("Files/a/linked", "Files/a/b")
        .dir("Files/a/c")
        .file("Files/a/c/d", b"deep")
        .dir("Files/b")
        .link("Files/b/linked", "Files/a/b")
        .file("Files/b/c", b"will go")
        .file("Files/d", b"will be a directory");
    let upper = TestLayer::new()
        .dir("Files")
        .dir("Files/b")
        .whiteout("Files/b/c")
        .file("Files/b/d", b"of the upper")
        .dir("Files/d")
        .file("Files/d/a", b"inside");
    store.apply_diff(&id("base"), None, &mut &base.tar()[..]).unwrap();
    store.apply_diff(&id("upper"), Some(&id("base")), &mut &upper.tar()[..]).unwrap();
}

/// A line for each path: its kind, and the names of the same file. In lower case, because a directory that
/// replaces one in another case keeps the old spelling: a layer has only one entry for both.
type Lines = BTreeMap<String, String>;

/// The tree below `root`, and whether two names of a directory are the same to Windows: a layer then has one
/// of them, or is refused, which other tests cover.
fn lines(root: &Path) -> (Lines, bool) {
    let (mut lines, mut has_twins) = (Lines::new(), false);
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string().to_lowercase();
            let what = if metadata.is_dir() {
                directories.push(path.clone());
                "directory".to_owned()
            } else if metadata.is_symlink() {
                let text = fs::read_link(&path).unwrap();
                format!("link to {}", leads_to(&directory, &text).strip_prefix(root).unwrap().display())
                    .to_lowercase()
            } else {
                let first = names.entry(metadata.ino()).or_insert_with(|| name.clone());
                format!("file {first} with {}", fs::read_to_string(&path).unwrap())
            };
            // The time of a link does not matter on Windows.
            let time = if metadata.is_symlink() { 0 } else { ticks(&metadata) };
            let line = format!("{what}, {time}, {}", attributes(&path, metadata.is_symlink()));
            has_twins |= lines.insert(name, line).is_some();
        }
    }
    (lines, has_twins)
}

/// The target of a link, normalised: a view writes it in other words, and in its own spelling.
fn leads_to(directory: &Path, text: &Path) -> PathBuf {
    let mut path = directory.to_owned();
    for component in text.components() {
        match component {
            Component::ParentDir => _ = path.pop(),
            other => path.push(other),
        }
    }
    path
}

/// In Windows' units of 100 ns.
fn ticks(metadata: &fs::Metadata) -> u64 {
    FileTime::from_unix(metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap()).0
}

fn attributes(path: &Path, is_link: bool) -> String {
    let namespace = if is_link { "trusted" } else { "user" };
    let names = ["DosStream.s:$DATA", "win32.ea.NAME"];
    let value = |name: &&str| attribute(path, &format!("{namespace}.{name}"));
    // In a view, streams end in the NUL that Samba expects.
    let mut values: Vec<String> =
        names.iter().map(|name| value(name).trim_end_matches(r"\x00").to_owned()).collect();
    // Missing attributes are those of a new file on Windows; for a new link they depend on its target.
    if !is_link {
        let said = attribute(path, "user.DOSATTRIB");
        let bits = u32::from_str_radix(said.trim_start_matches("0x"), 16).ok();
        let is_directory = path.is_dir();
        let bits = bits.unwrap_or(if is_directory { 0 } else { 0x20 });
        let bits = if is_directory { bits | 0x10 } else { bits & !0x10 };
        values.push(format!("0x{bits:x}"));
    }
    values.join(" ")
}

fn attribute(path: &Path, name: &str) -> String {
    let mut value = vec![0; 4096];
    match rustix::fs::lgetxattr(path, name, &mut value) {
        Ok(length) => value[..length].escape_ascii().to_string(),
        Err(rustix::io::Errno::NODATA) => String::new(),
        Err(error) => panic!("{}: {name}: {error}", path.display()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_changed_in_a_sandbox_is_the_same_in_the_layer_that_was_committed(acts in vec(act(), 1..40)) {
        let store = TestStore::new();
        parents(&store);
        store.create_read_write(&id("box"), Some(&id("upper")), StorageOptions { size: Some(64 << 20) }, "").unwrap();
        let sandbox = store.get(&id("box"), "").unwrap();
        for act in &acts {
            _ = act.happen(&sandbox);
        }
        let (in_sandbox, has_twins) = lines(&sandbox);
        store.put(&id("box")).unwrap();
        let mut tar = Vec::new();
        if let Err(error) = store.diff(&id("box"), Some(&id("upper"))).unwrap().read_to_end(&mut tar) {
            let refused = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
            prop_assert!(matches!(refused, Some(Error::NotPortable { .. })) && has_twins, "{}", error);
            return Ok(());
        }
        store.apply_diff(&id("layer"), Some(&id("upper")), &mut &tar[..]).unwrap();
        let view = store.get(&id("layer"), "").unwrap();
        let (committed, _) = lines(&view);
        store.put(&id("layer")).unwrap();
        if !has_twins {
            prop_assert_eq!(committed, in_sandbox);
        }
    }
}
