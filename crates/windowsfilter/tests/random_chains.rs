//! Chains of random layers: what the kernel mounts, what the reader shows and what a naive model of the merge rules says is the same, and
//! `fsck.erofs` accepts every index on the way.
//!
//! In a binary of its own: a program that is started while another test unmounts would keep that mount busy.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

#[path = "contract/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use erofs_index::FileType;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use wclayer::filetime::FileTime;
use wclayer::name::fold;
use windowsfilter::{Driver, View};

use support::{TestLayer, TestStore, id};

/// One name of a layer.
#[derive(Clone, Debug)]
enum Item {
    File(u16),
    Whiteout,
    /// Another name of a file that the chain shows when the rest of this layer is applied.
    Link(Index),
    Directory {
        /// Whether it has an entry of its own, and so a time.
        entry: bool,
        opaque: bool,
        /// By folded name.
        names: Names,
    },
}

/// Spelling and item of each name, by folded name: a layer with two entries of one name is another test's.
type Names = BTreeMap<Vec<u8>, (String, Item)>;

/// What a view shows of a name.
#[derive(Clone, Debug)]
struct Shown {
    spelling: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Content; two names with the same number are one file.
    File(String),
    Directory {
        time: Option<u64>,
        names: Tree,
    },
}

type Tree = BTreeMap<Vec<u8>, Shown>;

/// Names that meet each other often, in several spellings; one is too long for Linux.
fn spelling() -> impl Strategy<Value = String> {
    let long = |letter: &str| letter.repeat(200);
    let names = ["a", "A", "b", "B", "ü", "Ü", "straße", "STRAßE", "x.txt", "X.TXT"].map(str::to_owned);
    select(names.into_iter().chain([long("ä"), long("Ä")]).collect::<Vec<_>>())
}

fn item() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        4 => any::<u16>().prop_map(Item::File),
        2 => Just(Item::Whiteout),
        1 => any::<Index>().prop_map(Item::Link),
    ];
    leaf.prop_recursive(3, 20, 5, |item| {
        (any::<bool>(), prop::bool::weighted(0.2), names(item)).prop_map(|(entry, opaque, names)| {
            Item::Directory { entry: entry || opaque || names.is_empty(), opaque, names }
        })
    })
}

fn names(item: impl Strategy<Value = Item>) -> impl Strategy<Value = Names> {
    btree_map(spelling(), item, 0..5).prop_map(|names| {
        names.into_iter().map(|(spelling, item)| (fold(spelling.as_bytes()), (spelling, item))).collect()
    })
}

/// A content that no other file of the chain has.
fn content(layer: usize, number: u16, path: &str) -> String {
    format!("{layer} {number} {path}")
}

fn time_of(layer: usize) -> FileTime {
    FileTime(132_000_000_000_000_000 + layer as u64)
}

/// The merge rules of `docs/driver-contract.md`, as plainly as they can be said.
fn merge(lower: &mut Tree, upper: &Names, layer: usize, path: &str) {
    for (folded, (spelling, item)) in upper {
        let path = format!("{path}/{spelling}");
        match item {
            Item::Whiteout => {
                lower.remove(folded);
            }
            // Links are resolved when everything else is there.
            Item::Link(_) => {
                let what = What::File(String::new());
                lower.insert(folded.clone(), Shown { spelling: spelling.clone(), what });
            }
            Item::File(number) => {
                let what = What::File(content(layer, *number, &path));
                lower.insert(folded.clone(), Shown { spelling: spelling.clone(), what });
            }
            Item::Directory { entry, opaque, names } => {
                let is_directory =
                    matches!(lower.get(folded), Some(Shown { what: What::Directory { .. }, .. }));
                if !is_directory {
                    let what = What::Directory { time: None, names: Tree::new() };
                    lower.insert(folded.clone(), Shown { spelling: spelling.clone(), what });
                }
                let Some(Shown { what: What::Directory { time, names: below }, .. }) = lower.get_mut(folded)
                else {
                    unreachable!("it was just put there");
                };
                if *opaque {
                    below.clear();
                }
                if *entry {
                    *time = Some(time_of(layer).0);
                }
                merge(below, names, layer, &path);
            }
        }
    }
}

