//! One store and several mount namespaces: whoever sees the store at another path, or not the mounts of
//! others, takes nothing from them. Needs root.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::Store;

const BINARY: &str = env!("CARGO_BIN_EXE_windowsfilter");

/// A store with an image `a:1` and a sandbox `box` of it.
fn store() -> Store {
    let store = Store::new();
    store.import("a:1");
    store.text(&["create", "a:1", "--name", "box", "--size", "64MB"]);
    store
}

fn view(store: &Store) -> PathBuf {
    store.path("store/mounts/box/view")
}

/// Takes off the copies of what other tests have mounted, which would keep them in use.
const ONLY_OURS: &str = "awk '/ - erofs | windowsfilter |\\/mounts\\//{print $5}' /proc/self/mountinfo | LC_ALL=C grep -av \"^$KEEP/\" | \
     sort -r | while read -r m; do umount -l \"$(printf %b \"$m\")\"; done 2>/dev/null || :; ";

/// `sh` in a mount namespace of its own, to which nothing propagates, with the mounts in `dir`.
fn shell(dir: &Path, script: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("unshare");
    command.env("KEEP", dir).args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg(format!("{ONLY_OURS}{script}")).arg("sh").args(arguments);
    command
}

/// A process in a mount namespace of its own, until it is dropped.
struct Elsewhere(Child);

