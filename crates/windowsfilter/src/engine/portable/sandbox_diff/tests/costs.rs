//! The cost of reading a sandbox, however hostile it is. The upper directories are generated while they are
//! read, since they have to be far larger than memory and disk.

use std::cell::Cell;

use layer_mounts::linux::upper::{Attribute, UpperEntry, UpperKind, Wanted};

use super::*;
use crate::engine::portable::sandbox_diff::Upper;
use crate::limits::{Exceeded, Limit};

/// A generated upper directory: this many entries, each made by `entry`, all in the root.
struct MadeUp<F> {
    count: u64,
    entry: F,
}

type Entry = (String, UpperKind, Vec<Attribute>);

fn file(size: u64) -> UpperKind {
    UpperKind::File { size }
}

fn upper_entry(number: u64, (path, kind, xattrs): Entry, wanted: Wanted) -> UpperEntry {
    let (xattrs, others): (Vec<_>, Vec<_>) = xattrs.into_iter().partition(|(name, _)| wanted(name));
    let others = others.into_iter().map(|(name, value)| (name, value.len())).collect();
    let path = path.into_bytes();
    UpperEntry { path, kind, mtime: (7, 0), inode: number, links: 1, xattrs, others }
}

impl<F: Fn(u64) -> Entry> Upper for MadeUp<F> {
    fn root(&self, wanted: Wanted) -> Result<UpperEntry, Error> {
        Ok(upper_entry(0, (String::new(), UpperKind::Directory { opaque: false }, vec![]), wanted))
    }
    fn walk(&self, wanted: Wanted, _: Option<u64>) -> Result<Walk<'_>, Error> {
        Ok(Box::new((0..self.count).map(move |n| Ok(upper_entry(n + 1, (self.entry)(n), wanted)))))
    }
    fn attributes(&self, path: &[u8], wanted: Wanted) -> Result<Vec<Attribute>, Error> {
        // All names but the root's end in their number.
        let name = std::str::from_utf8(path).unwrap();
        let digits = &name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
        let Ok(number) = digits.parse() else { return Ok(vec![]) };
        Ok(upper_entry(0, (self.entry)(number), wanted).xattrs)
    }
    fn open_file(&self, _: &[u8]) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(io::repeat(0)))
    }
}

fn made_up<F: Fn(u64) -> Entry>(count: u64, entry: F) -> MadeUp<F> {
    MadeUp { count, entry }
}

/// Attributes of 64 KiB each.
fn attributes(names: impl Iterator<Item = String>) -> Vec<Attribute> {
    names.map(|name| (name.into_bytes(), vec![b'x'; 64 << 10])).collect()
}

/// Peak memory of this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn write<W: Write>(upper: &impl Upper, parent: &impl Parent, limits: DiffLimits, out: W) -> Result<W, Error> {
    write_diff(upper, parent, StreamForm::Plain, &DiffOptions { limits, ..DiffOptions::default() }, out)
}

fn changed(upper: &impl Upper) -> Result<usize, Error> {
    changes(upper, &Model::default(), StreamForm::Plain, &DiffLimits::default()).map(|changes| changes.len())
}

#[test]
fn attributes_of_any_number_and_size_take_no_memory() {
    // Descriptors and streams are attributes that are read: 1.5 GiB of them.
    let upper = made_up(500, |n| {
        let streams = (0..48).map(|stream| format!("user.DosStream.{stream}:$DATA"));
        (format!("{n:06}"), file(0), attributes(streams.chain(["user.win32.sd".to_owned()])))
    });
    let before = peak();
    assert_eq!(changed(&upper).unwrap(), 500);
    let taken = peak() - before;
    assert!(taken < 128 << 20, "{} MiB", taken >> 20);
}

#[test]
fn attributes_that_say_nothing_of_windows_are_not_even_asked_for() {
    for name in ["user.x", "user.DosStream.a", "user.win32.other", "trusted.x", "security.capability"] {
        assert!(!entry::is_windows_attribute(name.as_bytes()), "{name}");
    }
    for name in ["user.DOSATTRIB", "user.DosStream.a:$DATA", "trusted.win32.reparse", "user.win32.ea.X"] {
        assert!(entry::is_windows_attribute(name.as_bytes()), "{name}");
    }
}

