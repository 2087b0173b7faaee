//! Part 3: many at once. Processes, some of them killed, and threads of one process do random operations on
//! the same images and on sandboxes of their own.
//!
//! The model: an actor knows its own sandbox's content, whether it is mounted and what was committed of it,
//! because no other actor touches it. Images are shared: they come and go at any time, and an operation on
//! one may find it missing or in use, but may not fail otherwise. At the end everything an actor knows must
//! hold, and when all of it is removed the store must be as empty as a new one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use windowsfilter::{Driver, ErrorKind, LayerId, LayerStore, StorageOptions};
use windowsfilter_image::{CommitOptions, ImageStore, ImportOptions, Reference, Source};

use super::area::{Area, Kind};
use super::check;
use super::depot::{self, Depot};
use super::operations::Place;
use super::state;
use programs::error::{Error, IoContext, Result, chain};
use sample_images::prng::Prng;
use sample_images::{Format, Spec};

/// Actors that run the command.
pub const PROCESSES: usize = 8;
/// Actors in this process, all on one open store.
pub const THREADS: usize = 64;
/// Images that all actors use.
const IMAGES: usize = 20;
/// Bytes of the store's file system.
const SIZE: u64 = 2 << 30;
/// Bytes of a sandbox.
const SANDBOX: u64 = 16 << 20;

/// Counts and findings.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often each operation ended in each way.
    pub counts: BTreeMap<(&'static str, &'static str), u64>,
    /// Findings.
    pub problems: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((verb, end), count) in &self.counts {
            writeln!(f, "{verb:<16} {end:<10} {count:>8}")?;
        }
        write!(f, "{} operations, {} inconsistencies", self.counts.values().sum::<u64>(), self.problems.len())
    }
}

/// An operation.
#[derive(Clone, Debug)]
enum Verb {
    Import(usize),
    RemoveImage(String),
    Create(String, usize),
    Mount(String),
    Unmount(String),
    Commit(String, String),
    RemoveLayer(String),
    Prune,
    Cleanup,
    Fsck,
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Import(_) => "image import",
            Self::RemoveImage(_) => "image rm",
            Self::Create(..) => "create",
            Self::Mount(_) => "mount",
            Self::Unmount(_) => "umount",
            Self::Commit(..) => "commit",
            Self::RemoveLayer(_) => "layer rm",
            Self::Prune => "prune",
            Self::Cleanup => "cleanup",
            Self::Fsck => "fsck",
        }
    }
}

/// The result of an operation.
#[derive(Clone, Debug)]
enum End {
    Done,
    NotFound,
    InUse,
    Killed,
    Failed(String),
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotFound => "not found",
            Self::InUse => "in use",
            Self::Killed => "killed",
            Self::Failed(_) => "failed",
        }
    }

    fn of(kind: ErrorKind, text: String) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::InUse => Self::InUse,
            _ => Self::Failed(text),
        }
    }
}

/// The executor: the command, which may be killed, or a thread of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hand {
    Process,
    Thread,
}

struct Actor<'a> {
    hand: Hand,
    store: &'a LayerStore,
    place: &'a Place<'a>,
    images: &'a [PathBuf],
    random: Prng,
    sandbox: String,
    /// The sandbox's expected content, if there is one.
    files: Option<BTreeMap<String, String>>,
    mounted: bool,
    committed: bool,
    report: Report,
}

