//! The merge rules, the same as the portable engine's: the content of a layer's directory after it is
//! written.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::fake_tree::content;
use super::model::{self, Entry, Op, Shown, Tree, What, Written};
use super::{Fixture, TestTar, id, names};
use crate::Driver;

/// Adds the tree below a directory to `lines`, with the content of files.
fn tree(fixture: &Fixture, dir: &Path, path: &str, lines: &mut BTreeMap<String, Option<String>>) {
    for name in names(dir) {
        let (at, path) = (dir.join(&name), format!("{path}/{name}"));
        if at.is_dir() {
            tree(fixture, &at, &path, lines);
            lines.insert(path, None);
        } else {
            lines.insert(path, content(&fixture.host, &at).map(|bytes| String::from_utf8(bytes).unwrap()));
        }
    }
}

fn files_of(fixture: &Fixture, layer: &str) -> BTreeMap<String, Option<String>> {
    let mut lines = BTreeMap::new();
    tree(fixture, &fixture.home().join(layer).join("Files"), "Files", &mut lines);
    lines
}

/// Imports `base` and, on top of it, `upper`; returns the content of the latter's directory.
fn merged(base: TestTar, upper: TestTar) -> Vec<String> {
    merged_in(&Fixture::new(), base, upper)
}

fn merged_in(fixture: &Fixture, base: TestTar, upper: TestTar) -> Vec<String> {
    fixture.store.apply_diff(&id("base"), None, &mut &base.tar()[..]).unwrap();
    fixture.store.apply_diff(&id("upper"), Some(&id("base")), &mut &upper.tar()[..]).unwrap();
    assert!(fixture.leftovers().is_empty());
    let line = |(path, content): (String, Option<String>)| match content {
        Some(content) => format!("{path} = {content}"),
        None => format!("{path}/"),
    };
    files_of(fixture, "upper").into_iter().map(line).collect()
}

fn base() -> TestTar {
    TestTar::new()
        .dir("Files")
        .dir("Files/d")
        .file("Files/d/x", b"x")
        .dir("Files/d/sub")
        .file("Files/d/sub/y", b"y")
        .dir("Files/d/other")
        .file("Files/d/other/z", b"z")
        .file("Files/f", b"f")
}

#[test]
fn a_directory_that_is_deleted_and_there_again_has_nothing_of_the_parents() {
    let again = |tar: TestTar| tar.dir("Files/d").file("Files/d/new", b"new").dir("Files/d/sub");
    let before = again(TestTar::new().dir("Files").whiteout("Files/d"));
    let after = again(TestTar::new().dir("Files")).whiteout("Files/d");
    for upper in [before, after] {
        assert_eq!(merged(base(), upper), ["Files/d/", "Files/d/new = new", "Files/d/sub/", "Files/f = f"]);
    }
}

#[test]
fn a_deleted_directory_is_gone_whether_windows_copies_what_is_in_it_or_not() {
    for copies_parents in [false, true] {
        let fixture = Fixture::new();
        fixture.host.machine().copies_parents = copies_parents;
        let upper = TestTar::new().dir("Files").whiteout("Files/d").whiteout("Files/none");
        assert_eq!(merged_in(&fixture, base(), upper), ["Files/f = f"]);
    }
}

#[test]
fn an_opaque_directory_shows_nothing_of_the_parents_whether_the_layer_has_it_or_not() {
    let upper = TestTar::new().dir("Files").file("Files/d/.wh..wh..opq", b"");
    assert_eq!(merged(base(), upper), ["Files/d/", "Files/f = f"]);
    let upper = TestTar::new()
        .dir("Files")
        .dir("Files/d")
        .file("Files/d/mine", b"1")
        .file("Files/d/.wh..wh..opq", b"");
    assert_eq!(merged(base(), upper), ["Files/d/", "Files/d/mine = 1", "Files/f = f"]);
    let upper = TestTar::new().dir("Files").file("Files/none/.wh..wh..opq", b"").whiteout("Files/d");
    assert_eq!(merged(base(), upper), ["Files/f = f"]);
}

