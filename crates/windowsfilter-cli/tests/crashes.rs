//! Whatever the command does, it is killed at each system call that changes something, and each of these
//! calls fails once: a layer is there or not, never half; a sandbox is mounted or not; and the store is
//! sound.
//!
//! strace(1) does both (`--inject`). It counts calls per thread, so a call that several threads make is hit
//! in the first one to get there. Needs root, as mounting does.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// Calls that change a file system or a mount.
const CHANGES: [&str; 20] = [
    "copy_file_range",
    "fallocate",
    "fdatasync",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fsync",
    "ftruncate",
    "ioctl",
    "mkdir",
    "move_mount",
    "pwrite64",
    "pwritev2",
    "rename",
    "renameat",
    "renameat2",
    "setxattr",
    "umount2",
    "unlinkat",
    "write",
];

/// Calls that undoing is made of: if one of these fails, something may be left for cleanup.
const UNDOING: [&str; 3] = ["ioctl", "umount2", "unlinkat"];

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Kill,
    Fail,
}

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Self::Kill => "signal=KILL",
            Self::Fail => "error=ENOSPC",
        }
    }
}

/// One run of a command.
#[derive(Debug)]
struct Run {
    /// What it met; `None` if it went through.
    fault: Option<(Fault, &'static str)>,
    output: Output,
}

struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    /// With the layer `base` and what making the first sandbox leaves for the next.
    fn new() -> Self {
        let store = Self { dir: tempfile::tempdir().unwrap() };
        // Large enough that its content is written in several pieces.
        fs::write(store.path("layer.tar"), common::layer(&["a", "b"], &vec![7; 3 << 20])).unwrap();
        store.done(&["layer", "apply", "base", store.path("layer.tar").to_str().unwrap()]);
        store.done(&["create", "base", "--name", "warm", "--size", "64MB"]);
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Vec<String> {
        let root = self.path("store");
        let start = [env!("CARGO_BIN_EXE_windowsfilter"), "--root", root.to_str().unwrap()];
        start.iter().chain(args).map(|arg| (*arg).to_owned()).collect()
    }

    fn run(&self, args: &[&str]) -> Output {
        let command = self.command(args);
        Command::new(&command[0]).args(&command[1..]).output().unwrap()
    }

    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn findings(&self) -> Vec<Value> {
        let output = self.run(&["--json", "fsck"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn mounts(&self) -> usize {
        let table = String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned();
        table.lines().filter(|line| line.contains(self.dir.path().to_str().unwrap())).count()
    }

    /// Whether there is such a layer; fails if there is one that is not whole.
    fn has_whole(&self, id: &str, at: &str) -> bool {
        let output = self.run(&["layer", "verify", id]);
        match output.status.code() {
            Some(0) => true,
            Some(3) => false,
            _ => panic!("{at}: {id}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Runs the command, faulting the call the `number`th time it is made, if it is made so often.
    fn fault(&self, args: &[&str], fault: Fault, call: &'static str, number: u32) -> Run {
        let log = self.path("strace");
        let inject = format!("inject={call}:{}:when={number}", fault.text());
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", log.to_str().unwrap(), "-e", &format!("trace={call}"), "-e", &inject])
            .args(self.command(args))
            .output()
            .expect("strace is needed");
        let text = fs::read_to_string(log).unwrap();
        let hit = match fault {
            Fault::Kill => output.status.code().is_none(),
            Fault::Fail => text.contains("(INJECTED)"),
        };
        assert!(
            hit || output.status.success(),
            "{call} {number}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Run { fault: hit.then_some((fault, call)), output }
    }

    /// Runs the command once for each fault that it can meet. `check` looks at what each has left, and makes
    /// it as it was.
    fn every_fault(&self, fault: Fault, args: &[&str], mut check: impl FnMut(&Run, &str)) -> u32 {
        let mut hits = 0;
        for call in CHANGES {
            for number in 1.. {
                let run = self.fault(args, fault, call, number);
                let stderr = String::from_utf8_lossy(&run.output.stderr).into_owned();
                let at = format!("{args:?}, {fault:?} of {call} {number}: {stderr}");
                if fault == Fault::Fail && !run.output.status.success() {
                    assert!(stderr.starts_with("error: "), "{at}");
                    assert!(!stderr.contains("panicked"), "{at}");
                }
                check(&run, &at);
                if run.fault.is_none() {
                    break;
                }
                hits += 1;
            }
        }
        hits
    }

    /// What must hold after every fault; what it left is cleaned up.
    fn assert_sound(&self, run: &Run, at: &str) {
        if matches!(run.fault, Some((Fault::Fail, call)) if !UNDOING.contains(&call)) {
            assert_eq!(self.findings(), [Value::Null; 0], "{at}");
        }
        self.done(&["cleanup"]);
        assert_eq!(self.findings(), [Value::Null; 0], "{at}");
    }
}

fn layers_come_whole_or_not_at_all(fault: Fault) -> u32 {
    let store = Store::new();
    let tar = store.path("layer.tar");
    let args = ["layer", "apply", "new", "--parent", "base", tar.to_str().unwrap()];
    store.every_fault(fault, &args, |run, at| {
        let whole = store.has_whole("new", at);
        assert!(whole || !run.output.status.success(), "{at}");
        store.assert_sound(run, at);
        assert_eq!(store.has_whole("new", at), whole, "{at}");
        if whole {
            store.done(&["layer", "rm", "new"]);
        }
    })
}

#[test]
fn a_killed_import_gives_a_whole_layer_or_none() {
    let points = layers_come_whole_or_not_at_all(Fault::Kill);
    assert!(points >= 20, "only {points} points");
}

#[test]
fn a_failing_import_gives_a_whole_layer_or_none_and_leaves_nothing() {
    layers_come_whole_or_not_at_all(Fault::Fail);
}

fn sandboxes_come_whole_or_not_at_all(fault: Fault) {
    let store = Store::new();
    store.every_fault(fault, &["create", "base", "--name", "box", "--size", "64MB"], |run, at| {
        let whole = store.has_whole("box", at);
        assert!(whole || !run.output.status.success(), "{at}");
        store.assert_sound(run, at);
        if whole {
            store.done(&["mount", "box"]);
            store.done(&["umount", "box"]);
            store.done(&["layer", "rm", "box"]);
        }
    });
}

#[test]
fn a_killed_create_gives_a_whole_sandbox_or_none() {
    sandboxes_come_whole_or_not_at_all(Fault::Kill);
}

#[test]
fn a_failing_create_gives_a_whole_sandbox_or_none_and_leaves_nothing() {
    sandboxes_come_whole_or_not_at_all(Fault::Fail);
}

fn mounts_are_counted_or_gone(fault: Fault) {
    let store = Store::new();
    store.every_fault(fault, &["mount", "warm"], |run, at| {
        let counted = store.run(&["--json", "layer", "inspect", "warm"]).stdout;
        let counted = !serde_json::from_slice::<Value>(&counted).unwrap()["mounted"].is_null();
        assert!(counted || !run.output.status.success(), "{at}");
        store.assert_sound(run, at);
        assert_eq!(store.mounts() > 0, counted, "{at}");
        if counted {
            store.done(&["umount", "warm"]);
        }
        assert_eq!(store.mounts(), 0, "{at}");
    });
}

#[test]
fn a_killed_mount_is_counted_or_taken_off() {
    mounts_are_counted_or_gone(Fault::Kill);
}

#[test]
fn a_failing_mount_is_undone() {
    mounts_are_counted_or_gone(Fault::Fail);
}

fn unmounting_can_be_repeated(fault: Fault) {
    let store = Store::new();
    store.done(&["mount", "warm"]);
    store.every_fault(fault, &["umount", "warm"], |_, at| {
        // Done, or still to do: a second time ends it either way.
        store.run(&["umount", "warm"]);
        store.done(&["cleanup"]);
        assert_eq!(store.mounts(), 0, "{at}");
        assert_eq!(store.findings(), [Value::Null; 0], "{at}");
        store.done(&["mount", "warm"]);
    });
    store.done(&["umount", "warm"]);
}

#[test]
fn an_interrupted_unmount_can_be_repeated() {
    unmounting_can_be_repeated(Fault::Kill);
}

#[test]
fn a_failing_unmount_can_be_repeated() {
    unmounting_can_be_repeated(Fault::Fail);
}

fn layers_go_whole_or_not_at_all(fault: Fault) {
    let store = Store::new();
    let tar = store.path("layer.tar");
    let tar = tar.to_str().unwrap();
    store.done(&["layer", "apply", "new", tar]);
    store.every_fault(fault, &["layer", "rm", "new"], |_, at| {
        let whole = store.has_whole("new", at);
        store.done(&["cleanup"]);
        assert_eq!(store.findings(), [Value::Null; 0], "{at}");
        if !whole {
            store.done(&["layer", "apply", "new", tar]);
        }
    });
}

#[test]
fn a_killed_removal_leaves_the_whole_layer_or_none() {
    layers_go_whole_or_not_at_all(Fault::Kill);
}

#[test]
fn a_failing_removal_leaves_the_whole_layer_or_none() {
    layers_go_whole_or_not_at_all(Fault::Fail);
}
