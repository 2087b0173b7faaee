//! The files of the fake Windows. They are real files, so that names, directories and hard links behave as
//! real ones. Attributes, times and backup streams, which files of this system cannot hold, are kept in a map
//! by inode.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hcs::{
    BackupTarget, BasicInfo, Code, Error, FileStatus, RelativePath, Result, StreamName, Tree, attribute,
};
use wclayer::attributes::FILE_ATTRIBUTE_ARCHIVE;
use wclayer::backup_stream::{self as backup, Reader, Writer};

use super::TIME;
use super::fake_host::FakeHost;

/// What is kept of a file besides its name and path.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) info: BasicInfo,
    /// The backup stream restored into it; `None` for a file with its own bytes.
    pub(super) stream: Option<Vec<u8>>,
}

/// A file's inode number and birth time, since numbers are reused.
type Identity = (u64, SystemTime);

/// Nodes by identity, and the placeholders in layers for files of their parents.
#[derive(Debug, Default)]
pub(super) struct Nodes(HashMap<Identity, Node>, HashMap<PathBuf, Identity>);

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.ino(), metadata.created().unwrap_or(SystemTime::UNIX_EPOCH)))
}

impl Nodes {
    pub(super) fn at(&self, path: &Path) -> Option<Node> {
        Some(self.0.get(&identity(path)?).cloned().unwrap_or_default())
    }

    pub(super) fn set(&mut self, path: &Path, node: Node) {
        self.0.insert(identity(path).unwrap(), node);
    }

    fn is_placeholder(&self, path: &Path) -> bool {
        self.1.get(path).is_some_and(|placeholder| identity(path) == Some(*placeholder))
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(&mut Node)) {
        change(self.0.entry(identity(path).unwrap()).or_default());
    }
}

/// A backup stream with one record.
pub(super) fn stream(id: u32, data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.record(id, data).unwrap();
    writer.finish().unwrap()
}

/// The data of the first record with this ID.
pub(super) fn record(stream: &[u8], id: u32) -> Option<Vec<u8>> {
    let mut reader = Reader::new(stream);
    while let Some(header) = reader.next().unwrap() {
        if header.id == id {
            return Some(reader.read_all(header.size).unwrap());
        }
    }
    None
}

/// The data of an alternate stream; names compare as in NTFS.
fn alternate(stored: &[u8], stream: &StreamName) -> Option<Vec<u8>> {
    let mut reader = Reader::new(stored);
    let wanted = wclayer::name::from_utf16(stream.units());
    while let Some(header) = reader.next().unwrap() {
        let name = header.name.strip_prefix(b":").and_then(|name| name.strip_suffix(b":$DATA"));
        if header.id == backup::ALTERNATE_DATA && name.is_some_and(|name| wclayer::name::eq(name, &wanted)) {
            return Some(reader.read_all(header.size).unwrap());
        }
    }
    None
}