#[test]
fn a_deletion_deletes_nothing_of_its_own_layer_wherever_it_stands() {
    let upper = TestTar::new().dir("Files").file("Files/f", b"mine").whiteout("Files/f").whiteout("Files/d");
    assert_eq!(merged(base(), upper), ["Files/f = mine"]);
    let upper = TestTar::new()
        .dir("Files")
        .link("Files/l", "Files/f")
        .whiteout("Files/l")
        .whiteout("Files/f")
        .whiteout("Files/d");
    assert_eq!(merged(base(), upper), ["Files/l = f"]);
}

#[test]
fn links_mean_what_is_there_at_their_place_of_the_tar() {
    let upper = TestTar::new()
        .dir("Files")
        .whiteout("Files/d")
        .link("Files/parents", "Files/f")
        .file("Files/f", b"mine")
        .link("Files/own", "Files/f")
        .file("Files/f", b"later")
        .link("Files/forward", "Files/chain")
        .link("Files/chain", "Files/end")
        .file("Files/end", b"end");
    let expected = ["chain = end", "end = end", "f = later", "forward = end", "own = mine", "parents = f"]
        .map(|line| format!("Files/{line}"));
    assert_eq!(merged(base(), upper), expected);
    // Also in a layer without parents.
    let fixture = Fixture::new();
    let tar = TestTar::new()
        .dir("Files")
        .file("Files/f", b"first")
        .link("Files/own", "Files/f")
        .file("Files/f", b"later")
        .link("Files/forward", "Files/chain")
        .link("Files/chain", "Files/end")
        .link("Files/d-later", "Files/d")
        .dir("Files/d")
        .link("Files/e", "Files/d-later")
        .file("Files/d/x", b"x")
        .dir("Files/d")
        .link("Files/x", "Files/d/x")
        .file("Files/d", b"file")
        .file("Files/end", b"end")
        .tar();
    fixture.store.apply_diff(&id("base"), None, &mut &tar[..]).unwrap();
    let contents = [
        "chain = end",
        "d = file",
        "d-later = file",
        "e = file",
        "end = end",
        "f = later",
        "forward = end",
        "own = first",
        "x = x",
    ];
    let lines =
        files_of(&fixture, "base").into_iter().map(|(path, text)| format!("{path} = {}", text.unwrap()));
    assert_eq!(lines.collect::<Vec<_>>(), contents.map(|line| format!("Files/{line}")));
    let circle = TestTar::new().dir("Files").link("Files/a", "Files/b").link("Files/b", "Files/a").tar();
    for parent in [None, Some(id("base"))] {
        let error = fixture.store.apply_diff(&id("circle"), parent.as_ref(), &mut &circle[..]).unwrap_err();
        let text = super::failures::whole(&error);
        assert!(text.contains("back to itself"), "{text}");
    }
}

#[test]
fn backslashes_separate_and_the_layers_own_directories_are_known_in_any_case() {
    let upper = TestTar::new()
        .dir("FILES")
        .dir(r"files\d")
        .file(r"files\d\x", b"new")
        .file(r"Files\d\.wh.sub", b"bytes that go nowhere")
        .file(r"Files\d\.wh.other", b"");
    assert_eq!(merged(base(), upper), ["Files/d/", "Files/d/x = new", "Files/f = f"]);
}

#[test]
fn a_directory_that_a_file_took_the_place_of_deletes_nothing_in_it_any_more() {
    let deleting = || {
        let upper = TestTar::new().dir("Files").dir("Files/d").whiteout("Files/D/x");
        upper.dir("Files/d/sub").file("Files/d/sub/.wh..wh..opq", b"")
    };
    let all = ["d/", "d/other/", "d/other/z = z", "d/sub/", "d/sub/y = y", "d/x = x", "f = f"]
        .map(|line| format!("Files/{line}"));
    assert_eq!(merged(base(), deleting().file("Files/d", b"file").dir("Files/d")), all);
    assert_eq!(merged(base(), deleting().link("Files/d", "Files/f").dir("Files/d")), all);
    // Entries after it count again, and so does an entry of the directory itself.
    let again = deleting().file("Files/d", b"file").dir("Files/d");
    let without = |gone: &[&str]| -> Vec<String> {
        all.iter().filter(|line| !gone.iter().any(|gone| line.contains(gone))).cloned().collect()
    };
    assert_eq!(merged(base(), again.whiteout("Files/d/sub")), without(&["d/sub"]));
    let opaque = TestTar::new().dir("Files").dir("Files/d").file("Files/d/.wh..wh..opq", b"");
    let opaque = opaque.file("Files/d", b"file").dir("Files/d");
    assert_eq!(merged(base(), opaque), without(&["d/x", "d/sub", "d/other"]));
}

