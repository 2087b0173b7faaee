//! Chains of random layers: the kernel's mount, the reader's view and a naive model of the merge rules agree,
//! and `fsck.erofs` accepts every index.
//!
//! In a binary of its own: starting a program while another test unmounts would keep that mount busy.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod model;
#[path = "../contract/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use wclayer::filetime::FileTime;
use windowsfilter::{Driver, View};

use model::{Shown, Tree, What, Written};
use support::{TestLayer, TestStore, id};

fn time_of(layer: usize) -> FileTime {
    FileTime(132_000_000_000_000_000 + layer as u64)
}

fn write(entries: &[(String, Written)], layer: usize) -> Vec<u8> {
    let write = |tar: TestLayer, (path, entry): &(String, Written)| match entry {
        Written::File(content) => tar.file(path, content.as_bytes()),
        Written::Directory => tar.dir_of(path, time_of(layer)),
        Written::Link(target) => tar.link(path, target),
        Written::Deletion => tar.whiteout(path),
        Written::Opaque => tar.file(format!("{path}/.wh..wh..opq"), b""),
    };
    entries.iter().fold(TestLayer::new().dir("Files"), write).tar()
}

/// A line for each path: its kind, and the file that it is a name of.
type Lines = BTreeMap<Vec<u8>, String>;

fn of_model(tree: &Tree, path: &[u8], lines: &mut Lines) {
    for Shown { spelling, what } in tree.values() {
        let path = [path, b"/", spelling.as_bytes()].concat();
        match what {
            What::File(content) => {
                lines.insert(path, format!("file {content}"));
            }
            What::Directory { entry, names } => {
                let time = |layer| format!("directory {}", time_of(layer).0);
                lines.insert(path.clone(), entry.map_or_else(|| "directory".into(), time));
                of_model(names, &path, lines);
            }
        }
    }
}

/// The model's form: without a time if no layer has an entry for the directory.
fn directory_line(time: FileTime) -> String {
    if time_of(0) <= time && time <= time_of(1000) {
        format!("directory {}", time.0)
    } else {
        "directory".into()
    }
}

fn of_view(view: &View, node: &windowsfilter::Node, path: &[u8], lines: &mut Lines) {
    for (name, node) in view.list(node).unwrap() {
        let path = [path, b"/", &name[..]].concat();
        if node.is_directory() {
            let time = FileTime::from_unix(node.modified().0, node.modified().1);
            lines.insert(path.clone(), directory_line(time));
            of_view(view, &node, &path, lines);
        } else {
            let content = std::io::read_to_string(view.open_file(&node).unwrap()).unwrap();
            lines.insert(path, format!("file {content}"));
        }
    }
}

/// A shortened name is the start of the true one, `~` and a hash; the file's attribute has all its true
/// names.
fn true_name(path: &Path) -> Vec<u8> {
    let shown = path.file_name().unwrap().as_encoded_bytes();
    let Some(tilde) = shown.iter().position(|&byte| byte == b'~') else { return shown.to_vec() };
    let mut value = vec![0; 8192];
    let length = rustix::fs::lgetxattr(path, "user.win32.name", &mut value).unwrap();
    let mut names = value[..length].split(|&byte| byte == b'/');
    names.find(|name| name.starts_with(&shown[..tilde])).unwrap().to_vec()
}

fn of_kernel(directory: &Path, path: &[u8], lines: &mut Lines) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = true_name(&entry.path());
        let path = [path, b"/", &name[..]].concat();
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        if metadata.is_dir() {
            let time = FileTime::from_unix(metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap());
            lines.insert(path.clone(), directory_line(time));
            of_kernel(&entry.path(), &path, lines);
        } else {
            lines.insert(path, format!("file {}", fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// Compares as text: bytes are hard to read.
fn assert_same(actual: &Lines, expected: &Lines, whose: &str) {
    let text = |lines: &Lines| -> Vec<String> {
        lines.iter().map(|(path, line)| format!("{} {line}", path.escape_ascii())).collect()
    };
    let (actual, expected) = (text(actual), text(expected));
    let (more, less): (Vec<_>, Vec<_>) = (
        actual.iter().filter(|line| !expected.contains(line)).collect(),
        expected.iter().filter(|line| !actual.contains(line)).collect(),
    );
    assert!(more.is_empty() && less.is_empty(), "{whose} shows {more:#?} and not {less:#?}");
}

/// As in the tests of `erofs-index`: needs 1.9 or later; `WINDOWSFILTER_FSCK_EROFS` names the program.
fn assert_fsck_accepts(index: &Path, tars: &[std::path::PathBuf]) {
    let program = std::env::var_os("WINDOWSFILTER_FSCK_EROFS").unwrap_or_else(|| "fsck.erofs".into());
    let mut command = Command::new(program);
    command.arg("--extract").args(tars.iter().map(|tar| format!("--device={}", tar.display()))).arg(index);
    let output = command.output().expect("erofs-utils is needed");
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("<E>"), "{command:?}: {text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn kernel_reader_and_a_naive_model_agree_on_random_chains(layers in model::layers()) {
        let store = TestStore::new();
        let mut shown = Tree::new();
        let mut parent = None;
        let mut tars = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let tar = write(&model::apply(&mut shown, layer, number), number);
            let name = id(&format!("layer{number}"));
            store.apply_diff(&name, parent.as_ref(), &mut &tar[..]).unwrap();
            let dir = store.layer_dir(name.as_str());
            tars.push(dir.join("layer.tar"));
            assert_fsck_accepts(&dir.join("layer.erofs"), &tars[number..]);
            parent = Some(name);
        }
        let top = parent.unwrap();
        let mut expected = Lines::new();
        of_model(&shown, b"", &mut expected);
        let view = store.view(&top).unwrap();
        let mut read = Lines::new();
        of_view(&view, &view.root(), b"", &mut read);
        assert_same(&read, &expected, "the reader");
        let mounted = store.get(&top, "").unwrap();
        let mut seen = Lines::new();
        of_kernel(&mounted, b"", &mut seen);
        store.put(&top).unwrap();
        assert_same(&seen, &expected, "the kernel");
        assert_fsck_accepts(&store.layer_dir(top.as_str()).join("chain.erofs"), &tars);
    }
}
