//! The engine driven through the store, on a Windows that is recorded: every call with its arguments, in order, and what is left behind when
//! one of them fails.

mod creation;
mod diffs;
mod docker_home;
mod failures;
mod fake_host;
mod fake_tree;
mod imports;
mod mounting;
mod removal;
mod vectors;

use std::io::Read;
use std::path::{Path, PathBuf};

use fake_host::FakeHost;
use fake_tree::stream;
use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};

use super::ImportProcess;
use crate::{Driver, LayerId, LayerStore, StorageOptions};

fn id(text: &str) -> LayerId {
    LayerId::new(text).unwrap()
}

/// A time that tests give to everything.
const TIME: u64 = 132_444_736_001_234_567;

/// A store in a directory that goes with it.
struct Fixture {
    host: FakeHost,
    store: LayerStore,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::on(FakeHost::default())
    }

    fn on(host: FakeHost) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap().join("home");
        host.set_root(home.parent().unwrap());
        let store = open(&home, host.clone());
        Self { host, store, dir }
    }

    /// With the base layer `base` and the layer `app` on it; what it took is forgotten.
    fn with_layers() -> Self {
        let fixture = Self::new();
        fixture.store.apply_diff(&id("base"), None, &mut &base_tar()[..]).unwrap();
        let tar = TestTar::new().dir("Files").file("Files/app.txt", b"app").tar();
        fixture.store.apply_diff(&id("app"), Some(&id("base")), &mut &tar[..]).unwrap();
        fixture.host.forget();
        fixture
    }

    /// As [`Self::with_layers`], and the sandbox `box` on `app`.
    fn with_sandbox() -> Self {
        let fixture = Self::with_layers();
        fixture.store.create_read_write(&id("box"), Some(&id("app")), StorageOptions::default(), "").unwrap();
        fixture.host.forget();
        fixture
    }

    fn home(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("home")
    }

    /// Names in the home, without the store's own directory.
    fn names(&self) -> Vec<String> {
        names(&self.home()).into_iter().filter(|name| name != ".windowsfilter").collect()
    }

    /// What nobody must leave: temporary directories, staged layers, marks.
    fn leftovers(&self) -> Vec<String> {
        let own = self.home().join(".windowsfilter");
        ["tmp", "staging", "incomplete"].iter().flat_map(|dir| names(&own.join(dir))).collect()
    }
}

fn open(home: &Path, host: FakeHost) -> LayerStore {
    LayerStore::open_hcs(home, StorageOptions::default(), host, ImportProcess::Here).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn read_all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A layer tar, entry by entry.
struct TestTar(Writer<Vec<u8>>);

impl TestTar {
    fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn info(attributes: u32) -> FileInfo {
        let time = FileTime(TIME);
        FileInfo {
            attributes,
            creation_time: time,
            last_access_time: time,
            last_write_time: time,
            change_time: time,
        }
    }

    fn dir(mut self, name: &str) -> Self {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), Self::info(FILE_ATTRIBUTE_DIRECTORY));
        self.0.write_file(&entry, &mut std::io::empty()).unwrap();
        self
    }

    fn file(mut self, name: &str, content: &[u8]) -> Self {
        let info = Self::info(FILE_ATTRIBUTE_ARCHIVE);
        let entry =
            LayerEntry { size: content.len() as u64, ..LayerEntry::new(name.as_bytes().to_vec(), info) };
        self.0.write_file(&entry, &mut &content[..]).unwrap();
        self
    }

    /// A directory that is a mount point.
    fn junction(mut self, name: &str, target: &str) -> Self {
        let info = Self::info(FILE_ATTRIBUTE_DIRECTORY | hcs::attribute::REPARSE_POINT);
        let reparse = wclayer::reparse::encode_go(target, true).unwrap();
        let mut bytes = wclayer::backup_stream::Writer::new(Vec::new());
        bytes.record(wclayer::backup_stream::REPARSE_DATA, &reparse).unwrap();
        let bytes = bytes.finish().unwrap();
        self.0
            .write_backup_stream(
                name.replace('/', "\\").as_bytes(),
                0,
                info,
                wclayer::layer_tar::BackupSource::Forward(&mut &bytes[..]),
            )
            .unwrap();
        self
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), Self::info(FILE_ATTRIBUTE_ARCHIVE));
        self.0.write_link(&entry, target.as_bytes()).unwrap();
        self
    }

    fn delete(mut self, name: &str) -> Self {
        self.0.write_whiteout(name.replace('/', "\\").as_bytes()).unwrap();
        self
    }

    fn tar(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// A base layer with a utility VM.
fn base_tar() -> Vec<u8> {
    TestTar::new()
        .dir("Files")
        .dir("Files/Windows")
        .file("Files/Windows/notepad.exe", b"MZ notepad")
        .file("Files/readme.txt", b"read me")
        .dir("UtilityVM")
        .dir("UtilityVM/Files")
        .dir("UtilityVM/Files/EFI")
        .dir("UtilityVM/Files/EFI/Microsoft")
        .dir("UtilityVM/Files/EFI/Microsoft/Boot")
        .file("UtilityVM/Files/EFI/Microsoft/Boot/BCD", b"boot store")
        .file("UtilityVM/Files/kernel.exe", b"MZ kernel")
        .tar()
}

/// A layer with everything that only layers with parents have.
fn delta_tar() -> Vec<u8> {
    TestTar::new()
        .dir("Files")
        .file("Files/new.txt", b"new")
        .link("Files/same.txt", "Files/new.txt")
        .link("Files/old.txt", "Files/readme.txt")
        .junction("Files/junction", r"C:\Windows")
        .delete("Files/Windows/notepad.exe")
        .dir("Hives")
        .file("Hives/System_Delta", b"hive")
        .dir("UtilityVM")
        .dir("UtilityVM/Files")
        .file("UtilityVM/Files/added.exe", b"added")
        .delete("UtilityVM/Files/kernel.exe")
        .tar()
}

/// The GUID that the recorded Windows has for a name, as the calls show it.
fn guid(name: &str) -> String {
    fake_host::guid(name).to_string()
}

/// The chain of what stands on `app`, as the calls show it.
fn chain() -> String {
    format!("[{}:0:ROOT/home/app, {}:0:ROOT/home/base]", guid("app"), guid("base"))
}
