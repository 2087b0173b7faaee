//! The examples do what they say.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

#[cfg(target_os = "linux")]
#[path = "../examples/change.rs"]
mod change;
mod common;
#[path = "../examples/import.rs"]
mod import;
#[path = "../examples/scan.rs"]
mod scan;
#[path = "../../wclayer/examples/sddl.rs"]
mod sddl;

use std::path::PathBuf;

use common::{Layout, config, layer};
use windowsfilter::Digest;

const PROGRAM: &[u8] = b"MZ program";

/// A directory with an OCI layout `image` of one layer, and that layer's tar.
fn image() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let tar = layer(&[("Windows/tool.exe", PROGRAM), ("readme.txt", b"read me")]);
    let mut layout = Layout::default();
    let tars = [tar.clone()];
    let manifest = layout.image(&config("windows", "10.0.20348.1", &tars), &tars, |_| {});
    manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "base:1" });
    let path = dir.path().join("image");
    layout.write(&path);
    (dir, path, tar)
}

fn output(run: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    run(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn import_lists_what_windows_sees() {
    let (dir, image, _) = image();
    let text = output(|out| import::run(&dir.path().join("store"), &image, out).unwrap());
    assert_eq!(text, "           0 Windows\n           7 readme.txt\n");
}

#[test]
fn scan_prints_each_program_with_its_digest_and_layer() {
    let (dir, image, tar) = image();
    let text = output(|out| scan::run(&dir.path().join("store"), &image, out).unwrap());
    assert_eq!(text, format!("{} Windows/tool.exe {}\n", Digest::of(PROGRAM), Digest::of(&tar).hex()));
}

#[test]
fn sddl_prints_a_line_for_each_entry() {
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/backuptar");
    let text = output(|out| sddl::run(&vectors.join("base-layer/in.tar"), out).unwrap());
    assert!(text.lines().any(|line| line.starts_with("Files/") && line.contains(" O:")), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn change_adds_a_file_and_writes_an_archive() {
    let (dir, image, _) = image();
    let (store, archive) = (dir.path().join("store"), dir.path().join("changed.tar"));
    let text = output(|out| change::run(&store, &image, &archive, out).unwrap());
    assert!(text.starts_with("Add Files/new.txt\nlayer "), "{text}");
    let again = output(|out| import::run(&dir.path().join("other"), &archive, out).unwrap());
    assert!(again.contains("           7 new.txt\n"), "{again}");
}