/// A link does not reach a file that a layer in between has replaced.
#[test]
fn a_link_leads_to_nothing_that_a_layer_in_between_has_replaced() {
    let fixture = Fixture::new();
    let apply = |layer: &str, parent: Option<&str>, tar: TestTar| {
        fixture.store.apply_diff(&id(layer), parent.map(id).as_ref(), &mut &tar.tar()[..]).unwrap();
    };
    let old = TestTar::new().dir("Files").dir("Files/d").file("Files/d/f", b"old").file("Files/e", b"old");
    apply("base", None, old);
    apply("between", Some("base"), TestTar::new().dir("Files").file("Files/d", b"file").dir("Files/e"));
    let upper = TestTar::new().dir("Files").link("Files/l", "Files/d/f").link("Files/m", "Files/e");
    let upper = upper.dir("Files/d").file("Files/d/f", b"new").file("Files/e", b"new");
    apply("upper", Some("between"), upper);
    let files = files_of(&fixture, "upper");
    assert_eq!((&files["Files/l"], &files["Files/m"]), (&Some("new".into()), &Some("new".into())));
}

/// A name for the fake host, which distinguishes case and cannot hold long names.
fn plain(name: &str) -> String {
    if name.len() > 100 { "long".to_owned() } else { name.to_lowercase() }
}

/// Adds an entry for each directory, which the service needs, and leaves deletions out of a base layer.
fn with_directories(entries: Vec<Entry>, is_base: bool) -> Vec<Entry> {
    let mut all = Vec::new();
    for (path, op) in entries {
        let path: Vec<String> = path.iter().map(|name| plain(name)).collect();
        let is_opaque = matches!(op, Op::Opaque);
        if is_base && matches!(op, Op::Opaque | Op::Deletion) {
            continue;
        }
        all.extend((1..path.len() + usize::from(is_opaque)).map(|end| (path[..end].to_vec(), Op::Directory)));
        all.push((path, op));
    }
    all
}

fn write(entries: &[(String, Written)]) -> Vec<u8> {
    let write = |tar: TestTar, (path, entry): &(String, Written)| match entry {
        Written::File(content) => tar.file(path, content.as_bytes()),
        Written::Directory => tar.dir(path),
        Written::Link(target) => tar.link(path, &target.to_ascii_lowercase()),
        Written::Deletion => tar.whiteout(path),
        Written::Opaque => tar.file(format!("{path}/.wh..wh..opq"), b""),
    };
    entries.iter().fold(TestTar::new().dir("Files"), write).tar()
}

fn of_model(tree: &Tree, path: &str, lines: &mut BTreeMap<String, Option<String>>) {
    for Shown { spelling, what } in tree.values() {
        let path = format!("{path}/{spelling}");
        match what {
            What::File(content) => drop(lines.insert(path, Some(content.clone()))),
            What::Directory { names, .. } => {
                of_model(names, &path, lines);
                lines.insert(path, None);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_layers_that_are_written_are_those_of_the_model(layers in model::layers()) {
        let fixture = Fixture::new();
        let mut shown = Tree::new();
        let mut parent = None;
        for (number, entries) in layers.into_iter().enumerate() {
            let entries = with_directories(entries, parent.is_none());
            let written = model::apply(&mut shown, &entries, number);
            let name = format!("layer{number}");
            let applied = fixture.store.apply_diff(&id(&name), parent.as_ref(), &mut &write(&written)[..]);
            if let Err(error) = applied {
                panic!("{}: {written:#?}", super::failures::whole(&error));
            }
            let mut expected = BTreeMap::new();
            of_model(&shown, "Files", &mut expected);
            prop_assert_eq!(files_of(&fixture, &name), expected, "{:#?}", written);
            parent = Some(id(&name));
        }
    }
}
