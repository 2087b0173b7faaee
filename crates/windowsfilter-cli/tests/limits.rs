//! Bombs, with little memory: each ends in an error that says which option raises the limit, and leaves
//! nothing.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Kilobytes of address space that the command gets: threads and libraries take most of it, so what a bomb
/// may take is some hundred MiB.
const ADDRESS_SPACE: &str = "1000000";

/// Runs the command with `input`, which it need not read to the end.
fn run(root: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let script = format!("ulimit -v {ADDRESS_SPACE}; exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_windowsfilter"), "--root"])
        .arg(root)
        .args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

/// Its error output, once it has failed and left nothing behind.
fn refused(root: &Path, arguments: &[&str], input: &[u8]) -> String {
    let out = run(root, arguments, input);
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{text}");
    for dir in ["layers", "tmp"] {
        assert_eq!(fs::read_dir(root.join(dir)).unwrap().count(), 0, "something is left in {dir}");
    }
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// 8 GiB of zeros behind a layer, in gzip members of a few kilobytes.
fn bomb() -> Vec<u8> {
    let layer = common::layer(&["a"], b"x");
    [gzip(&layer), gzip(&vec![0; 16 << 20]).repeat(512)].concat()
}

#[test]
fn a_bomb_that_is_a_layer_stops_at_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let text = refused(dir.path(), &["layer", "apply", "l", "--max-size", "64MB"], &bomb());
    for words in ["layer l", "\"Files/a\"", "limit max-size", "hint: ", "--max-size none"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_bomb_that_is_an_archive_stops_at_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let text = refused(dir.path(), &["image", "import", "-", "--max-size", "64MB"], &bomb());
    for words in ["cannot import ", "limit max-size", "hint: ", "--max-size none"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// A tar of empty files of these names.
fn tar(names: &[&str]) -> Vec<u8> {
    let mut tar = wclayer::tar::Writer::new(Vec::new());
    for name in names {
        tar.begin(&wclayer::tar::NewEntry { name: name.as_bytes(), ..Default::default() }).unwrap();
    }
    tar.finish().unwrap()
}

#[test]
fn what_is_no_layer_is_refused_with_a_guess_and_taken_by_force() {
    let dir = tempfile::tempdir().unwrap();
    for (names, guess, advice) in [
        (&["./", "./etc/passwd", "./usr/bin/sh"][..], "is this a Linux image?", "Windows cannot run it"),
        (&["oci-layout", "blobs/sha256/00"], "is this an image archive?", "`windowsfilter image import`"),
        (&["0123/layer.tar", "manifest.json"], "is this an image archive?", "`windowsfilter image import`"),
        (
            &["app/x.exe"],
            "its one entry is not in Files, Hives or UtilityVM: app/x.exe; is this a plain tar",
            "below Files/",
        ),
    ] {
        let text = refused(dir.path(), &["layer", "apply", "l"], &tar(names));
        assert!(text.contains(guess) && text.contains(advice) && text.contains("--force"), "{text}");
    }
    // What Windows' own tools write for a layer without changes, and no entries at all.
    for (id, names) in
        [("empty", &[][..]), ("top", &["./"]), ("case", &["files/x", "other"]), ("hives", &["Hives/.wh.x"])]
    {
        assert!(run(dir.path(), &["layer", "apply", id], &tar(names)).status.success(), "{id}");
    }
    let out = run(dir.path(), &["layer", "apply", "l", "--force"], &tar(&["etc/passwd"]));
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success() && text.contains("1 entry outside Files, Hives and UtilityVM"), "{text}");
}

#[test]
fn limits_are_raised_and_lifted_by_their_options() {
    let dir = tempfile::tempdir().unwrap();
    let layer = common::layer(&["a", "b"], b"x");
    let text = refused(dir.path(), &["layer", "apply", "l", "--max-entries", "2"], &layer);
    assert!(text.contains("more than 2 entries") && text.contains("--max-entries"), "{text}");
    for number in ["3", "none"] {
        let out =
            run(dir.path(), &["layer", "apply", &format!("l{number}"), "--max-entries", number], &layer);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}
