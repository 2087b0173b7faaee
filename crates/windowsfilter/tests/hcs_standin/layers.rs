//! Layers for tests of the Windows engine, over recorded calls and over the stand-in.

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{BackupSource, FileInfo, LayerEntry, Writer};

/// The time of everything in them.
pub(crate) const TIME: u64 = 132_444_736_001_234_567;

/// A layer tar, entry by entry.
pub(crate) struct TestTar(Writer<Vec<u8>>);

impl TestTar {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn dir(mut self, name: &str) -> Self {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), Self::info(FILE_ATTRIBUTE_DIRECTORY));
        self.0.write_file(&entry, &mut std::io::empty()).unwrap();
        self
    }

    pub(crate) fn file(mut self, name: &str, content: &[u8]) -> Self {
        let info = Self::info(FILE_ATTRIBUTE_ARCHIVE);
        let entry =
            LayerEntry { size: content.len() as u64, ..LayerEntry::new(name.as_bytes().to_vec(), info) };
        self.0.write_file(&entry, &mut &content[..]).unwrap();
        self
    }

    /// A directory that is a mount point.
    pub(crate) fn junction(mut self, name: &str, target: &str) -> Self {
        let info = Self::info(FILE_ATTRIBUTE_DIRECTORY | hcs::attribute::REPARSE_POINT);
        let reparse = wclayer::reparse::encode_go(target, true).unwrap();
        let mut stream = wclayer::backup_stream::Writer::new(Vec::new());
        stream.record(wclayer::backup_stream::REPARSE_DATA, &reparse).unwrap();
        let stream = stream.finish().unwrap();
        let path = name.replace('/', "\\");
        self.0
            .write_backup_stream(path.as_bytes(), 0, info, BackupSource::Forward(&mut &stream[..]))
            .unwrap();
        self
    }

    pub(crate) fn link(mut self, name: &str, target: &str) -> Self {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), Self::info(FILE_ATTRIBUTE_ARCHIVE));
        self.0.write_link(&entry, target.as_bytes()).unwrap();
        self
    }

    pub(crate) fn delete(mut self, name: &str) -> Self {
        self.0.write_whiteout(name.replace('/', "\\").as_bytes()).unwrap();
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

/// A base layer with a utility VM.
pub(crate) fn base_tar() -> Vec<u8> {
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
pub(crate) fn delta_tar() -> Vec<u8> {
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

/// A layer whose paths are longer than Windows takes without further ado, and its deepest file.
pub(crate) struct DeepTree {
    pub(crate) tar: Vec<u8>,
    pub(crate) file: String,
}

pub(crate) fn deep_tree() -> DeepTree {
    let mut path = "Files".to_owned();
    let mut tar = TestTar::new().dir("Files");
    while path.len() < 300 {
        path.push_str("/node_modules_of_some_package");
        tar = tar.dir(&path);
    }
    let file = format!("{path}/index.js");
    DeepTree { tar: tar.file(&file, b"deep").dir("Hives").tar(), file }
}