#[test]
fn names_and_targets_that_would_fill_the_memory_are_refused() {
    let long = "a".repeat(200);
    let linked =
        made_up(1 << 20, |n| (n.to_string(), UpperKind::Symlink { target: vec![b'x'; 4095] }, vec![]));
    let named = made_up(1 << 20, |n| {
        let attribute = (b"user.win32.name".to_vec(), [long.as_bytes(), &[b'b'; 60_000]].concat());
        (format!("{long}~{n:08}"), file(0), vec![attribute])
    });
    for error in [changed(&linked).unwrap_err(), changed(&named).unwrap_err()] {
        let Error::Entry { entry, reason, .. } = &error else { panic!("{error}") };
        assert!(!entry.is_empty() && entry.len() < 400 && reason.contains("MiB of memory"), "{error}");
    }
}

#[test]
fn names_take_less_memory_than_they_may() {
    let before = peak();
    assert_eq!(changed(&made_up(200_000, |n| (n.to_string(), file(0), vec![]))).unwrap(), 200_000);
    let taken = peak() - before;
    assert!(taken < (64 << 20) + 200_000 * 1024, "{} MiB", taken >> 20);
}

#[test]
fn of_many_problems_the_first_are_told_and_the_others_counted() {
    let upper = made_up(10_000, |n| (format!("a:{n:05}"), file(0), vec![]));
    let error = write(&upper, &Model::default(), DiffLimits::default(), Vec::new()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("10000 entries cannot be held by a Windows layer:\n  \"a:00000\" has"),
        "{text}"
    );
    assert!(text.ends_with("\n  and 9800 more") && text.len() < 30_000, "{text}");
}

/// The limit that the diff of `upper` exceeds, and the entry that is named; nothing may have been written.
fn exceeded(upper: &impl Upper, limits: DiffLimits) -> (String, Exceeded) {
    let mut out = Vec::new();
    let error = write(upper, &Model::default(), limits, &mut out).unwrap_err();
    assert!(out.is_empty());
    let Error::Limit { entry, exceeded } = error else { panic!("{error}") };
    (entry.unwrap().0, exceeded)
}

#[test]
fn a_sparse_file_larger_than_its_sandbox_is_refused_before_anything_is_written() {
    const GIB: u64 = 1 << 30;
    let upper = made_up(3, |n| (format!("{n}"), file(if n == 1 { 400 * GIB } else { 5 }), vec![]));
    let sandbox = DiffLimits { sandbox: Some(127 * GIB), ..DiffLimits::default() };
    let disk = DiffLimits { disk: Some(GIB), ..DiffLimits::default() };
    let size = DiffLimits { size: Some(GIB), ..DiffLimits::default() };
    for (limits, limit) in [(sandbox, Limit::Sandbox), (disk, Limit::Disk), (size, Limit::Size)] {
        let (entry, exceeded) = exceeded(&upper, limits);
        assert_eq!((entry.as_str(), exceeded.limit), ("1", limit));
    }
    let endless = made_up(20, |n| (format!("{n}"), file(u64::MAX - n), vec![]));
    assert_eq!(exceeded(&endless, sandbox).0, "0");
    assert_eq!(content_size(&endless, &sandbox).unwrap(), u64::MAX);
}

#[test]
fn a_stream_that_many_files_name_counts_for_each_of_them() {
    let stream = |n: u64| {
        let place = b"0000000000000007:512:1000000:s".to_vec();
        (format!("{n}"), file(0), vec![(b"user.win32.stream.0".to_vec(), place)])
    };
    let limits = DiffLimits { size: Some(10 << 20), ..DiffLimits::default() };
    let (entry, exceeded) = exceeded(&made_up(100, stream), limits);
    assert_eq!((entry.as_str(), exceeded.limit), ("10", Limit::Size));
}