/// Runs all actors for `time`, and compares everything with their models.
///
/// # Errors
/// If the store cannot be prepared.
pub fn run(depot: &Depot, seed: u64, time: Duration) -> Result<Report> {
    let area = Area::new(Kind::Ext4, SIZE)?;
    let place = depot.place(&area.path());
    let images = (0..IMAGES).map(|number| image(&area, number)).collect::<Result<Vec<_>>>()?;
    let store = LayerStore::open(&place.root, StorageOptions::default())
        .map_err(|error| Error::Unexpected(chain(&error)))?;
    let end = Instant::now() + time;
    let mut report = Report::default();
    let mut actors: Vec<Actor<'_>> = (0..PROCESSES + THREADS)
        .map(|number| Actor {
            hand: if number < PROCESSES { Hand::Process } else { Hand::Thread },
            store: &store,
            place: &place,
            images: &images,
            random: Prng::named(seed, format!("actor {number}").as_bytes()),
            sandbox: format!("sandbox-{number}"),
            files: None,
            mounted: false,
            committed: false,
            report: Report::default(),
        })
        .collect();
    std::thread::scope(|scope| {
        for actor in &mut actors {
            scope.spawn(move || {
                while Instant::now() < end && actor.report.problems.is_empty() {
                    if let Err(error) = actor.step() {
                        actor.problem(&chain(&error));
                    }
                }
            });
        }
    });
    for actor in &mut actors {
        if let Err(error) = actor.settle() {
            actor.problem(&chain(&error));
        }
        for (key, count) in std::mem::take(&mut actor.report.counts) {
            *report.counts.entry(key).or_default() += count;
        }
        report.problems.append(&mut actor.report.problems);
    }
    if let Err(error) = emptied(&place) {
        report.problems.push(chain(&error));
    }
    for problem in &report.problems {
        println!("FAILED {problem}\n  repeat: cargo xtask torture --only together --seed {seed}");
    }
    depot::clear(&place)?;
    Ok(report)
}

/// An image with its own seed; a few of them share no base layer with others.
fn image(area: &Area, number: usize) -> Result<PathBuf> {
    let path = area.path().join(format!("image-{number}.tar"));
    let spec = Spec {
        seed: 100 + number as u64,
        layers: 1 + number % 3,
        entries: 1,
        bytes: 1,
        reference: format!("shared-{number}:1"),
        format: Format::OciArchive,
        ..Spec::default()
    };
    sample_images::write(&spec, &path).map(|_| path)
}

