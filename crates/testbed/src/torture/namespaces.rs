//! Part 5: one store in two mount namespaces that see it at two paths, like a host and a container with the
//! store as a volume.
//!
//! The model knows in which namespace each sandbox is mounted, and the synced writes to it. Every command
//! that could take a sandbox from the other namespace must be refused as in use; cleanup and repair must
//! leave it alone; no synced write may be lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::area::{Area, Kind};
use super::check;
use super::depot::{self, Depot};
use super::operations::Place;
use super::together::Report;
use programs::error::{Error, IoContext, Result, chain};
use sample_images::prng::Prng;
use sample_images::{Format, Spec};

/// Sandboxes that both namespaces work with.
const SANDBOXES: usize = 4;
/// Bytes of the store's file system.
const SIZE: u64 = 1 << 30;
/// Exit code of a command refused because something is in use.
const IN_USE: i32 = 4;

/// A mount namespace that sees the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Here,
    There,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Here => Self::There,
            Self::There => Self::Here,
        }
    }
}

/// A process that keeps a mount namespace alive, until dropped.
struct Namespace(Child);

impl Namespace {
    /// A namespace set up by `script`, run in the namespace of `from` if given.
    fn new(from: Option<&Self>, script: &str, arguments: &[&Path]) -> Result<Self> {
        let script = format!("set -e; {script}; echo ready; read ended");
        let mut command = from.map_or_else(|| Command::new("unshare"), |outer| outer.enter("unshare"));
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).args(arguments);
        let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let is_ready =
            lines.is_some_and(|mut lines| lines.any(|line| line.is_ok_and(|line| line == "ready")));
        let namespace = Self(child);
        if is_ready {
            Ok(namespace)
        } else {
            Err(Error::Unexpected("no mount namespace could be made".into()))
        }
    }

    /// A command that runs `program` in the namespace.
    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.0.id())).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            println!("a process that kept a mount namespace was not waited for: {error}");
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|source| Error::Start { program, source })
}

/// The model of a sandbox.
#[derive(Default)]
struct Sandbox {
    mounted: Option<Side>,
    /// Synced writes.
    files: BTreeMap<String, String>,
}

struct Run<'a> {
    place: &'a Place<'a>,
    there: Namespace,
    /// The store's path for `there`.
    volume: PathBuf,
    sandboxes: Vec<Sandbox>,
    random: Prng,
    report: Report,
}

/// Works in both namespaces for `time`, and compares everything with the model.
///
/// # Errors
/// If the store or the other namespace cannot be prepared.
pub fn run(depot: &Depot, seed: u64, time: Duration) -> Result<Report> {
    let area = Area::new(Kind::Ext4, SIZE)?;
    let place = depot.place(&area.path());
    let image = area.path().join("image.tar");
    let spec = Spec {
        entries: 1,
        bytes: 1,
        reference: "base:1".into(),
        format: Format::OciArchive,
        ..Spec::default()
    };
    sample_images::write(&spec, &image)?;
    check::must(&place, &["image", "import", &image.to_string_lossy()])?;
    for number in 0..SANDBOXES {
        check::must(&place, &["create", "base:1", "--name", &name(number), "--size", "16MB"])?;
    }
    let volume = area.beside("volume");
    fs::create_dir(&volume).at(&volume)?;
    let script = "mount --bind \"$1\" \"$2\"; mount -t tmpfs none \"$3\"";
    let there = Namespace::new(None, script, &[&place.root, &volume, &area.path()])?;
    let mut run = Run {
        place: &place,
        there,
        volume,
        sandboxes: (0..SANDBOXES).map(|_| Sandbox::default()).collect(),
        random: Prng::named(seed, b"namespaces"),
        report: Report::default(),
    };
    let end = Instant::now() + time;
    while Instant::now() < end && run.report.problems.is_empty() {
        if let Err(error) = run.step() {
            run.report.problems.push(chain(&error));
        }
    }
    if let Err(error) = run.settle() {
        run.report.problems.push(chain(&error));
    }
    let Run { report, there, .. } = run;
    drop(there);
    for problem in &report.problems {
        println!("FAILED {problem}\n  repeat: cargo xtask torture --only namespaces --seed {seed}");
    }
    depot::clear(&place)?;
    Ok(report)
}

