//! Each kind of change and its result. The upper directories are real, written as overlayfs writes them; the
//! parent is a list of paths.

mod costs;
mod deletions;
mod metadata;
mod names;
mod symlinks;
mod view;

use layer_mounts::linux::upper::UpperDirectory;

use super::*;
use crate::engine::portable::xattrs::{Stream, StreamContent, Win32Metadata};
use erofs_index::Namespace;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use tempfile::TempDir;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{LayerEntry, attached_stream};
use wclayer::name;
use wclayer::security::SecurityDescriptor;
use wclayer::tar;

/// A parent of a few paths.
#[derive(Default)]
struct Model(BTreeMap<String, ModelNode>);

#[derive(Clone)]
struct ModelNode {
    kind: ParentKind,
    target: Vec<u8>,
    metadata: Win32Metadata,
    mtime: (i64, u32),
}

impl Model {
    fn add(mut self, path: &str, kind: ParentKind) -> Self {
        let node = ModelNode { kind, target: vec![], metadata: Win32Metadata::default(), mtime: (5, 0) };
        self.0.insert(path.to_owned(), node);
        self
    }
    fn folder(self, path: &str) -> Self {
        self.add(path, ParentKind::Directory)
    }
    fn file(self, path: &str) -> Self {
        self.add(path, ParentKind::File)
    }
    fn link(self, path: &str, target: &str) -> Self {
        let mut model = self.add(path, ParentKind::Symlink);
        model.0.get_mut(path).unwrap().target = target.into();
        model
    }
    fn with(mut self, path: &str, metadata: Win32Metadata) -> Self {
        self.0.get_mut(path).unwrap().metadata = metadata;
        self
    }
    fn get(&self, node: &ParentNode) -> (&str, &ModelNode) {
        let (path, found) = self.0.iter().nth(node.id as usize - 1).unwrap();
        (path, found)
    }
    /// The direct entries of a directory.
    fn inside(&self, directory: &ParentNode) -> Vec<ParentNode> {
        let prefix = if directory.id == 0 { String::new() } else { format!("{}/", self.get(directory).0) };
        let nodes = self.0.iter().enumerate().filter_map(|(number, (path, node))| {
            let name = path.strip_prefix(&prefix).filter(|rest| !rest.contains('/'))?;
            Some(ParentNode { id: number as u64 + 1, name: name.into(), kind: node.kind, mtime: node.mtime })
        });
        nodes.collect()
    }
}

impl Parent for Model {
    fn root(&self) -> Result<ParentNode, Error> {
        Ok(ParentNode { id: 0, name: vec![], kind: ParentKind::Directory, mtime: (5, 0) })
    }
    fn child(&self, directory: &ParentNode, name: &[u8]) -> Result<Option<ParentNode>, Error> {
        Ok(self.inside(directory).into_iter().find(|node| name::eq(&node.name, name)))
    }
    fn list(&self, directory: &ParentNode) -> Result<Vec<ParentNode>, Error> {
        Ok(self.inside(directory))
    }
    fn metadata(&self, node: &ParentNode) -> Result<Win32Metadata, Error> {
        Ok(if node.id == 0 { Win32Metadata::default() } else { self.get(node).1.metadata.clone() })
    }
    fn link_target(&self, node: &ParentNode) -> Result<Vec<u8>, Error> {
        Ok(self.get(node).1.target.clone())
    }
    fn has_stream(&self, stream: &Stream) -> Result<bool, Error> {
        // As if layer 7 were the only one, and had streams in its tar only.
        Ok(matches!(stream.content, StreamContent::InTar { origin, .. } if origin.layer == Some(7)))
    }
    fn open_stream<'a>(&'a self, stream: &'a Stream) -> Result<Box<dyn Read + 'a>, Error> {
        Ok(Box::new(io::repeat(b's').take(stream.content.size())))
    }
}

/// An upper directory being made.
struct Upper(TempDir);

