//! A store that cannot be written can still be read, checked and asked. Needs root, to mount it so.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use common::Store;

/// Everything that writes nothing.
const READING: [&[&str]; 9] = [
    &["fsck"],
    &["layer", "verify", "--all"],
    &["prune", "--dry-run"],
    &["image", "ls"],
    &["layer", "ls"],
    &["ls", "a:1:/"],
    &["cat", "a:1:/top"],
    &["layer", "diff", "base"],
    &["layer", "changes", "base"],
];

fn store() -> Store {
    let store = Store::new();
    store.import("a:1");
    store.apply("base");
    // The first look merges the indexes of the image's layers.
    store.text(&["ls", "a:1:/"]);
    store.text(&["create", "base", "--name", "box", "--size", "64MB"]);
    store
}

/// Runs the command where the store's file system is read-only; nobody else sees that.
fn read_only(store: &Store, args: &[&str]) -> Output {
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(store.path("store"));
    let inner = store.command(args);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(store.dir.path());
    command.output().unwrap()
}

fn done(args: &[&str], output: &Output) {
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn whatever_writes_nothing_works_on_a_read_only_file_system() {
    let store = store();
    for locks in [true, false] {
        if !locks {
            let names = [
                "lock",
                "tmp.lock",
                "images/lock",
                "images/import.lock",
                "mounts/base.lock",
                "mounts/box.lock",
            ];
            for name in names {
                _ = fs::remove_file(store.path("store").join(name));
            }
        }
        for args in READING {
            done(args, &read_only(&store, args));
        }
    }
    let output = read_only(&store, &["layer", "rm", "box"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("Read-only file system"), "{said}");
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn whoever_may_only_read_a_store_can_check_it() {
    let store = store();
    let open = ["-R", "a+rX", store.dir.path().to_str().unwrap()];
    assert!(Command::new("chmod").args(open).status().unwrap().success());
    // Where it was built may be closed to others.
    fs::copy(env!("CARGO_BIN_EXE_windowsfilter"), store.path("windowsfilter")).unwrap();
    for args in READING {
        let mut command = Command::new(store.path("windowsfilter"));
        command.arg("--root").arg(store.path("store")).args(args).current_dir(store.dir.path());
        done(args, &command.uid(65_534).gid(65_534).output().unwrap());
    }
}
