//! Imports layers of the reference implementation through the engine and exports them again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use wclayer::layer_tar::{FileInfo, import};
use wclayer::tar::{Reader, type_flag};
use wclayer::transport::{Directory, Metadata, Writer};

use super::{Fixture, id, names, read_all};
use crate::Driver;

fn cases() -> Vec<(String, PathBuf)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/backuptar");
    names(&dir).into_iter().map(|name| (name.clone(), dir.join(name))).collect()
}

/// The files of a tar by name, with all their bytes including headers. Without links, deletions and entries
/// outside `Files`, whose times the transport format changes.
fn files(tar: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut reader = Reader::new(tar);
    let mut starts = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let is_file = header.type_flag != type_flag::LINK && header.name.starts_with(b"Files/");
        starts.push((header.offset, is_file.then_some(header.name)));
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([tar.len() as u64 - 1024]);
    let bytes =
        |start: u64, end: u64| tar[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].to_vec();
    let files = starts.iter().zip(ends).filter_map(|((start, name), end)| {
        let name = name.clone()?;
        let is_deletion =
            name.rsplit(|&byte| byte == b'/').next().is_some_and(|last| last.starts_with(b".wh."));
        (!is_deletion).then(|| (name, bytes(*start, end)))
    });
    files.collect()
}

#[test]
fn the_files_of_a_diff_are_written_as_the_reference_writes_them() {
    let mut compared = 0;
    for (name, dir) in cases() {
        let fixture = Fixture::with_layers();
        let tar = fs::read(dir.join("in.tar")).unwrap();
        let Ok(out) = fs::read(dir.join("out.tar")) else { continue };
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.join("entries.json")).unwrap()).unwrap();
        // The reference loses times and reorders attributes, ours does not (`vectors/README.md`).
        let is_exact = ["wraps", "ea_order"].iter().all(|flag| json["flags"][flag].is_null());
        // The reference writes repeated names twice, which Windows refuses. It also makes a file from a
        // global header that has the name of one; both of our engines skip global headers.
        if !is_exact || ["duplicates", "pax-global"].contains(&&*name) {
            continue;
        }
        if fixture.store.apply_diff(&id("layer"), Some(&id("base")), &mut &tar[..]).is_err() {
            continue;
        }
        let diff = files(&read_all(fixture.store.diff(&id("layer"), None).unwrap()));
        for (path, expected) in files(&out) {
            let path_text = String::from_utf8_lossy(&path).into_owned();
            let ours =
                diff.get(&path).unwrap_or_else(|| panic!("{name}: no {path_text} in {:?}", diff.keys()));
            assert!(*ours == expected, "{name}: {path_text} is written in another way");
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} files were compared");
}

/// The content of a transport directory: for files their bytes, or the backup stream to restore.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// A file that adds its bytes to the tree when it is dropped.
struct Sink {
    tree: Rc<RefCell<Tree>>,
    path: String,
    bytes: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.tree.borrow_mut().insert(self.path.clone(), Some(std::mem::take(&mut self.bytes)));
    }
}

/// A transport directory in memory.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Tree>>);

impl Shared {
    fn sink(&self, path: &[u8]) -> Sink {
        let path = String::from_utf8_lossy(path).replace('\\', "/");
        Sink { tree: Rc::clone(&self.0), path, bytes: Vec::new() }
    }
}

impl Directory for Shared {
    type Source = Cursor<Vec<u8>>;
    type BackupSource = Cursor<Vec<u8>>;
    type Sink = Sink;
    type BackupSink = Sink;

    fn list(&self, _: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn metadata(&self, _: &[u8]) -> io::Result<Metadata> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open(&self, _: &[u8]) -> io::Result<Self::Source> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn backup_read(&self, _: &[u8]) -> io::Result<Self::BackupSource> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_directory(&mut self, path: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().insert(String::from_utf8_lossy(path).replace('\\', "/"), None);
        Ok(())
    }

    fn create(&mut self, path: &[u8], _: &FileInfo) -> io::Result<Sink> {
        Ok(self.sink(path))
    }

    fn backup_write(&mut self, path: &[u8], _: &FileInfo, _: bool) -> io::Result<Sink> {
        Ok(self.sink(path))
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let path = String::from_utf8_lossy(path).replace('\\', "/");
        let below = format!("{path}/");
        self.0.borrow_mut().retain(|other, _| *other != path && !other.starts_with(&below));
        Ok(())
    }

    fn link(&mut self, _: &[u8], _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[test]
fn the_engines_transport_directories_are_those_of_wclayer() {
    let mut compared = 0;
    for (name, dir) in cases() {
        let tar = fs::read(dir.join("in.tar")).unwrap();
        let mut shared = Shared::default();
        let mut writer = Writer::new(&mut shared);
        if import(&tar[..], &mut writer).is_err() || writer.finish().is_err() {
            continue;
        }
        let fixture = Fixture::with_layers();
        if fixture.store.apply_diff(&id("layer"), Some(&id("base")), &mut &tar[..]).is_err() {
            continue;
        }
        let mut expected = shared.0.borrow().clone();
        // The utility VM is in the layer, not in the directory; hives are restored without security
        // descriptors.
        expected.retain(|path, _| !path.starts_with("UtilityVM"));
        for (path, bytes) in &mut expected {
            if path.starts_with("Hives/")
                && let Some(bytes) = bytes
            {
                *bytes = super::fake_tree::without_security(bytes);
            }
        }
        // Every imported directory has `Hives`.
        expected.entry("Hives".to_owned()).or_insert(None);
        let engines = fixture.host.machine().imported.clone();
        assert_eq!(engines, expected, "{name}");
        compared += 1;
    }
    assert!(compared >= 26, "only {compared} cases were compared");
}
