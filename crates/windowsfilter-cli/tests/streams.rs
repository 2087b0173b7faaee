//! Where output goes: to a file that is whole, to standard output, and on without standard error.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs::{self, File};
use std::process::Stdio;

use common::Store;

/// The exit code of a command whose standard error is on a full disk.
fn speechless(store: &Store, args: &[&str]) -> Option<i32> {
    let full = File::options().write(true).open("/dev/full").unwrap();
    store.command(args).stderr(full).output().unwrap().status.code()
}

#[test]
fn nothing_depends_on_standard_error() {
    let store = Store::new();
    store.import("a:1");
    store.text(&["image", "rm", "a:1"]);
    assert_eq!(speechless(&store, &["image", "inspect", "nosuch"]), Some(3));
    let image = store.path("image-a-1");
    let image = image.to_str().unwrap();
    assert_eq!(speechless(&store, &["-vv", "image", "import", image, "--ref", "a:1"]), Some(0));
    assert_eq!(store.images(), ["a:1"]);
    let top = store.json(&["image", "ls"])[0]["top"].as_str().unwrap().to_owned();
    fs::write(store.layer_file(&top, "layer.json"), "{}").unwrap();
    assert_eq!(speechless(&store, &["image", "ls"]), Some(0), "it has a note");
}

#[test]
fn archives_go_to_standard_output_and_layouts_do_not() {
    let store = Store::new();
    store.import("a:1");
    for compress in ["none", "gzip"] {
        for format in ["oci-archive", "docker-archive"] {
            let options = ["--format", format, "--compress", compress];
            let to_file = [&["image", "export", "a:1", "file.tar"][..], &options].concat();
            store.text(&to_file);
            let streamed = store.run(&[&["image", "export", "a:1", "-"][..], &options].concat());
            assert_eq!(String::from_utf8(streamed.stderr).unwrap(), "");
            assert_eq!(streamed.stdout, fs::read(store.path("file.tar")).unwrap());
            fs::remove_file(store.path("file.tar")).unwrap();
        }
    }
    let (code, said) = store.failure(&["image", "export", "a:1", "-"]);
    assert!(code == 2 && said.contains("choose oci-archive or docker-archive"), "{said}");
    let (code, said) = store.failure(&["--json", "image", "export", "a:1", "-", "--format", "oci-archive"]);
    assert_eq!(code, 2, "{said}");
    assert!(!store.path("-").exists());
}

#[test]
fn a_dash_is_standard_output_for_a_layers_tar_too() {
    let store = Store::new();
    store.apply("base");
    assert_eq!(
        store.run(&["layer", "diff", "base", "-o", "-"]).stdout,
        fs::read(store.path("base.tar")).unwrap()
    );
    assert!(!store.path("-").exists());
}

#[test]
fn a_pipe_gets_a_layers_tar_and_stays_a_pipe() {
    let store = Store::new();
    store.apply("base");
    let pipe = store.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let args = ["layer", "diff", "base", "-o", "pipe"];
    let mut writer = store.command(&args).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(fs::read(&pipe).unwrap(), fs::read(store.path("base.tar")).unwrap());
    assert!(writer.wait().unwrap().success());
    assert!(!fs::metadata(pipe).unwrap().is_file());
}

#[test]
fn an_export_that_is_killed_leaves_one_thing_that_its_help_names() {
    let store = Store::new();
    store.import("a:1");
    for format in ["oci", "oci-archive"] {
        fs::create_dir(store.path("out")).unwrap();
        let args =
            store.command(&["image", "export", "a:1", "out/x", "--format", format, "--compress", "gzip"]);
        let mut strace = std::process::Command::new("strace");
        // The first blob is compressed and being written when it is synced or read again.
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=lseek:signal=KILL:when=1"]);
        strace.arg(args.get_program()).args(args.get_args()).current_dir(store.dir.path());
        assert_eq!(strace.status().unwrap().code(), None, "it was to be killed");
        let left: Vec<_> = fs::read_dir(store.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.len() == 1 && left[0].to_str().unwrap().starts_with(".export-"), "{left:?}");
        fs::remove_dir_all(store.path("out")).unwrap();
    }
}
