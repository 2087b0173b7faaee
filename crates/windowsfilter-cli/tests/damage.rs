//! Damaged layers: they are refused, harm nobody else, and can be got rid of.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;

use common::{Store, layer};

/// Cuts a layer's record short.
fn damage(store: &Store, id: &str) {
    fs::write(store.layer_file(id, "layer.json"), r#"{"version": 1"#).unwrap();
}

#[test]
fn a_damaged_layer_hides_no_image_and_says_whose_it_is() {
    let store = Store::new();
    let top = store.import("a:1").pop().unwrap();
    store.import("b:1");
    damage(&store, &top);
    let output = store.run(&["image", "ls"]);
    let (listed, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with(&format!("note: image a:1: layer {top}: layer.json: ")), "{said}");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let images = store.json(&["image", "ls"]);
    assert!(images[0]["size"].is_null() && images[0]["problem"].as_str().unwrap().contains(&top), "{images}");
    assert!(images[1]["size"].is_u64() && images[1].get("problem").is_none(), "{images}");
}

#[test]
fn an_image_with_a_damaged_layer_is_removed_and_imported_again() {
    let store = Store::new();
    let a = store.import("a:1");
    damage(&store, &a[1]);
    let output = store.run(&["image", "rm", "a:1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "image a:1\n", "{said}");
    assert!(said.contains("layers that it may stand on (1) stay"), "{said}");
    store.text(&["layer", "rm", &a[1]]);
    assert_eq!(store.import("a:1"), a);
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn what_a_damaged_layer_may_stand_on_stays_until_it_is_gone() {
    let store = Store::new();
    let (a, b) = (store.import("a:1"), store.import("b:1"));
    damage(&store, &a[1]);
    store.text(&["image", "rm", "b:1"]);
    assert_eq!(store.images(), ["a:1"]);
    for prune in [&["prune", "--dry-run"][..], &["prune"]] {
        assert_eq!(store.text(prune), "nothing to remove\n");
    }
    let (code, said) = store.failure(&["layer", "rm", &b[1]]);
    assert!(code == 4 && said.contains("which may stand on it"), "{said}");
    assert!(said.contains(&format!("`windowsfilter layer rm {}` removes the damaged layer", a[1])), "{said}");
    store.text(&["image", "rm", "a:1"]);
    store.text(&["layer", "rm", &a[1]]);
    store.text(&["prune"]);
    assert_eq!(store.json(&["layer", "ls"]), serde_json::json!([]));
}

#[test]
fn what_certainly_does_not_carry_a_damaged_layer_is_removed() {
    let store = Store::new();
    store.apply("base");
    store.text(&["layer", "apply", "top", "base.tar", "--parent", "base"]);
    damage(&store, "base");
    // It stands on the damaged layer, so that does not stand on it.
    store.text(&["layer", "rm", "top"]);
    // Of two damaged layers each may stand on the other.
    store.apply("other");
    damage(&store, "other");
    store.text(&["layer", "rm", "base"]);
    store.text(&["layer", "rm", "other"]);
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

/// Sandboxes are Linux' alone here.
#[cfg(target_os = "linux")]
#[test]
fn a_sandbox_is_removed_whatever_is_damaged() {
    let store = Store::new();
    let a = store.import("a:1");
    store.import("b:1");
    store.text(&["create", "b:1", "--name", "box", "--size", "64MB"]);
    damage(&store, &a[0]);
    store.text(&["layer", "rm", "box"]);
}

#[test]
fn a_tar_that_is_not_the_one_that_came_in_is_not_given_out_as_it() {
    let store = Store::new();
    store.apply("base");
    let (path, out) = (store.layer_file("base", "layer.tar"), store.path("out"));
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[2000] ^= 1;
    for (bad, words) in [(&good[..50_000], "is 50000 bytes, expected"), (&flipped[..], "expected sha256:")] {
        fs::write(&path, bad).unwrap();
        fs::write(&out, "precious").unwrap();
        for args in [&["layer", "diff", "base"][..], &["layer", "diff", "base", "-o", out.to_str().unwrap()]]
        {
            let (code, said) = store.failure(args);
            assert_eq!(code, 5, "{args:?}: {said}");
            assert!(said.starts_with("error: layer base: layer.tar is ") && said.contains(words), "{said}");
        }
        assert_eq!(fs::read(&out).unwrap(), b"precious");
    }
    fs::write(&path, good).unwrap();
    store.text(&["layer", "diff", "base", "-o", out.to_str().unwrap()]);
    assert_eq!(fs::read(out).unwrap(), layer(&["file.txt"], &[7; 100_000]));
}

#[test]
fn a_copy_that_fails_leaves_what_had_its_name() {
    let store = Store::new();
    store.apply("base");
    let path = store.layer_file("base", "layer.tar");
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..50_000]).unwrap();
    fs::create_dir(store.path("out")).unwrap();
    fs::write(store.path("out/file.txt"), "precious").unwrap();
    let (code, said) = store.failure(&["cp", "base:file.txt", "out"]);
    assert_ne!(code, 0, "{said}");
    assert_eq!(fs::read(store.path("out/file.txt")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(store.path("out")).unwrap().count(), 1);
}

#[test]
fn a_file_that_a_layer_has_lost_is_damage_and_not_something_that_is_not_there() {
    for (file, args) in [("layer.erofs", &["ls", "base:/"][..]), ("layer.tar", &["layer", "diff", "base"])] {
        let store = Store::new();
        store.apply("base");
        fs::remove_file(store.layer_file("base", file)).unwrap();
        let (code, said) = store.failure(args);
        assert_eq!(code, 5, "{args:?}: {said}");
        assert!(said.contains(&format!("layer base: {file}: it is missing")), "{args:?}: {said}");
        assert!(said.contains("hint: `windowsfilter fsck`"), "{args:?}: {said}");
    }
}
