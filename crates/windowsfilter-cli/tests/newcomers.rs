//! What newcomers type, and what they are told. Needs root, to mount.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use common::Store;
use windowsfilter::MountState;
use windowsfilter::support::sealed;

fn first(said: &str) -> &str {
    said.lines().next().unwrap()
}

/// A store with an image, a layer of its own, and a sandbox on the image.
fn store() -> Store {
    let store = Store::new();
    store.import("a:1");
    store.apply("base");
    store.text(&["create", "a:1", "--name", "box", "--size", "64MB"]);
    store
}

/// Every command that has nothing to do where no store is.
const READING: [&[&str]; 17] = [
    &["image", "ls"],
    &["image", "inspect", "x"],
    &["image", "rm", "x"],
    &["image", "export", "x", "out"],
    &["layer", "ls"],
    &["layer", "inspect", "x"],
    &["layer", "diff", "x", "-o", "out"],
    &["create", "x"],
    &["mount", "x"],
    &["umount", "x"],
    &["commit", "x", "--ref", "y"],
    &["ls", "x"],
    &["cat", "x:y"],
    &["fsck"],
    &["fsck", "--repair"],
    &["cleanup"],
    &["prune"],
];

#[test]
fn what_only_reads_makes_no_store() {
    let store = Store::new();
    let root = store.path("store");
    for args in READING {
        let (code, said) = store.failure(args);
        assert_eq!(
            (code, first(&said)),
            (3, format!("error: no store at {}", root.display()).as_str()),
            "{args:?}"
        );
        assert!(said.contains("hint: --root or WINDOWSFILTER_ROOT name a store"), "{said}");
    }
    // Nor does a directory with other things in it become one.
    fs::create_dir(&root).unwrap();
    fs::write(root.join("x"), b"x").unwrap();
    for args in READING {
        assert_eq!(store.failure(args).0, 3, "{args:?}");
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    assert_eq!(fs::read_dir(store.dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_no_store() {
    let store = Store::new();
    fs::write(store.path("store"), b"x").unwrap();
    fs::write(store.path("layer.tar"), common::layer(&["a"], b"x")).unwrap();
    for args in READING.into_iter().chain([&["layer", "apply", "base", "layer.tar"][..]]) {
        let (code, said) = store.failure(args);
        let expected = format!("error: {} is a file, not a store", store.path("store").display());
        assert_eq!((code, first(&said)), (2, expected.as_str()), "{args:?}");
    }
}

#[test]
fn another_users_store_is_said_to_be_that() {
    let store = store();
    // What leads to it is open, and it is not.
    let open = ["a+rx", store.dir.path().to_str().unwrap()];
    assert!(Command::new("chmod").args(open).status().unwrap().success());
    fs::copy(env!("CARGO_BIN_EXE_windowsfilter"), store.path("windowsfilter")).unwrap();
    fs::write(store.path("layer.tar"), common::layer(&["a"], b"x")).unwrap();
    let run = |args: &[&str]| -> Output {
        let mut command = Command::new(store.path("windowsfilter"));
        command.arg("--root").arg(store.path("store")).args(args).current_dir(store.dir.path());
        command.uid(65_534).gid(65_534).output().unwrap()
    };
    for args in READING.into_iter().chain([&["layer", "apply", "new", "layer.tar"][..]]) {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        let root = store.path("store");
        let expected =
            format!("error: cannot read the store {}: it is for its owner (root) only", root.display());
        assert_eq!((output.status.code(), first(&said)), (Some(1), expected.as_str()), "{args:?}");
        assert!(said.contains("hint: run as its owner"), "{said}");
    }
}

#[test]
fn a_variable_is_not_shown_as_if_it_had_been_typed() {
    let store = store();
    let usage = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
        command.args(args).env("WINDOWSFILTER_ROOT", store.path("store")).env("SOURCE_DATE_EPOCH", "5");
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = usage(&["commit"]);
    assert!(code == Some(2) && said.contains("\nUsage: windowsfilter commit --ref <REF> <ID>\n"), "{said}");
    let (code, said) = usage(&["image", "export"]);
    assert!(code == Some(2) && said.contains("\nUsage: windowsfilter image export <REF> <PATH>\n"), "{said}");
    // But they count.
    assert_eq!(usage(&["layer", "ls", "-q"]).0, Some(0));
    assert_eq!(usage(&["--json", "commit", "box", "--ref", "b:1"]).0, Some(0));
    assert_eq!(store.json(&["image", "inspect", "b:1"])["created"], "1970-01-01T00:00:05Z");
    let mut command = store.command(&["commit", "box", "--ref", "c:1"]);
    let output = command.env("SOURCE_DATE_EPOCH", "yesterday").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_mount_is_undone_by_its_path() {
    let store = store();
    let places = ["one", "two", "mnt"].map(|name| store.path(name));
    places.iter().for_each(|place| fs::create_dir(place).unwrap());
    for place in ["one", "two", "mnt"] {
        store.text(&["mount", "box", "--target", place]);
    }
    let shows = |place: &Path| place.join("base").exists();
    // Not the last, but this one; relative, absolute, and with a slash at its end.
    store.text(&["umount", "one"]);
    assert_eq!(places.each_ref().map(|place| shows(place)), [false, true, true]);
    store.text(&["umount", &format!("{}/", places[2].display())]);
    assert_eq!(places.each_ref().map(|place| shows(place)), [false, true, false]);
    let said = store.json(&["umount", places[1].to_str().unwrap()]);
    assert_eq!((&said["id"], &said["mounted"]), (&"box".into(), &0.into()));
    // The place in the store will do, too.
    let view = store.text(&["mount", "a:1"]);
    store.text(&["umount", view.trim_end()]);
    let (code, said) = store.failure(&["umount", "one"]);
    assert_eq!(code, 3);
    assert!(first(&said).starts_with("error: nothing of this store is mounted at /"), "{said}");
    let table = String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned();
    assert!(!table.contains(store.dir.path().to_str().unwrap()));
}

#[test]
fn one_place_shows_one_mount() {
    let store = store();
    fs::create_dir(store.path("mnt")).unwrap();
    store.text(&["mount", "box", "--target", "mnt"]);
    for other in ["box", "a:1"] {
        let (code, said) = store.failure(&["mount", other, "--target", "mnt"]);
        assert!(code == 4 && first(&said).ends_with("/mnt: box is mounted there"), "{said}");
    }
    assert_eq!(store.json(&["layer", "inspect", "box"])["mounts"], 1);
    store.text(&["mount", "box"]);
    let said = store.text(&["layer", "inspect", "box"]);
    assert!(said.contains("mounted:  2 times, at ") && said.contains("targets:  "), "{said}");
    store.text(&["umount", "box"]);
    store.text(&["umount", "box"]);
    assert!(!store.path("mnt/base").exists());
}

#[test]
fn a_busy_mount_of_before_is_said_to_be_one() {
    let store = store();
    let view = store.text(&["mount", "box"]);
    let holder = fs::File::open(Path::new(view.trim_end()).join("base")).unwrap();
    // As after a crash of whoever mounted it.
    fs::remove_file(store.path("store/mounts/box/state.json")).unwrap();
    let (code, said) = store.failure(&["mount", "box"]);
    assert_eq!(code, 4);
    assert!(
        first(&said).starts_with("error: cannot mount box: an earlier mount of it is still there: /"),
        "{said}"
    );
    drop(holder);
    store.text(&["cleanup"]);
}

/// The record of a mount as another boot would have written it.
fn of_another_boot(record: &[u8]) -> Vec<u8> {
    let envelope: serde_json::Value = serde_json::from_slice(record).unwrap();
    let version = u32::try_from(envelope["version"].as_u64().unwrap()).unwrap();
    let mut state = serde_json::to_value(sealed::unseal::<MountState>(version, record).unwrap()).unwrap();
    state["boot"] = "another".into();
    let state: MountState = serde_json::from_value(state).unwrap();
    sealed::seal(version, &state).unwrap()
}

#[test]
fn a_reboot_is_told_from_a_crash() {
    let store = store();
    store.text(&["mount", "box"]);
    // As it is after the machine has stopped: a record of another boot, and nothing mounted.
    let record = fs::read(store.path("store/mounts/box/state.json")).unwrap();
    store.text(&["umount", "box"]);
    fs::create_dir(store.path("store/mounts/box")).unwrap();
    fs::write(store.path("store/mounts/box/state.json"), of_another_boot(&record)).unwrap();
    let output = store.run(&["fsck"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("box was mounted when the machine stopped; `windowsfilter cleanup` forgets it"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(5));
    store.text(&["cleanup"]);
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn of_a_damaged_sandbox_fsck_says_a_few_lines_and_how_to_see_the_rest() {
    let store = store();
    let view = store.text(&["mount", "box"]);
    for number in 0..200 {
        fs::write(Path::new(view.trim_end()).join(number.to_string()), b"x").unwrap();
    }
    store.text(&["umount", "box"]);
    let path = store.layer_file("box", "sandbox.img");
    let mut image = fs::read(&path).unwrap();
    // Wherever something is behind the superblock and the group descriptors: inodes, among others.
    for block in image.chunks_mut(4096).skip(64).take(600).filter(|block| block.iter().any(|&byte| byte != 0))
    {
        block[8..72].fill(0xa5);
    }
    fs::write(&path, image).unwrap();
    let output = store.run(&["fsck"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(said.lines().count() <= 6, "{said}");
    let rest = format!(" more lines: `e2fsck -f -n {}` shows all\n", path.canonicalize().unwrap().display());
    assert!(said.ends_with(&rest), "{said}");
}

#[test]
fn refusals_say_what_was_meant() {
    let store = store();
    let top = store.json(&["image", "inspect", "a:1"])["layers"][1]["id"].as_str().unwrap().to_owned();
    let short = &top[..12];
    for (args, code, error) in [
        (&["create", "a:1", "--name", "box"][..], 1, "a sandbox box exists already"),
        (&["commit", "base", "--ref", "b:1"], 1, "base is a layer, not a sandbox"),
        (&["commit", "a:1", "--ref", "b:1"], 1, "a:1 is an image, not a sandbox"),
        (
            &["layer", "expand", "box", "32MB"],
            1,
            "box holds 64.0 MiB; a sandbox cannot shrink (asked: 32.0 MiB)",
        ),
        (&["layer", "verify"], 2, "name a layer, or --all"),
        (&["image", "inspect", "box"], 3, "box is not an image but a sandbox"),
        (&["image", "rm", "base"], 3, "base is not an image but a layer"),
        (&["image", "tag", "box", "b:1"], 3, "box is not an image but a sandbox"),
        (&["image", "export", "box", "out"], 3, "box is not an image but a sandbox"),
        (&["layer", "rm", "a:1"], 4, &format!("cannot remove layer {top}: it is the top of a:1")),
    ] {
        let (actual, said) = store.failure(args);
        assert_eq!((actual, first(&said)), (code, format!("error: {error}").as_str()), "{args:?}");
    }
    for name in ["A", "B", "C", "D", "E"] {
        store.text(&["create", "base", "--name", name, "--size", "64MB"]);
    }
    let (code, said) = store.failure(&["layer", "rm", "base"]);
    assert_eq!((code, first(&said)), (4, "error: cannot remove layer base: 5 stand on it: A, B, C, D, …"));
    store.text(&["image", "rm", "a:1"]);
    let (code, said) = store.failure(&["layer", "rm", &top]);
    assert_eq!(
        (code, first(&said)),
        (4, format!("error: cannot remove layer {short}: 1 stands on it: box").as_str())
    );
}

#[test]
fn a_sandbox_whose_image_is_gone_is_committed_with_a_warning_that_says_what_is_missing() {
    let store = Store::new();
    let top = store.import("a:1").pop().unwrap();
    store.text(&["create", &top, "--name", "box", "--size", "64MB"]);
    store.text(&["image", "rm", "a:1"]);
    let output = store.run(&["commit", "box", "--ref", "b:1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success());
    assert_eq!(
        first(&said),
        "warning: no image to take the config from: b:1 has no Cmd, Env or OS version, and Windows may refuse it; \
         --cmd, --env and --os-version set them"
    );
}

#[test]
fn layer_commands_take_images_and_images_every_name_of_theirs() {
    let store = store();
    let inspected = store.json(&["image", "inspect", "a:1"]);
    let top = inspected["layers"][1]["id"].as_str().unwrap();
    let id = inspected["image_id"].as_str().unwrap();
    let manifest = inspected["manifest"].as_str().unwrap();
    store.text(&["image", "tag", "a:1", "other/name:2"]);
    for name in [
        "a:1",
        id,
        &id[..15],
        &id["sha256:".len()..][..8],
        &format!("a@{manifest}"),
        &format!("a:7@{manifest}"),
        &format!("docker.io/library/a@{manifest}"),
        &format!("other/name@{manifest}"),
    ] {
        assert_eq!(store.json(&["image", "inspect", name])["image_id"], id, "{name}");
        assert_eq!(store.json(&["layer", "inspect", name])["id"], top, "{name}");
        assert_eq!(store.text(&["cat", &format!("{name}:C:/top")]), "top of a:1", "{name}");
        store.text(&["layer", "verify", name]);
        assert!(store.text(&["layer", "changes", name]).contains("A /top\n"), "{name}");
        store.text(&["layer", "diff", name, "-o", "out"]);
        store.text(&["mount", name]);
        store.text(&["umount", name]);
    }
    let other = "0".repeat(64);
    assert_eq!(store.failure(&["image", "inspect", &format!("a@sha256:{other}")]).0, 3);
    assert_eq!(store.failure(&["image", "inspect", &format!("b@{manifest}")]).0, 3);
}

#[test]
fn several_names_are_removed_and_what_cannot_be_does_not_stop_the_others() {
    let store = store();
    store.import("b:1");
    store.import("c:1");
    let (code, said) = store.failure(&["image", "rm", "b:1", "nosuch", "c:1"]);
    assert_eq!((code, first(&said)), (3, "error: no image \"nosuch\""));
    assert_eq!(store.images(), ["a:1"]);
    for name in ["x", "y"] {
        store.text(&["create", "base", "--name", name, "--size", "64MB"]);
    }
    let removed = store.json(&["layer", "rm", "x", "y"]);
    assert_eq!(removed, serde_json::json!([{ "id": "x" }, { "id": "y" }]));
    assert_eq!(store.json(&["layer", "rm", "box"]), serde_json::json!({ "id": "box" }));
}

#[test]
fn quiet_lists_are_ids_and_sandboxes_have_a_size() {
    let store = store();
    store.text(&["image", "tag", "a:1", "b:1"]);
    let id = store.json(&["image", "inspect", "a:1"])["image_id"].as_str().unwrap().to_owned();
    assert_eq!(store.text(&["image", "ls", "-q"]), format!("{}\n", &id["sha256:".len()..][..12]));
    assert_eq!(store.text(&["image", "ls", "-q", "--no-trunc"]), format!("{id}\n"));
    assert!(store.text(&["image", "ls", "--no-trunc"]).contains(&id));
    let ids = store.text(&["layer", "ls", "-q"]);
    assert_eq!(ids.lines().filter(|id| ["base", "box"].contains(id)).count(), 2);
    assert_eq!(ids.lines().count(), 4);
    let size = |id: &str| store.json(&["layer", "inspect", id])["size"].as_u64().unwrap();
    let empty = size("box");
    assert!(empty > 0 && empty < 64 << 20, "{empty}");
    let view = store.text(&["mount", "box"]);
    fs::write(Path::new(view.trim_end()).join("large"), vec![7; 8 << 20]).unwrap();
    store.text(&["umount", "box"]);
    assert!(size("box") >= empty + (8 << 20), "{} after {empty}", size("box"));
    assert!(store.text(&["layer", "inspect", "box"]).contains("MiB of 64.0 MiB"));
}

#[test]
fn what_help_hides_is_not_offered() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_windowsfilter")).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]);
        assert!(script.contains("docker-store") && script.contains("root"), "{shell}");
        for hidden in ["no-reexec", "hcs-library", "--engine", "-l engine", "docker-windows-write-layer"] {
            assert!(!script.contains(hidden), "{shell}: {hidden}");
        }
    }
    let said = run(&["image", "ls", "--no-reexecc"]);
    assert!(said.contains("unexpected argument '--no-reexecc'") && !said.contains("'--no-reexec'"), "{said}");
}
