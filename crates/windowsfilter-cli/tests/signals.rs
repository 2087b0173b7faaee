//! Whatever a command is doing, Ctrl-C and its like end it, and nothing of it is left. Needs root: to mount.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::Store;
use rustix::process::{Pid, Signal, kill_process};

/// Content that takes the command a while.
const LARGE: usize = 96 << 20;

/// A command that runs.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits until `condition` holds; `false` if the command ended before.
    fn until(&mut self, condition: impl Fn(&Self) -> bool) -> bool {
        while !condition(self) {
            if self.0.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Waits until it says something with `text` in it.
    fn until_it_says(&mut self, text: &str) {
        let mut said = BufReader::new(self.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it never said {text:?}");
        }
        self.0.stderr = Some(said.into_inner());
    }

    /// Whether it has a file open whose path ends so.
    fn has_open(&self, name: &str) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.0.id())) else { return false };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|path| path.to_string_lossy().ends_with(name)))
    }

    fn end(self) -> Output {
        self.0.wait_with_output().unwrap()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // Locks stay, and layers that were removed go in the background; fsck finds those that do not.
        .filter(|name| !name.ends_with("lock") && !name.ends_with("-removing"))
        .collect();
    names.sort();
    names
}

/// Everything that could be left: files in the store, and in the directory that commands write to.
fn inventory(store: &Store) -> Vec<Vec<String>> {
    let mut dirs = vec![store.dir.path().to_owned()];
    dirs.extend(
        ["layers", "tmp", "mounts", "templates", "images/refs"].map(|dir| store.path("store").join(dir)),
    );
    dirs.iter().map(|dir| names(dir)).collect()
}

fn mounts(store: &Store) -> usize {
    let table = String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned();
    table.lines().filter(|line| line.contains(store.dir.path().to_str().unwrap())).count()
}

/// Whether the command did what it was asked to. When it has said so there is nothing to undo any more, and a
/// signal that comes between that and its end still ends it.
fn was_done(output: &Output) -> bool {
    output.status.success() || !output.stdout.is_empty()
}

fn assert_died_of(signal: Signal, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(signal.as_raw()), "{:?}: {said}", output.status);
    let code = 128 + signal.as_raw();
    let json = format!("{{\"error\":\"interrupted\",\"causes\":[],\"hint\":null,\"code\":{code}}}\n");
    assert!(said.is_empty() || said.ends_with("error: interrupted\n") || said.ends_with(&json), "{said}");
    assert!(output.stdout.is_empty());
}

/// A store with an image of a large layer, and a sandbox with a large file, which is mounted.
fn store() -> Store {
    let store = Store::new();
    let dir = store.path("image");
    common::write_image(&dir, &[common::layer(&["base"], b"x"), common::layer(&["large"], &vec![7; LARGE])]);
    fs::write(store.path("large.tar"), common::layer(&["file"], &vec![8; LARGE])).unwrap();
    store.text(&["image", "import", "image", "--ref", "a:1"]);
    store.text(&["create", "a:1", "--name", "box", "--size", "512MB"]);
    store.text(&["mount", "box"]);
    fs::write(store.path("store/mounts/box/view/new"), vec![9; LARGE]).unwrap();
    store
}

/// Runs the command and sends `signal` as soon as `condition` holds; again, if it was done before it got the
/// signal, which `undo` takes back.
fn interrupt(
    store: &Store,
    signal: Signal,
    args: &[&str],
    condition: impl Fn(&Running) -> bool,
    undo: &[&str],
) {
    let before = inventory(store);
    for _ in 0..20 {
        let mut running = Running::start(store.command(args));
        if running.until(&condition) {
            running.send(signal);
        }
        let output = running.end();
        if was_done(&output) {
            match undo {
                ["rm", path] if store.path(path).is_dir() => fs::remove_dir_all(store.path(path)).unwrap(),
                ["rm", path] => fs::remove_file(store.path(path)).unwrap(),
                [] => {}
                undo => drop(store.text(undo)),
            }
            continue;
        }
        assert_died_of(signal, &output);
        assert_eq!(inventory(store), before, "{args:?}");
        assert_eq!(store.text(&["fsck"]), "no problems\n", "{args:?}");
        return;
    }
    panic!("{args:?} was always faster than the signal");
}