pub(super) fn without_security(stream: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = (Reader::new(stream), Writer::new(Vec::new()));
    while let Some(header) = reader.next().unwrap() {
        let data = reader.read_all(header.size).unwrap();
        if header.id != backup::SECURITY_DATA {
            writer.begin(&header).unwrap();
            writer.write_data(&data).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// The bytes of a file.
pub(super) fn content(host: &FakeHost, path: &Path) -> Option<Vec<u8>> {
    let node = host.machine().nodes.at(path)?;
    match node.stream {
        Some(stream) => Some(record(&stream, backup::DATA).unwrap_or_default()),
        None => fs::read(path).ok(),
    }
}

/// A directory with everything below it.
#[derive(Debug)]
pub(super) struct FakeTree {
    host: FakeHost,
    root: PathBuf,
}

impl FakeTree {
    pub(super) fn open(host: &FakeHost, path: &Path) -> Result<Self> {
        let tree = Self { host: host.clone(), root: path.to_owned() };
        host.call("open tree", path.display().to_string())?;
        if path.is_dir() { Ok(tree) } else { Err(tree.error("open tree", path, Code::PATH_NOT_FOUND)) }
    }

    fn error(&self, call: &'static str, path: &Path, code: Code) -> Error {
        let shown = path.strip_prefix(&self.root).unwrap_or(path);
        Error::new(call, shown.display().to_string(), code)
    }

    /// The path, if none of its directories is a reparse point.
    fn path(&self, call: &'static str, path: &RelativePath) -> Result<PathBuf> {
        let full = if path.is_root() { self.root.clone() } else { path.below(&self.root) };
        let way = full.ancestors().skip(1).take_while(|ancestor| ancestor.starts_with(&self.root));
        for ancestor in way {
            let node = self.host.machine().nodes.at(ancestor);
            if node.is_some_and(|node| is_reparse_point(&node)) {
                return Err(self.error(call, &full, Code::REPARSE_POINT_ENCOUNTERED));
            }
        }
        Ok(full)
    }

    fn existing(&self, call: &'static str, path: &RelativePath) -> Result<PathBuf> {
        let full = self.path(call, path)?;
        match fs::symlink_metadata(&full) {
            Ok(_) => Ok(full),
            Err(_) => Err(self.error(call, &full, Code::FILE_NOT_FOUND)),
        }
    }

    fn new_path(&self, call: &'static str, path: &RelativePath) -> Result<PathBuf> {
        let full = self.path(call, path)?;
        match full.parent() {
            _ if full.exists() => Err(self.error(call, &full, Code::ALREADY_EXISTS)),
            Some(parent) if parent.is_dir() => Ok(full),
            _ => Err(self.error(call, &full, Code::PATH_NOT_FOUND)),
        }
    }

    fn full(&self, path: &RelativePath) -> String {
        path.below(&self.root).display().to_string()
    }
}

fn is_reparse_point(node: &Node) -> bool {
    node.stream.as_ref().is_some_and(|stream| record(stream, backup::REPARSE_DATA).is_some())
}

/// A file with its own bytes.
#[derive(Debug)]
pub(super) struct RawFile {
    host: FakeHost,
    file: File,
    path: PathBuf,
}

impl Read for RawFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for RawFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.host.call("write", self.path.display().to_string())?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for RawFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// Receives a backup stream.
#[derive(Debug)]
pub(super) struct Restoring {
    host: FakeHost,
    path: PathBuf,
    security: bool,
}

impl Write for Restoring {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.host.call("BackupWrite", self.path.display().to_string())?;
        self.host.machine().nodes.change(&self.path, |node| {
            node.stream.get_or_insert_default().extend_from_slice(bytes);
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if !self.security {
            self.host.machine().nodes.change(&self.path, |node| {
                node.stream = node.stream.take().map(|stream| without_security(&stream));
            });
        }
    }
}

impl Tree for FakeTree {
    type File = RawFile;
    type BackupReader = Cursor<Vec<u8>>;
    type BackupWriter = Restoring;

    fn root(&self) -> &Path {
        &self.root
    }

    fn status(&self, path: &RelativePath) -> Result<FileStatus> {
        let full = self.existing("status", path)?;
        let metadata = fs::symlink_metadata(&full).unwrap();
        let node = self.host.machine().nodes.at(&full).unwrap();
        let mut info = node.info;
        // The attributes that a file system sets if none are given.
        match metadata.is_dir() {
            true => info.attributes |= attribute::DIRECTORY,
            false if info.attributes == 0 => info.attributes = FILE_ATTRIBUTE_ARCHIVE,
            false => {}
        }
        if is_reparse_point(&node) {
            info.attributes |= attribute::REPARSE_POINT;
        }
        let data = node.stream.and_then(|stream| record(&stream, backup::DATA));
        let links = if metadata.is_dir() { 1 } else { metadata.nlink() };
        Ok(FileStatus {
            info,
            size: data.map_or(metadata.len(), |data| data.len() as u64),
            links: links.try_into().unwrap(),
            id: u128::from(metadata.ino()).to_le_bytes(),
        })
    }

    fn list(&self, path: &RelativePath) -> Result<Vec<Vec<u16>>> {
        let full = self.existing("list", path)?;
        let names = super::names(&full);
        Ok(names.iter().map(|name| name.encode_utf16().collect()).collect())
    }

    fn make_directory(&self, path: &RelativePath) -> Result<()> {
        self.host.call("mkdir", self.full(path))?;
        fs::create_dir(self.new_path("mkdir", path)?).unwrap();
        Ok(())
    }

    fn create_file(&self, path: &RelativePath, info: &BasicInfo) -> Result<RawFile> {
        self.host.call("create", self.full(path))?;
        let full = self.new_path("create", path)?;
        let file = File::create_new(&full).unwrap();
        self.host.machine().nodes.set(&full, Node { info: *info, stream: None });
        Ok(RawFile { host: self.host.clone(), file, path: full })
    }

    fn open_file(&self, path: &RelativePath) -> Result<RawFile> {
        self.host.call("open", self.full(path))?;
        let full = self.existing("open", path)?;
        Ok(RawFile { host: self.host.clone(), file: File::open(&full).unwrap(), path: full })
    }

    fn backup_read(&self, path: &RelativePath, security: bool) -> Result<Cursor<Vec<u8>>> {
        self.host.call("BackupRead", self.full(path))?;
        assert!(self.host.machine().privileges > 0, "read without the right to");
        let full = self.existing("BackupRead", path)?;
        let stream = match self.host.machine().nodes.at(&full).unwrap().stream {
            Some(stream) => stream,
            None if full.is_file() => stream(backup::DATA, &fs::read(&full).unwrap()),
            None => Vec::new(),
        };
        Ok(Cursor::new(if security { stream } else { without_security(&stream) }))
    }

    fn backup_write(
        &self,
        path: &RelativePath,
        target: BackupTarget,
        info: &BasicInfo,
        security: bool,
    ) -> Result<Restoring> {
        self.host.call("restore", self.full(path))?;
        assert!(self.host.machine().privileges > 0, "written without the right to");
        let full = match target {
            BackupTarget::Existing => self.existing("restore", path)?,
            BackupTarget::NewFile => {
                let full = self.new_path("restore", path)?;
                File::create_new(&full).unwrap();
                full
            }
            BackupTarget::NewDirectory => {
                let full = self.new_path("restore", path)?;
                fs::create_dir(&full).unwrap();
                full
            }
        };
        self.host.machine().nodes.set(&full, Node { info: *info, stream: Some(Vec::new()) });
        Ok(Restoring { host: self.host.clone(), path: full, security })
    }

    fn set_directory_info(&self, path: &RelativePath, info: &BasicInfo) -> Result<()> {
        self.host.call("set times", self.full(path))?;
        let full = self.existing("set times", path)?;
        self.host.machine().nodes.change(&full, |node| node.info = *info);
        Ok(())
    }

    fn link(&self, path: &RelativePath, from: &Self, target: &RelativePath) -> Result<()> {
        self.host.call("link", format!("{}, {}", self.full(path), from.full(target)))?;
        let (old, new) = (from.existing("link", target)?, self.new_path("link", path)?);
        fs::hard_link(old, new).unwrap();
        Ok(())
    }

    fn remove(&self, path: &RelativePath) -> Result<()> {
        self.host.call("remove", self.full(path))?;
        let full = self.existing("remove", path)?;
        let machine = self.host.machine();
        if machine.nodes.is_placeholder(&full) && full.is_dir() && !machine.copies_parents {
            // Its files are only the parent's.
            fs::remove_dir_all(full).unwrap();
            return Ok(());
        }
        let removed = if full.is_dir() { fs::remove_dir(full) } else { fs::remove_file(full) };
        match removed {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                Err(Error::new("remove", path.to_string(), Code::DIR_NOT_EMPTY))
            }
            other => {
                other.unwrap();
                Ok(())
            }
        }
    }

    fn open_sequential(&self, path: &RelativePath) -> Result<Box<dyn Read + Send>> {
        self.host.call("open sequential", self.full(path))?;
        assert!(self.host.machine().privileges > 0, "opened without the right to");
        let full = self.existing("open sequential", path)?;
        if self.host.machine().nodes.at(&full).is_some_and(|node| is_reparse_point(&node)) {
            return Err(self.error("open sequential", &full, Code::REPARSE_POINT_ENCOUNTERED));
        }
        Ok(Box::new(Cursor::new(content(&self.host, &full).unwrap_or_default())))
    }

    fn open_stream(&self, path: &RelativePath, stream: &StreamName) -> Result<Box<dyn Read + Send>> {
        self.host.call("open stream", format!("{}:{stream}", self.full(path)))?;
        assert!(self.host.machine().privileges > 0, "opened without the right to");
        let full = self.existing("open stream", path)?;
        let stored = self.host.machine().nodes.at(&full).and_then(|node| node.stream).unwrap_or_default();
        match alternate(&stored, stream) {
            Some(data) => Ok(Box::new(Cursor::new(data))),
            None => Err(self.error("open stream", &full, Code::FILE_NOT_FOUND)),
        }
    }

    fn refuse_reparse_point(&self, path: &RelativePath) -> Result<()> {
        self.host.call("refuse reparse points", self.full(path))?;
        let full = self.existing("refuse reparse points", path)?;
        let node = self.host.machine().nodes.at(&full).unwrap();
        if is_reparse_point(&node) {
            return Err(self.error("refuse reparse points", &full, Code::REPARSE_POINT_ENCOUNTERED));
        }
        Ok(())
    }
}

const DIRECTORY_SUFFIX: &str = ".$wcidirs$";

/// All paths below a directory, parents first.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in super::names(dir) {
        let path = dir.join(name);
        found.push(path.clone());
        if path.is_dir() {
            found.extend(walk(&path));
        }
    }
    found
}

/// The content of a transport directory: for files their bytes, or the backup stream restored into them.
pub(super) fn snapshot(host: &FakeHost, transport: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let name = |path: &PathBuf| path.strip_prefix(transport).unwrap().to_string_lossy().into_owned();
    let bytes = |path: &PathBuf| {
        let restored = host.machine().nodes.at(path).and_then(|node| node.stream);
        restored.or_else(|| fs::read(path).ok())
    };
    walk(transport).iter().map(|path| (name(path), bytes(path))).collect()
}

/// Imitates the visible effects of `ImportLayer`: files get the content of their backup streams, and the
/// nearest parent's files appear beside them, so that removing one hides it from readers of the layer (this
/// is how hcsshim applies deletions).
pub(super) fn import(host: &FakeHost, transport: &Path, layer: &Path, parent: &Path) {
    import_own(host, transport, layer);
    let files = parent.join("Files");
    for source in walk(&files) {
        let target = layer.join("Files").join(source.strip_prefix(&files).unwrap());
        let mut machine = host.machine();
        let directory = machine.nodes.at(target.parent().unwrap());
        let has_place =
            target.parent().unwrap().is_dir() && directory.is_some_and(|node| !is_reparse_point(&node));
        if !has_place || fs::symlink_metadata(&target).is_ok() {
            continue;
        }
        if source.is_dir() {
            fs::create_dir(&target).unwrap();
            let node = machine.nodes.at(&source).unwrap();
            machine.nodes.set(&target, node);
        } else {
            fs::hard_link(&source, &target).unwrap();
        }
        let placeholder = identity(&target).unwrap();
        machine.nodes.1.insert(target, placeholder);
    }
}

fn import_own(host: &FakeHost, transport: &Path, layer: &Path) {
    let imported = snapshot(host, transport);
    host.machine().imported = imported;
    for source in walk(transport) {
        let relative = source.strip_prefix(transport).unwrap();
        let text = relative.to_string_lossy().into_owned();
        let stored = text.starts_with("Files/") || !source.is_dir();
        let target = layer.join(text.strip_suffix(DIRECTORY_SUFFIX).unwrap_or(&text));
        if source.is_dir() || text.ends_with(DIRECTORY_SUFFIX) {
            fs::create_dir_all(&target).unwrap();
        } else {
            fs::write(&target, b"").unwrap();
        }
        if source.is_dir() || !stored {
            continue;
        }
        let mut node = host.machine().nodes.at(&source).unwrap();
        if text.starts_with("Hives/") && node.stream.is_some() {
            host.machine().nodes.set(&target, node);
            continue;
        }
        let bytes = fs::read(&source).unwrap();
        node.info.attributes = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        node.stream = Some(bytes[4..].to_vec());
        host.machine().nodes.set(&target, node);
    }
}

/// Records a layer's deletions: the parent's files that were added to the layer and are no longer there. For
/// sandboxes, the test sets the deletions itself.
pub(super) fn note_deletions(host: &FakeHost, layer: &Path, parent: &Path, id: &str) {
    if layer.join("sandbox.vhdx").exists() {
        return;
    }
    let files = parent.join("Files");
    let mut deleted: Vec<PathBuf> = Vec::new();
    for source in walk(&files) {
        let relative = source.strip_prefix(&files).unwrap();
        let target = layer.join("Files").join(relative);
        let is_gone = fs::symlink_metadata(&target).is_err() && target.parent().unwrap().is_dir();
        if is_gone && !deleted.iter().any(|above| relative.starts_with(above)) {
            deleted.push(relative.to_owned());
        }
    }
    let tombstones = &mut host.machine().tombstones;
    for path in deleted {
        let tombstone = (id.to_owned(), path.to_string_lossy().replace('/', r"\"));
        if !tombstones.contains(&tombstone) {
            tombstones.push(tombstone);
        }
    }
}

/// Imitates the visible effects of `ExportLayer`.
pub(super) fn export(host: &FakeHost, layer: &Path, transport: &Path, id: &str) {
    let mut tombstones = "\u{feff}Version 1.0\r\n".to_owned();
    for (of, path) in &host.machine().tombstones {
        if of == id {
            tombstones.push_str(&format!("\\{path}\r\n"));
        }
    }
    fs::write(transport.join("tombstones.txt"), tombstones).unwrap();
    for source in walk(layer) {
        let relative = source.strip_prefix(layer).unwrap().to_string_lossy().into_owned();
        let part = relative.split('/').next().unwrap();
        if !["Files", "Hives", "UtilityVM"].contains(&part) || host.machine().nodes.is_placeholder(&source) {
            continue;
        }
        let node = host.machine().nodes.at(&source).unwrap();
        let target = transport.join(&relative);
        let is_below_files = relative.starts_with("Files/");
        if source.is_dir() {
            fs::create_dir(&target).unwrap();
        }
        let stream = node.stream.clone().unwrap_or_default();
        if !is_below_files {
            if !source.is_dir() {
                fs::write(&target, b"").unwrap();
            }
            host.machine().nodes.set(&target, Node { stream: Some(without_security(&stream)), ..node });
            continue;
        }
        let stored = if source.is_dir() {
            PathBuf::from(format!("{}{DIRECTORY_SUFFIX}", target.display()))
        } else {
            target
        };
        let bytes = [&node.info.attributes.to_le_bytes()[..], &stream].concat();
        fs::write(&stored, bytes).unwrap();
        let info = BasicInfo { attributes: 0, ..node.info };
        host.machine().nodes.set(&stored, Node { info, stream: None });
    }
}

/// Imitates the effects of `ProcessUtilityImage` that matter here: it changes the boot store and makes disks.
pub(super) fn change_boot_store(host: &FakeHost, utility_vm: &Path) {
    fs::write(utility_vm.join("SystemTemplate.vhdx"), b"disk").unwrap();
    let store = utility_vm.join("Files/EFI/Microsoft/Boot/BCD");
    if store.exists() {
        let changed = stream(backup::DATA, b"changed boot store");
        host.machine().nodes.change(&store, |node| node.stream = Some(changed));
    }
}

/// File information with these attributes and the common time.
pub(super) fn info(attributes: u32) -> BasicInfo {
    let time = TIME.cast_signed();
    BasicInfo {
        creation_time: time,
        last_access_time: time,
        last_write_time: time,
        change_time: time,
        attributes,
    }
}

/// Creates a file with a backup stream, as a container might have.
pub(super) fn put(host: &FakeHost, path: &Path, info: BasicInfo, stream: Vec<u8>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if info.attributes & attribute::DIRECTORY != 0 {
        fs::create_dir_all(path).unwrap();
    } else {
        fs::write(path, b"").unwrap();
    }
    host.machine().nodes.set(path, Node { info, stream: Some(stream) });
}
