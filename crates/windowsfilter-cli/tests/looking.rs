//! What commands that look into images see: streams, the layers' own names, and names that are no text.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use common::Store;
use sample_images::SmallLayer;
use serde_json::{Value, json};
use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_REPARSE_POINT};
use wclayer::ea::ExtendedAttribute;
use wclayer::reparse::ReparsePoint;

/// A store with an image `a:1` of a rich layer and one that changes the other area.
fn store() -> Store {
    let store = Store::new();
    let dir = store.path("image");
    common::write_image(&dir, &[common::rich_layer(b"\xfe\xff"), common::layer(&["top"], b"x")]);
    store.text(&["image", "import", "image", "--ref", "a:1"]);
    store
}

#[test]
fn streams_are_read_where_files_are() {
    let store = store();
    for path in [
        r"a:1:C:\dir\file.txt:Zone.Identifier",
        "a:1:/DIR/file.txt:zone.identifier",
        "a:1:dir/file.txt:Zone.Identifier:$DATA",
        "a:1:C:dir/file.txt:Zone.Identifier:$data",
    ] {
        assert_eq!(store.text(&["cat", path]), "ZoneId=3\r\n", "{path}");
    }
    assert_eq!(store.run(&["cat", "a:1:/dir/file.txt:more"]).stdout, [7; 100_000]);
    assert_eq!(store.text(&["cat", "a:1:/dir:note"]), "of a directory");
    assert_eq!(store.text(&["cat", "a:1:/dir/file.txt::$DATA"]), "content");
    assert_eq!(store.text(&["ls", "a:1:/dir/file.txt:MORE"]), "file.txt:more\n");
    assert_eq!(store.json(&["ls", "a:1:/dir/file.txt:more"])[0]["size"], 100_000);
    let stat = store.json(&["stat", "a:1:/dir/file.txt:more"]);
    assert_eq!((&stat["type"], &stat["size"]), (&json!("stream"), &json!(100_000)));
    assert_eq!(stat["path"], "/dir/file.txt:more");
    store.text(&["cp", "a:1:/dir/file.txt:Zone.Identifier", "zone"]);
    store.text(&["cp", "a:1:/dir:note", "."]);
    assert_eq!(fs::read(store.path("zone")).unwrap(), b"ZoneId=3\r\n");
    assert_eq!(fs::read(store.path("dir:note")).unwrap(), b"of a directory");
}

#[test]
fn a_stream_that_is_not_there_is_not_found() {
    let store = store();
    let (code, said) = store.failure(&["cat", "a:1:/dir/file.txt:nosuch"]);
    assert_eq!(code, 3);
    let error = "error: /dir/file.txt in a:1 has no stream \"nosuch\"\n";
    assert_eq!(said, format!("{error}hint: it has Zone.Identifier, more\n"));
    let (code, said) = store.failure(&["cat", "a:1:/nosuch:x"]);
    assert!(code == 3 && said.contains("no /nosuch in a:1"), "{said}");
    let (code, said) = store.failure(&["cat", "a:1:/dir/file.txt:x:$EA"]);
    assert!(code == 2 && said.contains("$DATA"), "{said}");
}

#[test]
fn with_raw_paths_are_those_of_the_layers() {
    let store = store();
    assert_eq!(store.text(&["ls", "--raw", "a:1"]), "Files\nHives\n");
    assert_eq!(store.text(&["ls", "--raw", "a:1:hives"]), "Software_Delta\n");
    assert_eq!(store.text(&["cat", "--raw", "a:1:Hives/Software_Delta"]), "hive");
    assert_eq!(store.text(&["cat", "--raw", r"a:1:Files\top"]), "x");
    assert_eq!(store.text(&["cat", "--raw", "a:1:Files/dir/file.txt:Zone.Identifier"]), "ZoneId=3\r\n");
    assert_eq!(store.json(&["stat", "--raw", "a:1:files/DIR/file.txt"])["path"], "Files/dir/file.txt");
    assert_eq!(store.json(&["stat", "--raw", "a:1:Hives/Software_Delta"])["path"], "Hives/Software_Delta");
    store.text(&["cp", "-r", "--raw", "a:1:Hives", "."]);
    assert_eq!(fs::read(store.path("Hives/Software_Delta")).unwrap(), b"hive");
    store.text(&["cp", "-r", "--raw", "a:1:Files", "out"]);
    assert_eq!(fs::read(store.path("out/top")).unwrap(), b"x");
    for path in ["a:1:Hives", "a:1:UtilityVM/x"] {
        let (code, said) = store.failure(&["ls", path]);
        assert!(code == 3 && said.contains("hint: with --raw,"), "{said}");
    }
    let (code, said) = store.failure(&["ls", "--raw", "a:1:dir"]);
    assert!(code == 3 && !said.contains("--raw"), "{said}");
}

