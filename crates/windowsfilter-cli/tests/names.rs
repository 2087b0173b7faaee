//! What a name means when several things have it. Needs root, to mount.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;

use common::Store;

fn mounted(store: &Store) -> Vec<String> {
    let layers = store.json(&["layer", "ls"]);
    let mounted = layers.as_array().unwrap().iter().filter(|layer| !layer["mounted"].is_null());
    mounted.map(|layer| layer["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_mount_says_what_it_mounted() {
    let store = Store::new();
    let top = store.import("a:1").pop().unwrap();
    let said = store.json(&["mount", "a:1"]);
    assert_eq!(said["id"], top.as_str());
    assert!(fs::read(format!("{}/top", said["path"].as_str().unwrap())).unwrap().starts_with(b"top of"));
    store.text(&["umount", "a:1"]);
}

#[test]
fn an_image_that_gets_the_name_of_what_is_mounted_is_not_unmounted_for_it() {
    let store = Store::new();
    store.import("a:1");
    store.apply("abcdef");
    store.text(&["create", "abcdef", "--name", "box", "--size", "64MB"]);
    for name in ["box", "abcd"] {
        store.text(&["mount", name]);
        store.text(&["image", "tag", "a:1", name]);
        store.text(&["umount", name]);
        assert_eq!(mounted(&store), [""; 0]);
        let (code, said) = store.failure(&["umount", name]);
        assert!(code == 1 && said.contains("is not mounted"), "{said}");
    }
    // With both mounted, the ID is the first to be meant.
    let image = store.json(&["mount", "box"])["id"].as_str().unwrap().to_owned();
    store.text(&["image", "rm", "box"]);
    store.text(&["mount", "box"]);
    store.text(&["image", "tag", "a:1", "box"]);
    store.text(&["umount", "box"]);
    assert_eq!(mounted(&store), [image]);
    store.text(&["umount", "box"]);
    assert_eq!(mounted(&store), [""; 0]);
}

#[test]
fn nothing_else_is_unmounted_because_its_id_begins_with_the_name() {
    let store = Store::new();
    store.apply("base");
    for name in ["build", "build2"] {
        store.text(&["create", "base", "--name", name, "--size", "64MB"]);
    }
    store.text(&["mount", "build2"]);
    let (code, said) = store.failure(&["umount", "build"]);
    assert!(code == 1 && said.contains("layer build is not mounted"), "{said}");
    let (code, said) = store.failure(&["umount", "buil"]);
    assert_eq!(code, 2, "{said}");
    assert_eq!(mounted(&store), ["build2"]);
    store.text(&["umount", "build2"]);
}

#[test]
fn an_image_id_of_several_names_removes_none_of_them() {
    let store = Store::new();
    store.import("a:1");
    store.text(&["image", "tag", "a:1", "b:1"]);
    let id = store.json(&["image", "inspect", "a:1"])["image_id"].as_str().unwrap().to_owned();
    let prefix = &id["sha256:".len()..][..8];
    for name in [prefix, &id] {
        let (code, said) = store.failure(&["image", "rm", name]);
        assert!(code == 2 && said.contains("has several names: a:1, b:1; say which"), "{said}");
    }
    assert_eq!(store.images(), ["a:1", "b:1"]);
    assert_eq!(store.text(&["image", "rm", "a:1"]), "image a:1\n");
    let said = store.text(&["image", "rm", prefix]);
    assert!(said.starts_with("image b:1\nlayer ") && said.lines().count() == 3, "{said}");
}

#[test]
fn a_sandbox_is_not_read_as_if_nothing_had_changed_in_it() {
    let store = Store::new();
    store.apply("base");
    store.text(&["create", "base", "--name", "box", "--size", "64MB"]);
    for args in
        [&["ls", "box:/"][..], &["stat", "box:/"], &["cat", "box:file.txt"], &["cp", "box:file.txt", "x"]]
    {
        let (code, said) = store.failure(args);
        assert_eq!(code, 1, "{args:?}: {said}");
        let error = "error: cannot read in box: it is a sandbox, whose changes are visible only while it is mounted\n";
        let hint = "hint: `windowsfilter mount box` mounts it, or read the layer below it: base\n";
        assert_eq!(said, format!("{error}{hint}"), "{args:?}");
    }
}

#[test]
fn a_mount_point_that_is_not_there_is_not_found() {
    let store = Store::new();
    store.apply("base");
    let (code, said) = store.failure(&["mount", "base", "--target", "nowhere"]);
    assert_eq!((code, said.lines().next()), (3, Some("error: cannot find mount point nowhere")), "{said}");
    assert_eq!(mounted(&store), [""; 0]);
}