impl Upper {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn file(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.path(name), text).unwrap();
        self.touch(name, (1_600_000_000, 123_456_700))
    }
    fn folder(&self, name: &str) -> &Self {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self
    }
    fn opaque(&self, name: &str) -> &Self {
        self.folder(name).attribute(name, "trusted.overlay.opaque", b"y")
    }
    fn link(&self, name: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
        self
    }
    fn whiteout(&self, name: &str) -> &Self {
        self.node(name, FileType::CharacterDevice, (0, 0))
    }
    fn node(&self, name: &str, file_type: FileType, number: (u32, u32)) -> &Self {
        let device = rustix::fs::makedev(number.0, number.1);
        rustix::fs::mknodat(CWD, self.path(name), file_type, Mode::from_raw_mode(0o600), device).unwrap();
        self
    }
    fn attribute(&self, name: &str, key: &str, value: &[u8]) -> &Self {
        rustix::fs::lsetxattr(self.path(name), key, value, XattrFlags::empty()).unwrap();
        self
    }
    /// Sets the attributes that copy-up leaves.
    fn metadata(&self, name: &str, metadata: &Win32Metadata) -> &Self {
        let is_link = std::fs::symlink_metadata(self.path(name)).unwrap().is_symlink();
        let (namespace, prefix) =
            if is_link { (Namespace::Trusted, "trusted.") } else { (Namespace::User, "user.") };
        for (_, key, value) in metadata.to_xattrs(namespace) {
            self.attribute(name, &format!("{prefix}{}", String::from_utf8(key).unwrap()), &value);
        }
        self
    }
    fn touch(&self, name: &str, (tv_sec, nanos): (i64, u32)) -> &Self {
        let time = Timespec { tv_sec, tv_nsec: nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, self.path(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        self
    }
    fn open(&self) -> UpperDirectory {
        UpperDirectory::open(self.0.path()).unwrap()
    }
    fn changes(&self, parent: &Model) -> Vec<String> {
        let changes = changes(&self.open(), parent, StreamForm::Samba, &DiffLimits::default()).unwrap();
        changes
            .into_iter()
            .map(|c| format!("{} {}", c.kind.letter(), String::from_utf8(c.path).unwrap()))
            .collect()
    }
    fn write<W: Write>(
        &self,
        parent: &Model,
        streams: StreamForm,
        options: &DiffOptions,
        out: W,
    ) -> Result<W, Error> {
        write_diff(&self.open(), parent, streams, options, out)
    }
    fn diff(&self, parent: &Model) -> Vec<TarEntry> {
        read(&self.write(parent, StreamForm::Samba, &DiffOptions::default(), Vec::new()).unwrap())
    }
    fn names(&self, parent: &Model) -> Vec<String> {
        self.diff(parent).into_iter().map(|entry| entry.name).collect()
    }
    fn entry(&self, parent: &Model, name: &str) -> TarEntry {
        self.diff(parent).into_iter().find(|entry| entry.name == name).unwrap()
    }
    fn problems(&self, parent: &Model) -> Vec<String> {
        self.problems_with(parent, &DiffOptions::default())
    }
    fn problems_with(&self, parent: &Model, options: &DiffOptions) -> Vec<String> {
        let mut out = Vec::new();
        let result = self.write(parent, StreamForm::Samba, options, &mut out).map(drop);
        assert!(out.is_empty());
        match result {
            Err(Error::NotPortable { problems, more: 0 }) => problems,
            other => panic!("{other:?}"),
        }
    }
}

fn write<W: Write>(upper: &UpperDirectory, parent: &impl Parent, out: W) -> Result<W, Error> {
    write_diff(upper, parent, StreamForm::Plain, &DiffOptions::default(), out)
}

/// An entry as a reader of the tar finds it.
#[derive(Debug)]
struct TarEntry {
    name: String,
    /// `None`: a stream of the entry before it.
    layer: Option<LayerEntry>,
    link_name: Vec<u8>,
    data: Vec<u8>,
}

impl TarEntry {
    fn layer(&self) -> &LayerEntry {
        self.layer.as_ref().unwrap()
    }
}

fn read(bytes: &[u8]) -> Vec<TarEntry> {
    let mut reader = tar::Reader::new(bytes);
    let mut entries: Vec<TarEntry> = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let host = entries.iter().rev().find_map(|entry| entry.layer.as_ref());
        let is_stream = host.is_some_and(|host| attached_stream(host, &header).is_some());
        let layer = (!is_stream).then(|| LayerEntry::from_header(&header).unwrap());
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).unwrap();
        let name = String::from_utf8(header.name.clone()).unwrap();
        entries.push(TarEntry { name, layer, link_name: header.link_name.clone(), data });
    }
    entries
}

#[test]
fn an_untouched_sandbox_is_a_layer_of_two_empty_directories() {
    let upper = Upper::new();
    assert_eq!(upper.names(&Model::default()), ["Hives", "Files"]);
    assert!(upper.changes(&Model::default()).is_empty());
}

#[test]
fn entries_come_depth_first_by_name_and_two_runs_give_the_same_bytes() {
    let upper = Upper::new();
    upper.folder("b/inner").file("b.txt", "").file("b/z", "1").file("b/inner/x", "12").file("a", "");
    let expected = [
        "Hives",
        "Files",
        "Files/a",
        "Files/b",
        "Files/b/inner",
        "Files/b/inner/x",
        "Files/b/z",
        "Files/b.txt",
    ];
    let parent = Model::default();
    assert_eq!(upper.names(&parent), expected);
    let run = || write(&upper.open(), &parent, Vec::new()).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn changes_are_told_apart_as_added_modified_and_deleted_and_sorted() {
    let upper = Upper::new();
    upper.folder("d").file("d/old", "").file("d/new", "").whiteout("d/gone").whiteout("never-there");
    let parent = Model::default().folder("d").file("d/old").file("d/gone").file("d/untouched");
    let expected = ["M Files/d", "D Files/d/gone", "A Files/d/new", "M Files/d/old"];
    assert_eq!(upper.changes(&parent), expected);
}

#[test]
fn content_is_written_and_counted_once_for_all_its_names() {
    let upper = Upper::new();
    upper.file("a", "12345").file("b", "123");
    std::fs::hard_link(upper.path("a"), upper.path("c")).unwrap();
    assert_eq!(content_size(&upper.open(), &DiffLimits::default()).unwrap(), 8);
    let parent = Model::default();
    assert_eq!(upper.entry(&parent, "Files/a").data, b"12345");
    let link = upper.entry(&parent, "Files/c");
    assert_eq!((link.link_name, link.layer.unwrap().type_flag), (b"Files/a".to_vec(), b'1'));
}