fn bytes(base64: &str) -> Value {
    json!({ "bytes": base64 })
}

#[test]
fn two_names_that_are_no_text_stay_two() {
    let store = store();
    let listed = store.json(&["ls", "a:1:/dir"]);
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, [&json!("file.txt"), &bytes("b2Rk/g=="), &bytes("b2Rk/w==")]);
    let top = store.json(&["image", "inspect", "a:1"])["layers"][0]["id"].as_str().unwrap().to_owned();
    let changes = store.json(&["layer", "changes", &top]);
    let paths: Vec<&Value> = changes.as_array().unwrap().iter().map(|change| &change["path"]).collect();
    assert!(paths.contains(&&bytes("L2Rpci9vZGT+")) && paths.contains(&&bytes("L2Rpci9vZGT/")), "{paths:?}");
    assert!(store.text(&["ls", "a:1:/dir"]).ends_with("odd\\xfe\nodd\\xff\n"));
}

/// A layer in which names of every sort come in pairs that differ in one byte, which is no text. Links lead
/// to halves of surrogate pairs: Windows' records of links have no other names that are no text.
fn layer_of_pairs() -> Vec<u8> {
    let layer = common::small_layer().extended().dir("Files").dir("Files/dir");
    let mut file = layer.entry("Files/file", FILE_ATTRIBUTE_ARCHIVE);
    let ea = |byte| ExtendedAttribute { flags: 0, name: vec![b'E', byte], value: b"x".into() };
    file.eas = vec![ea(0xfe), ea(0xff)];
    let layer = layer.put(file, b"").stream(b"s\xfe", b"\xfe").stream(b"s\xff", b"\xff");
    let pair = |layer: SmallLayer, byte: u8| {
        let named = |name: &[u8]| [b"Files/", name, &[byte]].concat();
        let mut link = layer.entry(named(b"dir/link"), FILE_ATTRIBUTE_REPARSE_POINT);
        let target = [&b"..\\to\xed\xa0"[..], &[byte - 0x7e]].concat();
        let reparse = ReparsePoint::Symlink { substitute: target.clone(), print: target, relative: true };
        link.reparse = Some(reparse.encode().unwrap());
        layer.file(named(b"odd"), &[byte]).put(link, b"")
    };
    [0xfe, 0xff].into_iter().fold(layer, pair).tar()
}