#[test]
fn a_full_sandbox_is_not_too_large_for_itself() {
    // As many files as ext4 has inodes, each of the largest size.
    const SIZE: u64 = 1 << 30;
    let upper = made_up(SIZE / 32_768, |n| (n.to_string(), file(32_768 - 1024), vec![]));
    let limits = DiffLimits { sandbox: Some(SIZE), ..DiffLimits::default() };
    write(&upper, &Model::default(), limits, io::sink()).unwrap();
}

/// A parent that counts the calls.
struct Counting {
    model: Model,
    asked: Cell<u64>,
}

impl Counting {
    fn new(model: Model) -> Self {
        Self { model, asked: Cell::new(0) }
    }
    fn count(&self) -> &Model {
        self.asked.set(self.asked.get() + 1);
        &self.model
    }
}

impl Parent for Counting {
    fn root(&self) -> Result<ParentNode, Error> {
        self.model.root()
    }
    fn child(&self, directory: &ParentNode, name: &[u8]) -> Result<Option<ParentNode>, Error> {
        self.count().child(directory, name)
    }
    fn list(&self, directory: &ParentNode) -> Result<Vec<ParentNode>, Error> {
        self.count().list(directory)
    }
    fn metadata(&self, node: &ParentNode) -> Result<Win32Metadata, Error> {
        self.model.metadata(node)
    }
    fn link_target(&self, node: &ParentNode) -> Result<Vec<u8>, Error> {
        self.count().link_target(node)
    }
    fn has_stream(&self, stream: &Stream) -> Result<bool, Error> {
        self.model.has_stream(stream)
    }
    fn open_stream<'a>(&'a self, stream: &'a Stream) -> Result<Box<dyn Read + 'a>, Error> {
        self.model.open_stream(stream)
    }
}

/// Calls of the parent for the links of `upper`.
fn asked_for(upper: &impl Upper, model: Model) -> u64 {
    let parent = Counting::new(model);
    write(upper, &parent, DiffLimits::default(), io::sink()).unwrap();
    parent.asked.get()
}

#[test]
fn what_links_lead_through_is_looked_up_once() {
    let model = || {
        let model = (0..10).fold(Model::default().folder("w"), |model, n| model.folder(&format!("w/d{n}")));
        model.link("hop", "w/d1")
    };
    let in_and_out: String = (0..680).map(|n| format!("D{}/../", n % 10)).collect();
    let texts = [format!("/w/{in_and_out}"), format!("w/./{in_and_out}d1"), "HOP/../D3".to_owned()];
    let upper = made_up(300, |n| {
        let target = texts[(n % 3) as usize].clone().into_bytes();
        (format!("link{n}"), UpperKind::Symlink { target }, vec![])
    });
    // One name for each link, and a few for the directories.
    let asked = asked_for(&upper, model());
    assert!(asked < 300 + 30, "{asked}");
}

#[test]
fn links_through_links_are_followed_once_and_end_where_they_ended() {
    // Each leads through the one before, so the forty-first is too far, and so is every link that leads
    // through it.
    let upper = made_up(300, |n| {
        let target = if n == 0 { ".".to_owned() } else { format!("{:03}/.", n - 1) };
        (format!("{n:03}"), UpperKind::Symlink { target: target.into_bytes() }, vec![])
    });
    let tar = write(&upper, &Model::default(), DiffLimits::default(), Vec::new()).unwrap();
    let entries = read(&tar);
    let is_directory = |entry: &&TarEntry| entry.layer().attributes & 0x10 != 0;
    let links = entries.iter().filter(|entry| entry.name.starts_with("Files/"));
    assert_eq!(links.filter(is_directory).count(), 41);
}

#[test]
fn a_directory_with_many_spellings_deletes_the_parents_names_once() {
    let upper = super::Upper::new();
    for name in ["dir", "Dir", "dIr", "diR", "DIr"] {
        upper.opaque(name);
    }
    let model = (0..50).fold(Model::default().folder("dir"), |model, n| model.file(&format!("dir/{n}")));
    let deleted = upper.changes(&model).into_iter().filter(|change| change.starts_with("D ")).count();
    assert_eq!(deleted, 50);
}