impl Elsewhere {
    /// Runs `script`, which must succeed, and stays.
    fn after(dir: &Path, script: &str, arguments: &[&Path]) -> Self {
        let script = format!("set -e; {script}; echo ready; read ended");
        let mut child = shell(dir, &script, arguments);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "ready"), "the other namespace is not ready");
        Self(child)
    }

    fn process(&self) -> String {
        format!("sh (process {})", self.0.id())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Hides the store where it was, with all that is mounted in it, and shows it at `$2`: as a container does
/// that got it as a volume.
const AS_VOLUME: &str = "mount --bind \"$1/store\" \"$2\"; \
     for m in $(awk '{print $5}' /proc/self/mountinfo | grep \"^$1/store/\" | sort -r); do umount -l \"$m\"; done; \
     mount -t tmpfs none \"$1\"; cd /";

/// Runs the command where the store is at another path, and nothing else of it is seen.
fn as_volume(store: &Store, before: &str, args: &[&str]) -> (i32, String) {
    let place = tempfile::tempdir().unwrap();
    let script = format!(
        "{AS_VOLUME}; {before} volume=$2 binary=$3; shift 3; exec \"$binary\" --root \"$volume\" \"$@\""
    );
    let mut command = shell(store.dir.path(), &script, &[store.dir.path(), place.path(), Path::new(BINARY)]);
    said(&command.args(args).output().unwrap())
}

fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn mounts_of(store: &Store) -> usize {
    // Another test has paths that are no text.
    let table = String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned();
    let root = store.path("store").to_str().unwrap().to_owned();
    table.lines().filter(|line| line.contains(&format!(" {root}/mounts/"))).count()
}

/// Runs a command whose answer has a path that may be no text.
fn done(store: &Store, args: &[&str]) {
    let output = store.run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
}

fn assert_sound(store: &Store) {
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn a_sandbox_is_unmounted_at_once_although_another_namespace_has_a_copy_of_its_mounts() {
    let store = store();
    store.text(&["mount", "box"]);
    fs::write(view(&store).join("written"), "kept").unwrap();
    let other = Elsewhere::after(store.dir.path(), "true", &[]);
    let start = Instant::now();
    store.text(&["umount", "box"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(mounts_of(&store), 0);
    assert_sound(&store);
    // Only what needs the image alone is refused, and says who has it.
    for args in [
        &["mount", "box"][..],
        &["layer", "changes", "box"],
        &["layer", "expand", "box", "128MB"],
        &["commit", "box", "--ref", "b:1"],
        &["layer", "rm", "box"],
    ] {
        let (code, text) = store.failure(args);
        assert!(code == 4 && text.contains(&other.process()), "{args:?}: {code} {text}");
        assert!(text.contains("in mount namespace "), "{text}");
    }
    let (code, text) = store.failure(&["umount", "box"]);
    assert!(code == 1 && text.contains("layer box is not mounted"), "{code} {text}");
    store.text(&["cleanup"]);
    assert_sound(&store);
    drop(other);
    store.text(&["mount", "box"]);
    assert_eq!(fs::read_to_string(view(&store).join("written")).unwrap(), "kept");
    store.text(&["umount", "box"]);
    store.text(&["layer", "rm", "box"]);
    assert_sound(&store);
    assert!(!store.path("store/mounts/box").exists());
}

#[test]
fn a_namespace_that_unmounts_its_copy_leaves_the_first_its_mounts() {
    let store = store();
    store.text(&["mount", "box"]);
    let script = "\"$1\" --root \"$2\" umount box";
    let output =
        shell(store.dir.path(), script, &[Path::new(BINARY), &store.path("store")]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(mounts_of(&store), 3);
    fs::write(view(&store).join("written"), "still").unwrap();
    store.text(&["umount", "box"]);
    assert_eq!(mounts_of(&store), 0);
    assert_sound(&store);
}

/// Every command that could harm a sandbox, from where its mounts are not seen and its image has another
/// path.
#[test]
fn a_sandbox_that_is_in_use_elsewhere_is_refused_under_any_path() {
    let store = store();
    store.text(&["mount", "box"]);
    fs::write(view(&store).join("before"), "1").unwrap();
    let copy_of_dev = "mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/loop-control c 10 237;";
    for (before, args) in [
        ("", &["mount", "box"][..]),
        (copy_of_dev, &["mount", "box"]),
        ("", &["layer", "expand", "box", "128MB"]),
        ("", &["layer", "rm", "box"]),
        ("", &["commit", "box", "--ref", "b:1"]),
        ("", &["layer", "changes", "box"]),
        ("", &["layer", "diff", "box"]),
        ("", &["umount", "box"]),
    ] {
        let (code, text) = as_volume(&store, before, args);
        assert!(code == 4 && text.contains("in use by"), "{args:?}: {code} {text}");
        assert!(text.contains("mount namespace"), "{args:?}: {text}");
    }
    for args in [&["cleanup"][..], &["fsck", "--repair"]] {
        let (code, text) = as_volume(&store, "", args);
        assert!(code == 0 && text.contains("left alone: in use by"), "{args:?}: {code} {text}");
    }
    assert_eq!(mounts_of(&store), 3);
    fs::write(view(&store).join("after"), "2").unwrap();
    store.text(&["umount", "box"]);
    assert_sound(&store);
    store.text(&["mount", "box"]);
    for (name, text) in [("before", "1"), ("after", "2")] {
        assert_eq!(fs::read_to_string(view(&store).join(name)).unwrap(), text);
    }
    store.text(&["umount", "box"]);
}

/// The other way round, and one namespace within another: whoever mounted it is the container.
#[test]
fn what_a_container_has_mounted_is_left_to_it() {
    let store = store();
    let place = tempfile::tempdir().unwrap();
    let script = format!(
        "{AS_VOLUME}; unshare --mount --propagation private sh -c '\"$1\" --root \"$2\" mount box && \
         touch \"$2/mounts/box/view/inner\" && exec sleep 1000' sh \"$3\" \"$2\" & \
         trap \"kill $! 2>/dev/null\" EXIT; while ! ls \"$2/mounts/box/state.json\" >/dev/null 2>&1; do sleep 0.1; done"
    );
    let container =
        Elsewhere::after(store.dir.path(), &script, &[store.dir.path(), place.path(), Path::new(BINARY)]);
    for args in [&["mount", "box"][..], &["layer", "rm", "box"], &["umount", "box"]] {
        let (code, text) = store.failure(args);
        assert!(code == 4 && text.contains("mount namespace"), "{args:?}: {code} {text}");
    }
    let output = store.run(&["fsck", "--repair"]);
    assert!(said(&output).1.contains("left alone: in use by"), "{output:?}");
    assert!(store.path("store/mounts/box/view").is_dir());
    drop(container);
}

/// A view is mounted from another index for each form of streams; either one says that it is in use.
#[test]
fn a_view_that_another_namespace_has_mounted_stays_with_its_layers() {
    for streams in ["samba", "plain"] {
        view_stays_with_its_layers(streams);
    }
}

fn view_stays_with_its_layers(streams: &str) {
    let store = store();
    store.text(&["layer", "rm", "box"]);
    let top = store.json(&["image", "ls"])[0]["layers"].as_array().map(Vec::len);
    let script = "\"$1\" --root \"$2\" mount a:1 --target \"$3\" --streams \"$4\"; ls \"$3/top\"; cd \"$3\"";
    let target = store.path("target");
    fs::create_dir(&target).unwrap();
    let arguments = [Path::new(BINARY), &store.path("store"), &target, Path::new(streams)];
    let other = Elsewhere::after(store.dir.path(), script, &arguments);
    for args in [&["image", "rm", "a:1"][..], &["mount", "a:1"], &["umount", "a:1"]] {
        let (code, text) = store.failure(args);
        assert!(code == 4 && text.contains("mount namespace"), "{streams} {args:?}: {code} {text}");
    }
    for args in [&["cleanup"][..], &["fsck", "--repair"]] {
        let (code, text) = said(&store.run(args));
        assert!(code == 0 && text.contains("left alone: in use by"), "{streams} {args:?}: {code} {text}");
    }
    assert_eq!(store.json(&["image", "ls"])[0]["layers"].as_array().map(Vec::len), top);
    let seen = format!("/proc/{}/root{}/top", other.0.id(), target.display());
    assert!(fs::read_to_string(seen).unwrap().starts_with("top of"));
    drop(other);
    store.text(&["cleanup"]);
    store.text(&["image", "rm", "a:1"]);
    assert_sound(&store);
}

#[test]
fn a_view_is_mounted_again_while_another_namespace_has_a_copy() {
    let store = store();
    store.text(&["mount", "a:1"]);
    let other = Elsewhere::after(store.dir.path(), "true", &[]);
    store.text(&["umount", "a:1"]);
    let view = store.json(&["mount", "a:1"])["path"].as_str().unwrap().to_owned();
    assert!(Path::new(&view).join("top").exists());
    store.text(&["umount", "a:1"]);
    assert!(Path::new(&format!("/proc/{}/root{view}/top", other.0.id())).exists(), "its copy was taken off");
    drop(other);
    store.text(&["cleanup"]);
    assert_sound(&store);
}

/// A disk that was taken out of the tree is still there for whoever has a file of it open.
#[test]
fn a_sandbox_on_a_disk_that_was_detached_and_mounted_again_is_not_mounted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (real, disk) = (dir.path().join("real"), dir.path().join("disk"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&disk).unwrap();
    let image = dir.path().join("image");
    common::write_image(&image, &[common::layer(&["base"], b"base")]);
    let script = "set -e; b=$1; w() { \"$b\" --root disk/store \"$@\"; }; cd \"$2\"; \
        mount --bind real disk; w -q image import image --ref a:1; w create a:1 --name box --size 64MB; w mount box; \
        (cd disk/store/mounts/box/view; exec sleep 1000) & user=$!; trap \"kill $user\" EXIT; \
        until grep -q sleep /proc/$user/comm; do :; done; \
        umount -l disk; mount --bind real disk; set +e; w mount box; echo code $?; \
        touch /proc/$user/cwd/written && echo written";
    let mut command = shell(dir.path(), script, &[Path::new(BINARY), dir.path()]);
    let (_, text) = said(&command.output().unwrap());
    assert!(text.contains("is in use") && text.contains("code 4\n"), "{text}");
    assert!(text.contains("written\n"), "{text}");
}

#[test]
fn cleanup_removes_nothing_that_is_mounted_in_what_it_removes() {
    let store = store();
    let outside = store.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    let script = "set -e; for d in tmp/left layers/z-removing layers/y-importing; do \
        mkdir -p \"$2/$d/deep\"; mount --bind \"$3\" \"$2/$d/deep\"; done; \"$1\" --root \"$2\" cleanup; \"$1\" --root \"$2\" fsck --repair";
    let output = shell(store.dir.path(), script, &[Path::new(BINARY), &store.path("store"), &outside])
        .output()
        .unwrap();
    let (_, text) = said(&output);
    assert!(outside.join("kept").exists(), "{text}");
    assert!(text.contains("something is mounted at"), "{text}");
    store.text(&["cleanup"]);
    assert_sound(&store);
}

#[test]
fn without_a_list_of_mounts_nothing_is_mounted() {
    let store = store();
    let script = "umount -l /proc; exec \"$1\" --root \"$2\" mount box";
    let output =
        shell(store.dir.path(), script, &[Path::new(BINARY), &store.path("store")]).output().unwrap();
    let (code, text) = said(&output);
    assert!(code == 1 && text.contains("mount a proc at /proc"), "{code} {text}");
    assert_sound(&store);
}

/// e2fsprogs take what follows a `?` for options of the device; other bytes are no text.
#[test]
fn a_sandbox_lives_its_whole_life_under_any_path() {
    for name in [&b"what?offset=4096"[..], b"LABEL=x", b"latin\xe9", b"a b\\c\td"] {
        let parent = tempfile::tempdir().unwrap();
        let outer = parent.path().join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(&outer).unwrap();
        let store = Store { dir: tempfile::tempdir_in(&outer).unwrap() };
        let image = parent.path().join("image");
        common::write_image(&image, &[common::layer(&["base"], b"base")]);
        store.text(&["image", "import", image.to_str().unwrap(), "--ref", "a:1"]);
        store.text(&["create", "a:1", "--name", "box", "--size", "64MB"]);
        done(&store, &["mount", "box"]);
        fs::write(view(&store).join("written"), "1").unwrap();
        store.text(&["umount", "box"]);
        store.text(&["layer", "expand", "box", "128MB"]);
        assert_sound(&store);
        done(&store, &["mount", "box"]);
        assert!(view(&store).join("written").exists());
        store.text(&["umount", "box"]);
        store.text(&["layer", "rm", "box"]);
        assert_sound(&store);
    }
}

#[test]
fn locks_are_their_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::new();
    fs::create_dir(store.path("store")).unwrap();
    fs::set_permissions(store.path("store"), fs::Permissions::from_mode(0o755)).unwrap();
    store.import("a:1");
    store.text(&["create", "a:1", "--name", "box", "--size", "64MB"]);
    let mode =
        |name: &str| fs::metadata(store.path("store").join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["lock", "tmp.lock"] {
        assert_eq!(mode(name), 0o600, "{name}");
        fs::set_permissions(store.path("store").join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    store.import("b:1");
    assert_eq!((mode("lock"), mode("tmp.lock")), (0o600, 0o600));
}