#[test]
fn whatever_reads_or_writes_files_leaves_nothing() {
    let store = store();
    let importing =
        |_: &Running| names(&store.path("store/layers")).iter().any(|name| name.ends_with("-importing"));
    let hidden = |prefix: &'static str| {
        let dir = store.dir.path().to_owned();
        move |_: &Running| names(&dir).iter().any(|name| name.starts_with(prefix))
    };
    interrupt(
        &store,
        Signal::INT,
        &["layer", "apply", "new", "large.tar"],
        importing,
        &["layer", "rm", "new"],
    );
    interrupt(&store, Signal::TERM, &["commit", "box", "--ref", "b:1"], importing, &["image", "rm", "b:1"]);
    interrupt(
        &store,
        Signal::HUP,
        &["layer", "diff", "box", "-o", "out"],
        hidden(".windowsfilter-"),
        &["rm", "out"],
    );
    let top = store.json(&["image", "inspect", "a:1"])["layers"][1]["id"].as_str().unwrap().to_owned();
    interrupt(
        &store,
        Signal::INT,
        &["layer", "diff", &top, "-o", "out"],
        hidden(".windowsfilter-"),
        &["rm", "out"],
    );
    interrupt(&store, Signal::INT, &["cp", "a:1:/large", "out"], hidden(".windowsfilter-"), &["rm", "out"]);
    for format in ["oci", "oci-archive", "docker-archive"] {
        let args = ["image", "export", "a:1", "out", "--format", format];
        interrupt(&store, Signal::INT, &args, hidden(".export-"), &["rm", "out"]);
    }
    let reads_tar = |running: &Running| running.has_open("layer.tar");
    interrupt(&store, Signal::INT, &["layer", "verify", &top], reads_tar, &[]);
    interrupt(&store, Signal::TERM, &["layer", "verify", "--all"], reads_tar, &[]);
    // What was read goes on.
    fs::write(store.path("store/mounts/box/view/newer"), b"x").unwrap();
    store.text(&["umount", "box"]);
    store.text(&["layer", "rm", "box"]);
    store.text(&["image", "rm", "a:1"]);
    interrupt(
        &store,
        Signal::INT,
        &["image", "import", "image", "--ref", "a:1"],
        importing,
        &["image", "rm", "a:1"],
    );
    store.text(&["image", "import", "image", "--ref", "a:1"]);
}

#[test]
fn whatever_waits_for_a_pipe_ends() {
    let store = store();
    let before = inventory(&store);
    let json = &["--json", "layer", "apply", "new"][..];
    for args in
        [&["image", "import", "-"][..], &["layer", "apply", "new", "-"], &["layer", "apply", "new"], json]
    {
        let mut command = store.command(args);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        // More than a pipe holds: part of it has been read when this is written.
        let mut pipe = running.0.stdin.take().unwrap();
        pipe.write_all(&common::layer(&["file"], &vec![7; 1 << 20])[..1 << 20]).unwrap();
        running.send(Signal::INT);
        let output = running.end();
        assert_died_of(Signal::INT, &output);
        assert_eq!(output.stderr.starts_with(b"{"), args == json);
        assert_eq!(inventory(&store), before, "{args:?}");
    }
    // One that nobody has opened to write is waited for, too.
    let pipe = store.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    let before = inventory(&store);
    for args in [&["layer", "apply", "new", "pipe"][..], &["image", "import", "pipe"]] {
        let mut running = Running::start(store.command(args));
        assert!(running.until(|running| running.has_thread("pipe")));
        running.send(Signal::TERM);
        assert_died_of(Signal::TERM, &running.end());
        assert_eq!(inventory(&store), before, "{args:?}");
    }
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

impl Running {
    fn has_thread(&self, name: &str) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.0.id())) else { return false };
        threads.flatten().any(|thread| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
    }
}