impl Actor<'_> {
    fn problem(&mut self, text: &str) {
        self.report.problems.push(format!("{}: {text}", self.sandbox));
    }

    fn view(&self) -> PathBuf {
        self.place.root.join("mounts").join(&self.sandbox).join("view")
    }

    fn reference(&self) -> String {
        format!("own-{}:1", self.sandbox)
    }

    /// Makes one random step.
    fn step(&mut self) -> Result<()> {
        let number = self.random.below(IMAGES as u64) as usize;
        match self.random.below(12) {
            0 | 1 => match self.run(&Verb::Import(number)) {
                // Removed between lookup and use; the message says so.
                End::Failed(text) if text.contains("was removed by another process meanwhile") => Ok(()),
                End::Done | End::Killed => Ok(()),
                other => {
                    self.problem(&format!("image import: {other:?}"));
                    Ok(())
                }
            },
            2 => self.expect(&Verb::RemoveImage(format!("shared-{number}:1")), &["not found", "in use"]),
            3 => match self.random.below(4) {
                0 => self.expect(&Verb::Prune, &[]),
                1 => self.expect(&Verb::Cleanup, &[]),
                // Layers come and go while it checks one after the other.
                2 => self.expect(&Verb::Fsck, &["failed"]),
                _ => Ok(()),
            },
            _ => self.step_with_sandbox(number),
        }
    }

    fn step_with_sandbox(&mut self, number: usize) -> Result<()> {
        let sandbox = self.sandbox.clone();
        match (self.files.is_some(), self.mounted, self.random.below(6)) {
            (false, ..) => {
                let end = self.run(&Verb::Create(sandbox, number));
                // The image may be missing, or be removed at this moment.
                match end {
                    End::Done => self.files = Some(BTreeMap::new()),
                    End::Killed => self.files = self.exists()?.then(BTreeMap::new),
                    End::NotFound | End::InUse => {}
                    End::Failed(text) => self.problem(&format!("create: {text}")),
                }
                Ok(())
            }
            (true, false, 0) => {
                // Cleanup may be looking at it at this moment.
                self.expect(&Verb::RemoveLayer(sandbox), &["in use"])?;
                self.files = if self.exists()? { self.files.take() } else { None };
                Ok(())
            }
            (true, false, 1 | 2) | (true, true, 1) => self.commit(),
            (true, false, _) => {
                self.expect(&Verb::Mount(sandbox), &[])?;
                self.mounted = self.is_mounted()?;
                self.compare()
            }
            (true, true, 0) => {
                self.expect(&Verb::Unmount(sandbox), &[])?;
                self.mounted = self.is_mounted()?;
                Ok(())
            }
            (true, true, _) => self.write(),
        }
    }

    fn commit(&mut self) -> Result<()> {
        let commit = Verb::Commit(self.sandbox.clone(), self.reference());
        let end = self.run(&commit);
        match end {
            End::Done => self.committed = true,
            // It may have left the sandbox frozen; unmounting thaws it.
            End::Killed if self.mounted => {
                self.unmount()?;
                self.mounted = self.is_mounted()?;
            }
            End::Killed => {}
            other => self.problem(&format!("commit: {other:?}")),
        }
        Ok(())
    }

    /// Unmounts as often as it is mounted. Stops at the first problem.
    fn unmount(&mut self) -> Result<()> {
        while self.is_mounted()? && self.report.problems.is_empty() {
            self.expect(&Verb::Unmount(self.sandbox.clone()), &[])?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let name = format!("file-{}", self.random.below(8));
        let content = format!("{name} of {} {}\n", self.sandbox, self.random.draw());
        let path = self.view().join(&name);
        fs::write(&path, &content).at(&path)?;
        if let Some(files) = &mut self.files {
            files.insert(name, content);
        }
        self.compare()
    }

    /// Checks that the sandbox has the actor's writes on top of its image.
    fn compare(&mut self) -> Result<()> {
        let Some(files) = self.files.clone().filter(|_| self.mounted) else { return Ok(()) };
        for (name, content) in files {
            let path = self.view().join(&name);
            if fs::read_to_string(&path).at(&path)? != content {
                self.problem(&format!("{name} is not what was written"));
            }
        }
        let hosts = self.view().join("Windows/System32/drivers/etc/hosts");
        fs::read(&hosts).at(&hosts).map(drop)
    }

    fn exists(&self) -> Result<bool> {
        let layer = self.place.root.join("layers").join(&self.sandbox);
        layer.try_exists().at(&layer)
    }

    fn is_mounted(&self) -> Result<bool> {
        let store = state::open(&self.place.root)?;
        let id = LayerId::new(&*self.sandbox).map_err(|error| Error::Unexpected(error.to_string()))?;
        store.mounts(&id).map(|state| state.users() > 0).map_err(|error| Error::Unexpected(error.to_string()))
    }

    /// Runs it; any result except success, a kill and those in `allowed` is a finding.
    fn expect(&mut self, verb: &Verb, allowed: &[&str]) -> Result<()> {
        let end = self.run(verb);
        if !matches!(end, End::Done | End::Killed) && !allowed.contains(&end.name()) {
            self.problem(&format!("{verb:?}: {end:?}"));
        }
        Ok(())
    }

    fn run(&mut self, verb: &Verb) -> End {
        let end = match self.hand {
            Hand::Process => {
                // After a kill, a mount may or may not be counted, which cannot be looked up; everything
                // else can.
                let kill = self.random.chance(20).then(|| Duration::from_micros(self.random.below(40_000)));
                in_process(self.place, self.images, verb, kill)
            }
            Hand::Thread => in_thread(self.store, self.images, verb),
        };
        *self.report.counts.entry((verb.name(), end.name())).or_default() += 1;
        end
    }

    /// At the end, checks the actor's things and removes them.
    fn settle(&mut self) -> Result<()> {
        self.hand = Hand::Thread;
        if self.exists()? != self.files.is_some() {
            self.problem("its sandbox is not where it should be");
        }
        if self.is_mounted()? != self.mounted {
            self.problem("its sandbox is not mounted as it should be");
        }
        self.compare()?;
        self.unmount()?;
        if self.committed {
            self.expect(&Verb::RemoveImage(self.reference()), &[])?;
        } else {
            self.expect(&Verb::RemoveImage(self.reference()), &["not found"])?;
        }
        if self.files.is_some() {
            self.expect(&Verb::RemoveLayer(self.sandbox.clone()), &[])?;
        }
        Ok(())
    }
}