fn name(number: usize) -> String {
    format!("box-{number}")
}

impl Run<'_> {
    /// Makes one random step.
    fn step(&mut self) -> Result<()> {
        let number = self.random.below(SANDBOXES as u64) as usize;
        let side = if self.random.chance(50) { Side::Here } else { Side::There };
        match (self.sandboxes[number].mounted, self.random.below(8)) {
            (_, 0) => self.tidy(side),
            (None, 1) => self.race(number),
            (None, 2) => self.grow(number, side),
            (None, _) => self.mount(number, side),
            (Some(owner), 1) => self.unmount_beside_a_copy(number, owner),
            (Some(owner), 2) => self.unmount(number, owner),
            (Some(owner), 3) => self.refused(number, owner.other()),
            (Some(owner), _) => self.write(number, owner),
        }
    }

    fn command(&self, side: Side, args: &[&str]) -> Vec<String> {
        match side {
            Side::Here => self.place.inputs.command(&self.place.root, args),
            Side::There => {
                let enter = self.there.enter("env");
                let words = std::iter::once(enter.get_program()).chain(enter.get_args());
                let mut command: Vec<String> =
                    words.map(|word| word.to_string_lossy().into_owned()).collect();
                command.extend(self.place.inputs.command(&self.volume, args));
                command
            }
        }
    }

    /// Runs a command, which must end with `expected`.
    fn expect(&mut self, verb: &'static str, side: Side, args: &[&str], expected: i32) -> Result<()> {
        let (code, text) = check::tool(&self.command(side, args))?;
        let end = if code == IN_USE {
            "in use"
        } else if code == 0 {
            "done"
        } else {
            "failed"
        };
        *self.report.counts.entry((verb, end)).or_default() += 1;
        if code == expected && (code != IN_USE || text.contains("in use")) {
            return Ok(());
        }
        Err(Error::Unexpected(format!(
            "{side:?}: `{}` ends with {code} instead of {expected}: {text}",
            args.join(" ")
        )))
    }

    fn mount(&mut self, number: usize, side: Side) -> Result<()> {
        self.expect("mount", side, &["mount", &name(number)], 0)?;
        self.sandboxes[number].mounted = Some(side);
        self.compare(number)
    }

    fn unmount(&mut self, number: usize, side: Side) -> Result<()> {
        self.expect("umount", side, &["umount", &name(number)], 0)?;
        self.sandboxes[number].mounted = None;
        Ok(())
    }

    /// Both namespaces mount at once: exactly one of them succeeds.
    fn race(&mut self, number: usize) -> Result<()> {
        let args = ["mount", &name(number)];
        let commands = [Side::Here, Side::There].map(|side| self.command(side, &args));
        let ends = std::thread::scope(|scope| {
            let threads = commands.each_ref().map(|command| scope.spawn(|| check::tool(command)));
            threads.map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::Unexpected("a thread panicked".into())))
            })
        });
        let [here, there] = ends;
        let ((here, first), (there, second)) = (here?, there?);
        self.sandboxes[number].mounted = match (here, there) {
            (0, IN_USE) => Some(Side::Here),
            (IN_USE, 0) => Some(Side::There),
            _ => {
                let text = format!("two that mount at once end with {here} and {there}: {first} / {second}");
                return Err(Error::Unexpected(text));
            }
        };
        *self.report.counts.entry(("mount at once", "done")).or_default() += 1;
        self.compare(number)
    }

    /// A third namespace keeps a copy of the mounts when they are unmounted: until it ends, no command may
    /// use the sandbox.
    fn unmount_beside_a_copy(&mut self, number: usize, owner: Side) -> Result<()> {
        let from = (owner == Side::There).then_some(&self.there);
        let copy = Namespace::new(from, ":", &[])?;
        self.unmount(number, owner)?;
        let name = name(number);
        for side in [Side::Here, Side::There] {
            self.expect("mount", side, &["mount", &name], IN_USE)?;
            self.expect("layer rm", side, &["layer", "rm", &name], IN_USE)?;
            self.tidy(side)?;
        }
        drop(copy);
        self.mount(number, owner.other())
    }

    /// Checks that commands that would take the sandbox from the other namespace are refused.
    fn refused(&mut self, number: usize, side: Side) -> Result<()> {
        let name = name(number);
        let commands: [(&'static str, &[&str]); 6] = [
            ("mount", &["mount", &name]),
            ("umount", &["umount", &name]),
            ("layer rm", &["layer", "rm", &name]),
            ("layer expand", &["layer", "expand", &name, "64MB"]),
            ("layer changes", &["layer", "changes", &name]),
            ("commit", &["commit", &name, "--ref", "taken:1"]),
        ];
        let (verb, args) = commands[self.random.below(commands.len() as u64) as usize];
        self.expect(verb, side, args, IN_USE)?;
        self.compare(number)
    }

    /// Expands to the present size.
    fn grow(&mut self, number: usize, side: Side) -> Result<()> {
        self.expect("layer expand", side, &["layer", "expand", &name(number), "16MB"], 0)
    }

    fn tidy(&mut self, side: Side) -> Result<()> {
        if self.random.chance(50) {
            self.expect("cleanup", side, &["cleanup"], 0)?;
        } else {
            self.expect("fsck --repair", side, &["fsck", "--repair"], 0)?;
        }
        (0..SANDBOXES).try_for_each(|number| self.compare(number))
    }

    fn view(&self, number: usize, side: Side) -> PathBuf {
        let root = match side {
            Side::Here => self.place.root.clone(),
            Side::There => {
                let inside = self.volume.strip_prefix("/").unwrap_or(&self.volume);
                PathBuf::from(format!("/proc/{}/root", self.there.0.id())).join(inside)
            }
        };
        root.join("mounts").join(name(number)).join("view")
    }

    fn write(&mut self, number: usize, side: Side) -> Result<()> {
        let file = format!("file-{}", self.random.below(16));
        let content = format!("{file} {}\n", self.random.draw()).repeat(1 + self.random.below(200) as usize);
        let (view, path) = (self.view(number, side), self.view(number, side).join(&file));
        let mut open = File::create(&path).at(&path)?;
        open.write_all(content.as_bytes()).and_then(|()| open.sync_all()).at(&path)?;
        File::open(&view).and_then(|view| view.sync_all()).at(&view)?;
        *self.report.counts.entry(("write", "done")).or_default() += 1;
        self.sandboxes[number].files.insert(file, content);
        Ok(())
    }

    /// Checks that a mounted sandbox has all its synced writes.
    fn compare(&self, number: usize) -> Result<()> {
        let sandbox = &self.sandboxes[number];
        let Some(side) = sandbox.mounted else { return Ok(()) };
        for (file, content) in &sandbox.files {
            let path = self.view(number, side).join(file);
            if fs::read_to_string(&path).at(&path)? != *content {
                return Err(Error::Unexpected(format!("{file} of {} is not what was written", name(number))));
            }
        }
        Ok(())
    }

    /// At the end, checks all writes and the store.
    fn settle(&mut self) -> Result<()> {
        for number in 0..SANDBOXES {
            if let Some(side) = self.sandboxes[number].mounted {
                self.compare(number)?;
                self.unmount(number, side)?;
            }
            self.mount(number, Side::Here)?;
            self.unmount(number, Side::Here)?;
        }
        self.tidy(Side::There)?;
        self.expect("fsck", Side::Here, &["fsck"], 0)
    }
}