#[test]
fn whatever_waits_for_a_lock_ends() {
    let store = store();
    store.text(&["umount", "box"]);
    // The locks are made by whoever needs them first.
    store.text(&["prune"]);
    let before = inventory(&store);
    for (lock, args) in [
        ("lock", &["create", "a:1", "--name", "new", "--size", "512MB"][..]),
        ("lock", &["layer", "rm", "box"]),
        ("images/lock", &["prune"]),
        ("images/lock", &["image", "rm", "a:1"]),
        ("images/import.lock", &["image", "import", "image", "--ref", "c:1"]),
        ("mounts/box.lock", &["mount", "box"]),
        ("mounts/box.lock", &["layer", "changes", "box"]),
        ("mounts/box.lock", &["commit", "box", "--ref", "b:1"]),
    ] {
        let held = File::open(store.path("store").join(lock)).unwrap();
        held.lock().unwrap();
        let mut running = Running::start(store.command(args));
        running.until_it_says("waiting for another process");
        running.send(Signal::INT);
        assert_died_of(Signal::INT, &running.end());
        drop(held);
        assert_eq!(inventory(&store), before, "{args:?}");
        assert_eq!(mounts(&store), 0, "{args:?}");
    }
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn a_mount_is_counted_or_gone() {
    let store = store();
    store.text(&["umount", "box"]);
    fs::create_dir(store.path("target")).unwrap();
    let mut died = 0;
    for round in 0..40 {
        let mut running = Running::start(store.command(&["mount", "box", "--target", "target"]));
        // At one of many moments of it.
        let step = ["image", "storage", "view", "state.json"][round % 4];
        if running.until(|_| store.path("store/mounts/box").join(step).exists()) {
            running.send(Signal::INT);
        }
        let output = running.end();
        if !was_done(&output) {
            died += 1;
            assert_died_of(Signal::INT, &output);
        }
        // A signal between the count and the answer ends a command that is done.
        if was_done(&output) || mounts(&store) > 0 {
            assert_eq!(store.json(&["layer", "inspect", "box"])["mounts"], 1);
            store.text(&["umount", "box"]);
        }
        assert_eq!(mounts(&store), 0);
        assert_eq!(store.text(&["fsck"]), "no problems\n");
    }
    assert!(died > 0);
}

#[test]
fn a_second_signal_ends_at_once_and_names_cleanup() {
    let store = store();
    let mut command = Command::new("strace");
    // Each step of undoing takes a while, in which strace(1) lets no signal through either.
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat"]);
    command.args(["-e", "inject=unlinkat:delay_enter=8000000"]);
    let inner = store.command(&["layer", "apply", "new", "-"]);
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut pipe = running.0.stdin.take().unwrap();
    pipe.write_all(&vec![0; 1 << 20]).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", running.0.id());
    let traced = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let traced = Pid::from_raw(traced).unwrap();
    kill_process(traced, Signal::INT).unwrap();
    running.until_it_says("undoing the work so far; a second Ctrl-C ends at once");
    kill_process(traced, Signal::INT).unwrap();
    running.until_it_says("`windowsfilter cleanup` removes what is left");
    // It is dead, though strace(1) will notice only after the time that it was to wait.
    let stat = format!("/proc/{}/stat", traced.as_raw_nonzero());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let (code, said) = store.failure(&["fsck"]);
    assert!(code == 5 && said.contains("windowsfilter cleanup"), "{said}");
    let pruned = store.run(&["prune"]);
    let said = String::from_utf8(pruned.stderr).unwrap();
    assert!(pruned.status.success() && said.contains("windowsfilter cleanup"), "{said}");
    store.text(&["cleanup"]);
    assert_eq!(store.text(&["fsck"]), "no problems\n");
}

#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let store = store();
    let inner = store.command(&["layer", "apply", "new", "-"]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' INT; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.stdin(Stdio::piped());
    let mut running = Running::start(command);
    let mut pipe = running.0.stdin.take().unwrap();
    pipe.write_all(&common::layer(&["file"], &vec![7; 1 << 20])[..1 << 20]).unwrap();
    running.send(Signal::INT);
    pipe.write_all(&common::layer(&["file"], &vec![7; 1 << 20])[1 << 20..]).unwrap();
    drop(pipe);
    assert!(running.end().status.success());
}