fn in_process(place: &Place<'_>, images: &[PathBuf], verb: &Verb, kill: Option<Duration>) -> End {
    let size = SANDBOX.to_string();
    let image = |number: usize| images[number].to_string_lossy().into_owned();
    let (shared, path);
    let args: Vec<&str> = match verb {
        Verb::Import(number) => {
            path = image(*number);
            vec!["image", "import", &path]
        }
        Verb::RemoveImage(reference) => vec!["image", "rm", reference],
        Verb::Create(name, number) => {
            shared = format!("shared-{number}:1");
            vec!["create", &shared, "--name", name, "--size", &size]
        }
        Verb::Mount(name) => vec!["mount", name],
        Verb::Unmount(name) => vec!["umount", name],
        Verb::Commit(name, reference) => vec!["commit", name, "--ref", reference],
        Verb::RemoveLayer(name) => vec!["layer", "rm", name],
        Verb::Prune => vec!["prune"],
        Verb::Cleanup => vec!["cleanup"],
        Verb::Fsck => vec!["fsck"],
    };
    let command = place.inputs.command(&place.root, &args);
    let answer = match kill {
        None => check::tool(&command),
        Some(after) => killed(&command, after),
    };
    match answer {
        Ok((0, _)) => End::Done,
        Ok((3, _)) => End::NotFound,
        Ok((4, _)) => End::InUse,
        Ok((KILLED, _)) => End::Killed,
        Ok((code, text)) => End::Failed(format!("{code}: {text}")),
        Err(error) => End::Failed(chain(&error)),
    }
}

/// Stands for the exit code of a killed command.
const KILLED: i32 = -9;

fn killed(command: &[String], after: Duration) -> Result<(i32, String)> {
    let start = |source| Error::Start { program: command.join(" "), source };
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    std::thread::sleep(after);
    // It may have ended by itself.
    child.kill().and_then(|()| child.wait()).map_err(start)?;
    // A later look finds how much it had done.
    Ok((KILLED, String::new()))
}

fn in_thread(store: &LayerStore, images: &[PathBuf], verb: &Verb) -> End {
    match call(store, images, verb) {
        Ok(()) => End::Done,
        Err(windowsfilter_image::Error::Store(error)) => End::of(error.kind(), chain(&error)),
        Err(error) => End::of(error.kind(), chain(&error)),
    }
}

fn call(store: &LayerStore, images: &[PathBuf], verb: &Verb) -> Result<(), windowsfilter_image::Error> {
    let all = ImageStore::open(store.clone())?;
    let id = |name: &str| LayerId::new(name).map_err(windowsfilter_image::Error::from);
    match verb {
        Verb::Import(number) => {
            let path = Source::Path(images[*number].clone());
            let options = ImportOptions::new(path);
            all.import(options).map(drop)
        }
        Verb::RemoveImage(reference) => all.remove(reference).map(drop),
        Verb::Create(name, number) => {
            let parent = all.resolve(&format!("shared-{number}:1"))?;
            let options = StorageOptions { size: Some(SANDBOX) };
            Ok(store.create_read_write(&id(name)?, Some(&parent), options, "")?)
        }
        Verb::Mount(name) => Ok(store.mount(&id(name)?, None).map(drop)?),
        Verb::Unmount(name) => Ok(store.unmount(&id(name)?)?),
        Verb::Commit(name, reference) => {
            let reference = Reference::parse(reference)?;
            let options = CommitOptions::new(reference);
            all.commit(&id(name)?, options).map(drop)
        }
        Verb::RemoveLayer(name) => Ok(store.remove(&id(name)?)?),
        Verb::Prune => all.prune(false).map(drop),
        Verb::Cleanup => Ok(store.cleanup()?),
        Verb::Fsck => {
            all.fsck(false)?;
            Ok(store.fsck(false).map(drop)?)
        }
    }
}

/// When all actors have removed their things, cleanup must leave a store as empty as a new one.
fn emptied(place: &Place<'_>) -> Result<()> {
    check::must(place, &["cleanup"])?;
    check::must(place, &["fsck"])?;
    state::verify(&place.root)?;
    for number in 0..IMAGES {
        check::tool(&place.inputs.command(&place.root, &["image", "rm", &format!("shared-{number}:1")]))?;
    }
    check::must(place, &["prune"])?;
    let files = check::rest(place)?;
    let left: Vec<String> = files.into_keys().filter(|name| !is_of_an_empty_store(name)).collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::Unexpected(format!("these files are left: {}", left.join(", "))))
}

fn is_of_an_empty_store(name: &str) -> bool {
    const FILES: &[&str] = &[
        "lock",
        "tmp.lock",
        "layers",
        "images",
        "images/blobs",
        "images/blobs/sha256",
        "images/refs",
        "mounts",
        "tmp",
    ];
    let template = Path::new(name).starts_with("templates");
    template || FILES.contains(&name) || ["images/lock", "images/import.lock"].contains(&name)
}