/// Runs a command with a place whose name ends with `byte`.
fn at(store: &Store, args: &[&str], place: &str, byte: u8) -> Vec<u8> {
    let mut command = store.command(args);
    let output = command.arg(OsStr::from_bytes(&[place.as_bytes(), &[byte]].concat())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn names_of_every_sort_that_differ_in_one_byte_stay_two() {
    let store = Store::new();
    fs::write(store.path("pairs.tar"), layer_of_pairs()).unwrap();
    store.text(&["layer", "apply", "pairs", "pairs.tar"]);
    let pair = |list: &Value, field: &str| {
        let odd: Vec<Value> = list.as_array().unwrap().iter().map(|of| of[field].clone()).collect();
        let odd: Vec<&Value> = odd.iter().filter(|name| name["bytes"].is_string()).collect();
        assert!(
            odd.len() >= 2 && odd.iter().all(|name| odd.iter().filter(|same| same == &name).count() == 1),
            "{field}: {list}"
        );
        odd.len()
    };
    assert_eq!(pair(&store.json(&["ls", "pairs:"]), "name"), 2);
    let links = store.json(&["ls", "pairs:dir"]);
    assert_eq!((pair(&links, "name"), pair(&links, "target")), (2, 2));
    assert_eq!(pair(&store.json(&["layer", "changes", "pairs"]), "path"), 4);
    let stat = store.json(&["stat", "pairs:file"]);
    assert_eq!((pair(&stat["streams"], "name"), pair(&stat["eas"], "name")), (2, 2));
    let stats = [0xfe, 0xff].map(|byte| {
        let stat = at(&store, &["--json", "stat"], "pairs:dir/link", byte);
        serde_json::from_slice::<Value>(&stat).unwrap()
    });
    assert_eq!((pair(&json!(stats), "path"), pair(&json!(stats), "target")), (2, 2));
    for byte in [0xfe, 0xff] {
        assert_eq!(at(&store, &["cat"], "pairs:/odd", byte), [byte]);
        assert_eq!(at(&store, &["cat"], "pairs:/file:s", byte), [byte]);
        let link =
            serde_json::from_slice::<Value>(&at(&store, &["--json", "ls"], "pairs:odd", byte)).unwrap();
        assert!(link[0]["name"]["bytes"].is_string(), "{link}");
    }
    let copied = store.json(&["cp", "-r", "pairs:dir", "out"]);
    assert_eq!(copied["skipped"].as_array().unwrap().len(), 2);
    assert_ne!(copied["skipped"][0], copied["skipped"][1]);
    let mounts = [0xfe, 0xff].map(|byte| {
        let dir = OsStr::from_bytes(&[b'm', byte]).to_owned();
        fs::create_dir(store.dir.path().join(&dir)).unwrap();
        let mounted = store.command(&["--json", "mount", "pairs", "--target"]).arg(&dir).output().unwrap();
        serde_json::from_slice::<Value>(&mounted.stdout).unwrap()
    });
    assert_eq!(pair(&json!(mounts), "path"), 2);
    let targets = &store.json(&["layer", "inspect", "pairs"])["targets"];
    assert!(targets[0]["bytes"].is_string() && targets[0] != targets[1], "{targets}");
    store.text(&["umount", "pairs"]);
    store.text(&["umount", "pairs"]);
}

#[test]
fn a_home_of_dockers_with_names_that_are_no_text_is_one_document() {
    let store = Store::new();
    let home = store.path("docker/windowsfilter");
    fs::create_dir_all(home.join("a".repeat(64)).join("Files")).unwrap();
    for name in [&b"\xffx"[..], b"\xfex"] {
        fs::create_dir(home.join(OsStr::from_bytes(name))).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
    let output =
        command.args(["--json", "docker-store", "docker"]).current_dir(store.dir.path()).output().unwrap();
    assert!(output.status.success());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = document["problems"].as_array().unwrap();
    let odd = problems.iter().filter(|problem| problem["path"]["bytes"].is_string()).count();
    assert_eq!(odd, 2, "{problems:?}");
    assert_ne!(problems[0]["path"], problems[1]["path"]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains('\u{fffd}'));
}

#[test]
fn a_store_may_be_at_a_path_that_is_no_text() {
    let store = Store::new();
    let root = store.dir.path().join(OsStr::from_bytes(b"st\xffre"));
    fs::write(store.path("layer.tar"), common::layer(&["file"], b"x")).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
        let output =
            command.arg("--root").arg(&root).args(args).current_dir(store.dir.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run(&["layer", "apply", "base", "layer.tar"]);
    assert_eq!(run(&["cat", "base:file"]), b"x");
    assert_eq!(run(&["fsck"]), b"no problems\n");
    let out = store.dir.path().join(OsStr::from_bytes(b"o\xff"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
    command.arg("--root").arg(&root).args(["--json", "layer", "diff", "base", "-o"]).arg(&out);
    let written: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert!(written["path"]["bytes"].is_string() && out.is_file(), "{written}");
}
