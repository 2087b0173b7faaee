//! Several processes on one store, and processes without any privilege. Needs root: to mount, and to become
//! somebody else.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Nobody, everywhere.
const NOBODY: u32 = 65_534;

fn layer() -> Vec<u8> {
    common::layer(&["file.txt"], &[7; 100_000])
}

struct Store {
    dir: tempfile::TempDir,
    user: u32,
}

impl Store {
    fn new(user: u32) -> Self {
        let store = Self { dir: tempfile::tempdir().unwrap(), user };
        chown(store.dir.path(), Some(user), Some(user)).unwrap();
        fs::write(store.path("layer.tar"), layer()).unwrap();
        // Where it was built may be closed to others.
        fs::copy(env!("CARGO_BIN_EXE_windowsfilter"), store.path("windowsfilter")).unwrap();
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.path("windowsfilter"));
        command.arg("--root").arg(self.path("store")).args(args).current_dir(self.dir.path());
        command.uid(self.user).gid(self.user).output().unwrap()
    }

    fn done(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Whether it went well; if not, for a reason that others gave. 1: there already, or not mounted; 3: not
    /// there; 4: in use. Nothing is damaged, nothing is killed.
    fn attempt(&self, args: &[&str]) -> bool {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1 | 3 | 4)), "{args:?}: {:?} {said}", output.status);
        assert!(code == Some(0) || said.lines().any(|line| line.starts_with("error: ")), "{args:?}: {said}");
        code == Some(0)
    }
}

#[test]
fn a_user_without_privileges_imports_reads_verifies_and_exports() {
    let store = Store::new(NOBODY);
    store.done(&["layer", "apply", "base", "layer.tar"]);
    store.done(&["layer", "apply", "app", "--parent", "base", "layer.tar"]);
    assert_eq!(store.done(&["ls", "app:/"]), b"file.txt\n");
    assert_eq!(store.done(&["cat", "app:file.txt"]), vec![7; 100_000]);
    store.done(&["stat", "app:FILE.TXT"]);
    store.done(&["cp", "app:file.txt", "copy"]);
    assert!(store.done(&["layer", "diff", "app"]) == layer());
    store.done(&["layer", "changes", "app"]);
    store.done(&["layer", "verify", "app"]);
    assert_eq!(store.done(&["fsck"]), b"no problems\n");
    let mount = store.run(&["mount", "app"]);
    let said = String::from_utf8_lossy(&mount.stderr).into_owned();
    assert!(mount.status.code() == Some(1) && said.contains("CAP_SYS_ADMIN"), "{said}");
    store.done(&["layer", "rm", "app"]);
    store.done(&["cleanup"]);
    assert_eq!(store.done(&["fsck"]), b"no problems\n");
}

/// What each process does, over and over: to the same layer, and to the same sandbox on it.
const DEEDS: [&[&str]; 13] = [
    &["layer", "apply", "app", "--parent", "base", "layer.tar"],
    &["create", "app", "--name", "box", "--size", "64MB"],
    &["mount", "box"],
    &["layer", "changes", "box"],
    &["layer", "diff", "box"],
    &["mount", "app"],
    &["cat", "app:file.txt"],
    &["umount", "app"],
    &["umount", "box"],
    &["layer", "rm", "box"],
    &["layer", "verify", "app"],
    &["cleanup"],
    &["layer", "rm", "app"],
];

#[test]
fn processes_that_do_everything_at_once_to_the_same_layers_harm_nothing() {
    let store = &Store::new(0);
    store.done(&["layer", "apply", "base", "layer.tar"]);
    let done: Vec<usize> = std::thread::scope(|scope| {
        // Each in a rhythm of its own, so that everything meets everything.
        let start = |step: usize| {
            scope.spawn(move || (0..80).filter(|n| store.attempt(DEEDS[n * step % DEEDS.len()])).count())
        };
        let threads = [1, 5, 9, 11].map(start);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(done.iter().all(|&successes| successes > 10), "{done:?}");
    for id in ["box", "app"] {
        while store.run(&["umount", id]).status.success() {}
        store.run(&["layer", "rm", id]);
    }
    store.done(&["cleanup"]);
    assert_eq!(store.done(&["fsck"]), b"no problems\n");
    assert_eq!(
        store.done(&["--json", "layer", "ls"]).iter().filter(|&&byte| byte == b'{').count(),
        1,
        "only the base is left"
    );
    let table = String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned();
    assert!(!table.contains(store.dir.path().to_str().unwrap()));
}