/// The files of a tree: path and content.
fn files(tree: &Tree, path: &str, out: &mut Vec<(String, String)>) {
    for Shown { spelling, what } in tree.values() {
        let path = format!("{path}/{spelling}");
        match what {
            What::File(content) => out.push((path, content.clone())),
            What::Directory { names, .. } => files(names, &path, out),
        }
    }
}

/// Gives each link of `upper` a target in `shown`, or makes it a file if there is none, and writes all of `upper`.
fn write(
    mut tar: TestLayer,
    upper: &Names,
    layer: usize,
    path: &str,
    shown: &mut Tree,
    targets: &[(String, String)],
) -> TestLayer {
    for (folded, (spelling, item)) in upper {
        let path = format!("{path}/{spelling}");
        match item {
            Item::Whiteout => tar = tar.whiteout(&path),
            Item::File(number) => tar = tar.file(&path, content(layer, *number, &path).as_bytes()),
            Item::Link(index) => {
                let (target, content) = match targets {
                    [] => (None, format!("{layer} link {path}")),
                    _ => {
                        let (target, content) = index.get(targets);
                        (Some(target), content.clone())
                    }
                };
                tar = match target {
                    Some(target) => tar.link(&path, target),
                    None => tar.file(&path, content.as_bytes()),
                };
                shown.get_mut(folded).unwrap().what = What::File(content);
            }
            Item::Directory { entry, opaque, names } => {
                if *entry {
                    tar = tar.dir_of(&path, time_of(layer));
                }
                if *opaque {
                    tar = tar.file(&format!("{path}/.wh..wh..opq"), b"");
                }
                let What::Directory { names: below, .. } = &mut shown.get_mut(folded).unwrap().what else {
                    unreachable!("the layer has a directory there");
                };
                tar = write(tar, names, layer, &path, below, targets);
            }
        }
    }
    tar
}

/// A line for each path: what it is, and which file it is one of.
type Lines = BTreeMap<Vec<u8>, String>;

fn of_model(tree: &Tree, path: &[u8], lines: &mut Lines) {
    for Shown { spelling, what } in tree.values() {
        let path = [path, b"/", spelling.as_bytes()].concat();
        match what {
            What::File(content) => {
                lines.insert(path, format!("file {content}"));
            }
            What::Directory { time, names } => {
                lines.insert(
                    path.clone(),
                    time.map_or_else(|| "directory".into(), |time| format!("directory {time}")),
                );
                of_model(names, &path, lines);
            }
        }
    }
}

/// As the model says it: without a time where no layer ever gave one.
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
        if node.info.kind == FileType::Directory {
            let time = FileTime::from_unix(node.info.mtime.0, node.info.mtime.1);
            lines.insert(path.clone(), directory_line(time));
            of_view(view, &node, &path, lines);
        } else {
            let content = std::io::read_to_string(view.open_file(&node).unwrap()).unwrap();
            lines.insert(path, format!("file {content}"));
        }
    }
}

/// A shortened name is the start of the true one, `~` and a hash; the file's attribute has all its true names.
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

/// As in the tests of `erofs-index`: 1.9 or later, `WINDOWSFILTER_FSCK_EROFS` says which.
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
    fn kernel_reader_and_a_naive_model_agree_on_random_chains(layers in vec(names(item()), 1..5)) {
        let store = TestStore::new();
        let mut model = Tree::new();
        let mut parent = None;
        let mut tars = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            merge(&mut model, layer, number, "Files");
            let mut targets = Vec::new();
            files(&model, "Files", &mut targets);
            targets.retain(|(_, content)| !content.is_empty());
            let tar = write(TestLayer::new().dir("Files"), layer, number, "Files", &mut model, &targets).tar();
            let name = id(&format!("layer{number}"));
            store.apply_diff(&name, parent.as_ref(), &mut &tar[..]).unwrap();
            let dir = store.layer_dir(name.as_str());
            tars.push(dir.join("layer.tar"));
            assert_fsck_accepts(&dir.join("layer.erofs"), &tars[number..]);
            parent = Some(name);
        }
        let top = parent.unwrap();
        let mut expected = Lines::new();
        of_model(&model, b"", &mut expected);
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
