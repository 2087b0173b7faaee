//! Layers of the compute service are written by a child of the command, as the original re-executes itself.
//! With a stand-in for Microsoft's side.
#![cfg(windows)]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};

use sample_images::SmallLayer;
use serde_json::Value;

/// A home, a stand-in, and a layer's tar.
struct Windows {
    dir: tempfile::TempDir,
}

impl Windows {
    fn new() -> Self {
        let windows = Self { dir: tempfile::tempdir().unwrap() };
        // Cargo puts libraries that a test needs beside the test.
        let built = std::env::current_exe().unwrap().with_file_name("hcs_standin.dll");
        fs::copy(built, windows.path("hcs_standin.dll")).unwrap();
        fs::write(windows.path("layer.tar"), layer()).unwrap();
        windows
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
        command.arg("--engine").arg("hcs").arg("--root").arg(self.path("home"));
        command.arg("--hcs-library").arg(self.path("hcs_standin.dll"));
        command
    }

    fn apply(&self, configure: impl FnOnce(&mut Command)) -> Output {
        let mut command = self.command();
        command.args(["--json", "layer", "apply", "base"]).arg(self.path("layer.tar"));
        configure(&mut command);
        command.output().unwrap()
    }

    fn functions(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls.jsonl")).unwrap_or_default();
        let calls = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let names = calls.map(|call| call["call"].as_str().unwrap().to_owned());
        names.filter(|name| !name.starts_with("Backup") && name != "FlushFileBuffers").collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn layer() -> Vec<u8> {
    SmallLayer::new().files(&[("readme.txt", b"read me")]).tar()
}

#[test]
fn a_layer_is_written_by_a_child_that_prints_its_size() {
    let windows = Windows::new();
    fs::create_dir_all(windows.path(r"home\.windowsfilter\tmp")).unwrap();
    fs::create_dir(windows.path(r"home\base")).unwrap();
    let mut command = windows.command();
    command.arg("docker-windows-write-layer").arg(windows.path("home")).arg("base");
    let output = command.stdin(File::open(windows.path("layer.tar")).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "7");
    assert_eq!(windows.functions(), ["ProcessBaseImage"]);
    assert_eq!(fs::read(windows.path(r"home\base\Files\readme.txt")).unwrap(), b"read me");
}

#[test]
fn a_child_that_fails_says_what_failed_and_leaves_with_1() {
    let windows = Windows::new();
    fs::write(windows.path("control.json"), r#"{"fail":[{"call":"ProcessBaseImage","code":"0x80070005"}]}"#)
        .unwrap();
    let output = windows.apply(|_| {});
    assert!(!output.status.success());
    let error = text(&output.stderr);
    for part in ["ProcessBaseImage", "base", "0x5", "exit code: 1"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert!(!windows.path(r"home\base").exists());
}

#[test]
fn a_layer_is_applied_through_a_child() {
    let windows = Windows::new();
    let output = windows.apply(|_| {});
    assert!(output.status.success(), "{}", text(&output.stderr));
    let applied: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(applied["size"], 7);
    assert_eq!(windows.functions(), ["ProcessBaseImage"]);
    // The store is known by what is in it from now on.
    let mut ls = Command::new(env!("CARGO_BIN_EXE_windowsfilter"));
    ls.arg("--root").arg(windows.path("home")).arg("--hcs-library").arg(windows.path("hcs_standin.dll"));
    let ls = ls.args(["layer", "ls"]).output().unwrap();
    assert!(text(&ls.stdout).contains("base"), "{}", text(&ls.stderr));
}

#[test]
fn the_variable_keeps_the_import_in_the_process() {
    let windows = Windows::new();
    let output = windows.apply(|command| {
        command.env("DOCKER_WINDOWSFILTER_NOREEXEC", "0");
    });
    let warning = text(&output.stderr);
    assert!(output.status.success(), "{warning}");
    assert!(warning.contains("imported in this process"), "{warning}");
    assert_eq!(windows.functions(), ["ProcessBaseImage"]);
}

#[test]
fn the_command_says_that_it_takes_long_paths() {
    let command = fs::read(env!("CARGO_BIN_EXE_windowsfilter")).unwrap();
    let manifest = b"longPathAware";
    assert!(command.windows(manifest.len()).any(|bytes| bytes == manifest));
}
