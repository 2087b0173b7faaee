//! A small layer through the commands that need no root: apply, look, copy, diff, verify, remove.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use sample_images::SmallLayer;
use serde_json::Value;
use wclayer::filetime::FileTime;

const SDDL: &str =
    r#"O:BAG:BAD:(A;;FA;;;SY)(XA;;FX;;;WD;(@USER.Title == "PM"))S:(RA;;;;;WD;("Secrecy",TU,0x0,3))"#;

/// A store in a directory of its own.
struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    /// With layers `base` and, on it, `app`.
    fn with_layers() -> Self {
        let store = Self { dir: tempfile::tempdir().unwrap() };
        let (base, app) = (store.path("base.tar"), store.path("app.tar"));
        fs::write(&base, base_layer()).unwrap();
        fs::write(&app, app_layer()).unwrap();
        store.json(&["layer", "apply", "base", base.to_str().unwrap()]);
        store.json(&["layer", "apply", "app", "--parent", "base", app.to_str().unwrap()]);
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
        command.arg("--root").arg(self.path("store")).args(args).output().unwrap()
    }

    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let args = [&["--json"], args].concat();
        serde_json::from_str(&self.text(&args)).unwrap()
    }

    fn failure(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

/// 2020-09-01 22:40, and one tick of 100 ns.
const TIME: FileTime = FileTime(132_434_736_000_000_001);

fn base_layer() -> Vec<u8> {
    SmallLayer::new()
        .at(TIME)
        .with_sddl(SDDL)
        .dir("Files")
        .dir("Files/Users")
        .dir("Files/Windows")
        .file("Files/Windows/Notes.txt", b"from the base\n")
        .file("Files/Windows/old.txt", b"old\n")
        .symlink("Files/Users/up", r"..\Windows\Notes.txt")
        .symlink("Files/Windows/beside", "Notes.txt")
        .tar()
}

fn app_layer() -> Vec<u8> {
    SmallLayer::new()
        .at(TIME)
        .with_sddl(SDDL)
        .dir("Files")
        .dir("Files/Windows")
        .file("Files/Windows/app.txt", b"from the app\n")
        .whiteout("Files/Windows/old.txt")
        .tar()
}

#[test]
fn a_view_is_listed_read_and_described_in_any_spelling_of_a_path() {
    let store = Store::with_layers();
    assert_eq!(store.text(&["ls", r"app:C:\WINDOWS"]), "Notes.txt\napp.txt\nbeside\n");
    assert_eq!(store.text(&["cat", "app:/windows/notes.TXT"]), "from the base\n");
    assert_eq!(store.text(&["cat", r"app:users\up"]), "from the base\n");
    let stat = store.json(&["stat", r"app:C:\windows\notes.txt"]);
    assert_eq!(stat["path"], "/Windows/Notes.txt");
    assert_eq!(stat["type"], "file");
    assert_eq!(stat["size"], 14);
    assert_eq!(stat["attributes"], serde_json::json!(["archive"]));
    assert_eq!(stat["times"]["modified"], "2020-09-01T22:40:00.0000001Z");
    assert_eq!(stat["sddl"], SDDL);
    assert_eq!(stat["layer"], "base");
    let stat = store.json(&["stat", "app:Windows/beside"]);
    assert_eq!((&stat["type"], &stat["target"]), (&Value::from("symlink"), &Value::from("Notes.txt")));
}

#[test]
fn a_long_listing_has_a_line_for_each_entry_with_its_attributes() {
    let store = Store::with_layers();
    let expected = "\
MODE    SIZE  MODIFIED          NAME
-a----    14  2020-09-01 22:40  Notes.txt
-a----    13  2020-09-01 22:40  app.txt
-----l     -  2020-09-01 22:40  beside -> Notes.txt
";
    assert_eq!(store.text(&["ls", "-l", "app:Windows"]), expected);
}

#[test]
fn a_layers_tar_comes_out_as_it_went_in() {
    let store = Store::with_layers();
    let out = store.path("out.tar");
    store.text(&["layer", "diff", "app", "-o", out.to_str().unwrap()]);
    assert_eq!(fs::read(&out).unwrap(), app_layer());
    assert_eq!(store.run(&["layer", "diff", "base"]).stdout, base_layer());
    assert!(store.text(&["layer", "verify", "app"]).starts_with("layer app is intact: sha256:"));
    let inspected = store.json(&["layer", "inspect", "app"]);
    assert_eq!(inspected["parents"], serde_json::json!(["base"]));
    assert_eq!(inspected["kind"], "layer");
    assert_eq!(inspected["mounted"], Value::Null);
}

#[test]
fn changes_are_listed_by_path() {
    let store = Store::with_layers();
    let changes = store.text(&["layer", "changes", "app"]);
    assert!(changes.contains("A /Windows/app.txt\n"), "{changes}");
    assert!(changes.contains("D /Windows/old.txt\n"), "{changes}");
    let first = store.json(&["layer", "changes", "app"])[0].clone();
    assert!(first["kind"].is_string() && first["path"].is_string(), "{first}");
}

// On Windows no links are made, and a copy that would need some says so.
#[cfg(unix)]
#[test]
fn a_copy_stays_inside_its_destination() {
    let store = Store::with_layers();
    let out = store.path("out");
    fs::create_dir(&out).unwrap();
    let copied = store.json(&["cp", "-r", "app:Windows", out.to_str().unwrap()]);
    assert_eq!((&copied["files"], &copied["links"]), (&Value::from(2), &Value::from(1)));
    assert_eq!(fs::read_to_string(out.join("Windows/Notes.txt")).unwrap(), "from the base\n");
    assert_eq!(fs::read_link(out.join("Windows/beside")).unwrap(), PathBuf::from("Notes.txt"));
    // `Users/up` leads out of `Users`, which is all that is copied.
    let copied = store.json(&["cp", "-r", "app:Users", out.to_str().unwrap()]);
    assert_eq!(copied["skipped"].as_array().unwrap().len(), 1);
    assert!(fs::symlink_metadata(out.join("Users/up")).is_err());
    let (code, message) = store.failure(&["cp", "app:Windows", out.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(message.contains("hint: `cp -r` copies directories"), "{message}");
}

#[test]
fn a_listing_has_each_layer_after_its_parents() {
    let store = Store::with_layers();
    let ids: Vec<Value> =
        store.json(&["layer", "ls"]).as_array().unwrap().iter().map(|l| l["id"].clone()).collect();
    assert_eq!(ids, ["base", "app"]);
}

#[test]
fn a_layer_that_others_stand_on_stays() {
    let store = Store::with_layers();
    let (code, message) = store.failure(&["layer", "rm", "base"]);
    assert_eq!(code, 4);
    assert!(message.contains("error: cannot remove layer base: 1 stands on it: app"), "{message}");
    assert!(message.contains("hint: remove app first"), "{message}");
    store.text(&["layer", "rm", "app"]);
    store.text(&["layer", "rm", "base"]);
    assert_eq!(store.json(&["layer", "ls"]), serde_json::json!([]));
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn everything_is_verified_and_all_that_does_not_verify_is_named() {
    let store = Store::with_layers();
    let said = store.text(&["layer", "verify", "--all"]);
    assert!(said.starts_with("everything is intact: 2 layers and sandboxes, "), "{said}");
    let verified = store.json(&["layer", "verify", "--all", "--jobs", "1"]);
    assert_eq!((&verified["layers"], &verified["findings"]), (&2.into(), &serde_json::json!([])));
    for layer in ["app", "base"] {
        let path = store.path("store/layers").join(layer).join("layer.tar");
        let mut tar = fs::read(&path).unwrap();
        tar[700] ^= 4;
        fs::write(path, tar).unwrap();
    }
    let output = store.run(&["layer", "verify", "--all"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let begins: Vec<&str> = lines.lines().map(|line| line.split(" is ").next().unwrap()).collect();
    assert_eq!(begins, ["layer app: tar-digest: layer.tar", "layer base: tar-digest: layer.tar"]);
    assert_eq!(output.status.code(), Some(5));
    let output = store.run(&["--json", "layer", "verify", "--all"]);
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verified["findings"][1]["invariant"], "tar-digest");
    assert_eq!((&verified["findings"][1]["id"], output.status.code()), (&"base".into(), Some(5)));
}

#[test]
fn what_fsck_finds_has_a_name_and_what_it_repairs_is_said() {
    let store = Store::with_layers();
    fs::write(store.path("store/layers/base/layer.erofs"), "rotten").unwrap();
    fs::write(store.path("store/layers/notes.txt"), "mine").unwrap();
    let output = store.run(&["fsck"]);
    assert_eq!(output.status.code(), Some(5));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.contains("\nlayer base: index-digest: layer.erofs is sha256:"), "{lines}");
    assert!(lines.starts_with("store: only-layers: "), "{lines}");
    let output = store.run(&["--json", "fsck", "--repair"]);
    assert_eq!(output.status.code(), Some(5));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found[0]["invariant"], &found[0]["repaired"]), (&"only-layers".into(), &false.into()));
    assert_eq!((&found[1]["invariant"], &found[1]["repaired"]), (&"index-digest".into(), &true.into()));
    fs::remove_file(store.path("store/layers/notes.txt")).unwrap();
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn the_bytes_of_a_removed_layer_go_without_anybody_waiting() {
    let store = Store::with_layers();
    store.text(&["layer", "rm", "app"]);
    assert_eq!(store.text(&["fsck"]), "no problems\n");
    let doomed = store.path("store/layers/app-removing");
    // Whoever deletes it holds its lock until it is done; if it is done already, there is nothing to lock.
    if let Ok(directory) = fs::File::open(&doomed) {
        directory.lock().unwrap();
    }
    assert!(!doomed.exists());
}

#[test]
fn only_removed_layers_are_reclaimed() {
    let store = Store::with_layers();
    let (code, message) = store.failure(&["reclaim", store.path("store/layers/app").to_str().unwrap()]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("its name does not end in -removing"), "{message}");
    store.text(&["layer", "verify", "app"]);
}

#[test]
fn damage_ends_with_5_and_says_where() {
    let store = Store::with_layers();
    let tar = store.path("store/layers/app/layer.tar");
    let mut bytes = fs::read(&tar).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let damaged = |words: &str| {
        let (code, message) = store.failure(&["layer", "verify", "app"]);
        assert_eq!(code, 5, "{message}");
        assert!(message.starts_with("error: ") && message.contains("app"), "{message}");
        assert!(message.contains(words), "{message}");
    };
    damaged("expected sha256:");
    fs::remove_file(&tar).unwrap();
    damaged("layer.tar: it is missing");
}

#[test]
fn damaged_records_and_absent_layers_have_exit_codes_of_their_own() {
    let store = Store::with_layers();
    let (code, message) = store.failure(&["layer", "inspect", "none-of-these"]);
    assert_eq!(code, 3, "{message}");
    for file in ["layer.json", "layerchain.json"] {
        let path = store.path("store/layers/app").join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, "{}").unwrap();
        for args in [["layer", "inspect", "app"], ["layer", "verify", "app"], ["ls", "app:/", "-l"]] {
            let (code, message) = store.failure(&args);
            assert_eq!(code, 5, "{args:?}: {message}");
            assert!(message.contains(&format!("layer app: {file}: ")), "{args:?}: {message}");
        }
        fs::write(&path, good).unwrap();
    }
    store.text(&["layer", "verify", "app"]);
}

#[test]
fn near_misses_get_a_suggestion() {
    let store = Store::with_layers();
    let (code, message) = store.failure(&["layer", "inspect", "bsae"]);
    assert_eq!((code, message.contains("hint: did you mean \"base\"?")), (3, true), "{message}");
    let (code, message) = store.failure(&["stat", "app:/Windows/none.txt"]);
    assert_eq!((code, message.as_str()), (3, "error: no /Windows/none.txt in app\n"));
}
