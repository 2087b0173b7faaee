//! The rules of importing, one by one, and that no tar makes it panic.

mod places;

use std::io::{Read, Write};
use std::path::PathBuf;

use erofs_index::{FileType, Image, InodeInfo, Namespace, Nid};
use wclayer::tar::{NewEntry, PaxRecords, Writer};

use super::*;
use crate::engine::portable::xattrs::{StreamContent, Win32Metadata};

struct Tar(Writer<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    fn put(mut self, flag: u8, name: &str, link: &str, data: &[u8], records: &[(&str, &str)]) -> Self {
        let mut pax = PaxRecords::default();
        for (key, value) in records {
            pax.insert(key.as_bytes(), value.as_bytes());
        }
        let entry = NewEntry {
            type_flag: flag,
            name: name.as_bytes(),
            link_name: link.as_bytes(),
            size: data.len() as u64,
            records: Some(&pax),
            ..NewEntry::default()
        };
        self.0.begin(&entry).unwrap();
        self.0.write_data(data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.put(b'0', name, "", data.as_bytes(), &[])
    }

    fn dir(self, name: &str) -> Self {
        self.put(b'5', name, "", b"", &[])
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.put(b'1', name, target, b"", &[])
    }

    fn bytes(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }

    fn import(self) -> Layer {
        Layer::import(&self.bytes(), Expect::default()).unwrap()
    }

    fn refused(self) -> String {
        match Layer::import(&self.bytes(), Expect::default()) {
            Err(Error::Entry { reason, .. }) => reason,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("taken in"),
        }
    }
}

struct Layer {
    imported: Imported,
    tar: Vec<u8>,
    image: Image<Vec<u8>>,
}

impl Layer {
    fn import(blob: &[u8], expect: Expect) -> Result<Self, Error> {
        Self::import_with(blob, expect, &Limits::default())
    }

    fn import_with(blob: &[u8], expect: Expect, limits: &Limits) -> Result<Self, Error> {
        let dir = tempfile::tempdir().unwrap();
        let blob: Box<dyn Read + Send> = Box::new(blob);
        let imported =
            import(dir.path(), ImportRequest { blob, expect, progress: &(), label: "test".into() }, limits)?;
        let rebuilt = dir.path().join("again");
        let temporaries = dir.path().join("tmp");
        std::fs::create_dir(&temporaries).unwrap();
        let temporaries = Temporaries::new(temporaries);
        let again = rebuild_index(&dir.path().join("layer.tar"), imported.diff_id, &rebuilt, &temporaries)?;
        assert_eq!((again.index, again.diff_id), (imported.index, imported.diff_id));
        let tar = std::fs::read(dir.path().join("layer.tar")).unwrap();
        let index = std::fs::read(dir.path().join("layer.erofs")).unwrap();
        assert_eq!(Some(Digest::of(&index)), imported.index);
        assert_eq!((Digest::of(&tar), tar.len() as u64), (imported.diff_id.0, imported.tar_size));
        Ok(Self { imported, tar, image: Image::open(index).unwrap() })
    }

    fn find(&self, path: &str) -> Option<InodeInfo> {
        let mut node = self.image.inode(self.image.root()).unwrap();
        for name in path.split('/') {
            node = self.image.inode(self.image.lookup(&node, name.as_bytes()).unwrap()?).unwrap();
        }
        Some(node)
    }

    fn nid(&self, path: &str) -> Nid {
        self.find(path).unwrap().nid
    }

    fn read(&self, path: &str) -> Vec<u8> {
        let file = self.find(path).unwrap();
        let Some(extent) = self.image.extent(&file).unwrap() else { return Vec::new() };
        self.tar[extent.offset() as usize..][..file.size as usize].to_vec()
    }

    fn xattr(&self, path: &str, namespace: Namespace, name: &str) -> Option<Vec<u8>> {
        let xattrs = self.image.xattrs(&self.find(path).unwrap()).unwrap();
        xattrs
            .into_iter()
            .find(|(space, found, _)| *space == namespace && found == name.as_bytes())
            .map(|(_, _, value)| value)
    }

    fn marked(&self, path: &str, mark: &str) -> bool {
        self.xattr(path, Namespace::Trusted, mark).as_deref() == Some(b"y")
    }

    fn metadata(&self, path: &str) -> Win32Metadata {
        let xattrs = self.image.xattrs(&self.find(path).unwrap()).unwrap();
        Win32Metadata::from_xattrs(xattrs.iter().map(|(_, name, value)| (&name[..], &value[..])))
    }
}

#[test]
fn files_lie_in_the_tar_and_directories_without_an_entry_are_marked() {
    let layer = Tar::new().file("files/a/B.txt", "hello").dir("Files/d").import();
    assert_eq!(layer.read("Files/a/B.txt"), b"hello");
    assert!(layer.marked("Files", "win32.implicit") && layer.marked("Files/a", "win32.implicit"));
    assert!(!layer.marked("Files/d", "win32.implicit"));
    assert_eq!(layer.metadata("Files/d").attributes, Some(0x10));
    assert_eq!((layer.imported.entries, layer.imported.size), (2, 5));
}

#[test]
fn a_later_entry_wins_and_directories_merge() {
    let layer = Tar::new()
        .file("Files/d/a", "1")
        .file("FILES/D/A", "22")
        .put(b'5', "Files/d", "", b"", &[("MSWINDOWS.fileattr", "18")])
        .file("Files/x/y", "")
        .file("Files/x", "file")
        .import();
    assert_eq!(layer.read("Files/d/A"), b"22");
    assert!(layer.find("Files/d/a").is_none());
    assert_eq!(layer.metadata("Files/d").attributes, Some(0x12));
    assert_eq!(layer.read("Files/x"), b"file");
}

#[test]
fn a_file_has_as_many_streams_as_is_promised_whatever_it_is_called_and_has() {
    // Names as short and as long as they come, small ones and one that stays in the tar, beside many extended
    // attributes.
    let eas: Vec<_> = (0..400).map(|number| (format!("MSWINDOWS.xattr.NAME-{number:03}"), "AA==")).collect();
    let eas: Vec<_> = eas.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let name = |number: usize| format!("{number:x}{}", "n".repeat(number % 231));
    let streams = |count: usize| {
        let file = Tar::new().put(b'0', "Files/f", "", b"data", &eas);
        (0..count).fold(file, |tar, number| tar.file(&format!("Files/f:{}", name(number)), "s"))
    };
    let layer = streams(3000).import();
    let metadata = layer.metadata("Files/f");
    assert_eq!((metadata.streams.len(), metadata.eas.len()), (3000, 400));
    let names = layer.image.xattrs(&layer.find("Files/f").unwrap()).unwrap();
    let bytes: usize = names.iter().map(|(space, name, _)| space.prefix().len() + name.len() + 1).sum();
    assert!(bytes <= 65_536, "{bytes}");
    assert!(streams(3001).refused().contains("more than 3000 streams"));
}

#[test]
fn zeros_behind_the_end_are_padding_and_not_worth_a_word() {
    for (more, notes) in [(vec![0; 10_240], 0), (vec![0; 3 << 20], 0), ([vec![0; 5000], vec![1]].concat(), 1)]
    {
        let tar = [Tar::new().file("Files/a", "x").bytes(), more].concat();
        for blob in [tar.clone(), gzip(&tar)] {
            let layer = Layer::import(&blob, Expect::default()).unwrap();
            assert_eq!((layer.imported.notes.len(), layer.tar.len()), (notes, tar.len()));
        }
    }
}

#[test]
fn contiguous_files_are_files_and_may_be_streams() {
    let layer =
        Tar::new().put(b'7', "Files/x", "", b"data", &[]).put(b'7', "Files/x:s", "", b"s", &[]).import();
    assert_eq!((layer.read("Files/x"), layer.imported.size), (b"data".to_vec(), 4));
    assert_eq!(layer.metadata("Files/x").streams.len(), 1);
}

#[test]
fn backslashes_separate_as_on_windows_and_the_tar_keeps_them() {
    let layer = Tar::new()
        .dir("Files")
        .file(r"Files\d\x", "x")
        .file(r"Files\d\x:s", "s")
        .link(r"Files\l", r"Files\d\x")
        .put(b'0', r"Files\d\.wh.gone", "", b"", &[])
        .import();
    assert_eq!((layer.read("Files/d/x"), layer.nid("Files/l")), (b"x".to_vec(), layer.nid("Files/d/x")));
    assert_eq!(layer.metadata("Files/d/x").streams.len(), 1);
    assert_eq!(
        (layer.find("Files/d/gone").unwrap().kind, layer.imported.whiteouts),
        (FileType::CharDevice, 1)
    );
    assert!(layer.tar.windows(9).any(|bytes| bytes == br"Files\d\x"));
    for name in [r"\Files\x", r"Files\..\x"] {
        assert!(!Tar::new().file(name, "").refused().is_empty(), "{name}");
    }
}

#[test]
fn streams_find_their_file_in_any_order_and_large_ones_stay_in_the_tar() {
    let large = vec![7; 65_536];
    let layer = Tar::new()
        .file("Files/a:Zone", "early")
        .file("files/A", "data")
        .put(b'0', "Files/a:big", "", &large, &[])
        .import();
    let streams = layer.metadata("Files/A").streams;
    assert_eq!(streams.len(), 2);
    for stream in streams {
        match stream.content {
            StreamContent::Inline(bytes) => {
                assert_eq!((&stream.name[..], &bytes[..]), (&b"Zone"[..], &b"early"[..]));
            }
            StreamContent::InTar { origin, size } => {
                assert!(layer.tar[origin.offset as usize..][..size as usize] == large);
            }
        }
    }
    assert_eq!((layer.imported.size, layer.imported.entries), (4, 1));
    assert!(Tar::new().file("Files/a:s", "").refused().contains("no entry for the file"));
}

#[test]
fn what_a_layer_cannot_hold_is_refused() {
    for (flag, word) in [(b'3', "character"), (b'4', "block"), (b'6', "pipe")] {
        let reason = Tar::new().put(flag, "Files/x", "", b"", &[]).refused();
        assert!(reason.contains(word), "{reason}");
    }
    let attributes = |value| [("MSWINDOWS.fileattr", value)];
    assert!(Tar::new().put(b'0', "Files/x", "", b"1", &attributes("16")).refused().contains("directory"));
    assert!(Tar::new().put(b'5', "Files/x", "", b"", &attributes("32")).refused().contains("directory"));
    assert!(Tar::new().file("Files/x", "").file("Files/X/y", "").refused().contains("not a directory"));
    assert!(Tar::new().file("Files", "").refused().contains("directory"));
    assert!(Tar::new().file("Files/../x", "").refused().contains(".."));
}

#[test]
fn what_is_not_of_a_layer_is_passed_over_and_reported() {
    let layer =
        Tar::new().file("etc/passwd", "x").file("Files/a", "").file("Files/.wh..wh.aufs", "").import();
    assert!(layer.find("etc").is_none());
    let note = &layer.imported.notes[0];
    assert!(note.starts_with("2 entries") && note.contains("etc/passwd"), "{note}");
}

#[test]
fn symbolic_links_keep_their_reparse_data_and_lead_nowhere() {
    let layer = Tar::new().put(b'2', "Files/l", "../../etc", b"", &[]).import();
    let link = layer.find("Files/l").unwrap();
    assert_eq!(layer.image.read_link(&link).unwrap(), b"..\\..\\etc");
    assert!(layer.xattr("Files/l", Namespace::Trusted, "win32.reparse").is_some());
}

#[test]
fn a_name_too_long_for_linux_keeps_its_true_name() {
    let long = "é".repeat(150);
    let layer = Tar::new().file(&format!("Files/{long}"), "x").import();
    let files = layer.find("Files").unwrap();
    let entry = layer.image.read_dir(&files).unwrap().next().unwrap().unwrap();
    let name = String::from_utf8(entry.name).unwrap();
    assert!(name.len() <= 255 && name.contains('~'), "{name}");
    assert_eq!(layer.metadata(&format!("Files/{name}")).true_name, Some(long.into_bytes()));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn blobs_are_hashed_as_they_are_and_as_the_tar_they_hold() {
    let tar =
        [Tar::new().file("Files/a", &"abc".repeat(1_000_000)).bytes(), b"behind the end".to_vec()].concat();
    let (start, end) = tar.split_at(1_234_567);
    let zstd = zstd::stream::encode_all(&tar[..], 1).unwrap();
    for blob in [tar.clone(), gzip(&tar), [gzip(start), gzip(end)].concat(), zstd] {
        let expect = Expect {
            blob: Some((Digest::of(&blob), blob.len() as u64)),
            diff_id: Some(DiffId(Digest::of(&tar))),
        };
        let layer = Layer::import(&blob, expect).unwrap();
        assert!(layer.tar == tar && layer.read("Files/a").len() == 3_000_000);
        assert_eq!(layer.imported.blob, expect.blob.unwrap());
        assert_eq!(layer.imported.notes, ["14 bytes behind the end of the tar are kept"]);
    }
}

#[test]
fn broken_blobs_are_one_clear_error() {
    let tar = Tar::new().file("Files/a", "x").bytes();
    let zstd = zstd::stream::encode_all(&tar[..], 1).unwrap();
    let gzip = gzip(&tar);
    let mut flipped = gzip.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    for (blob, words) in [
        (&gzip[..gzip.len() - 3], "gzip data end too early"),
        (&gzip[..5], "gzip data end too early"),
        (&[&gzip[..], b"j"].concat(), "gzip data are followed by something that is not gzip"),
        (&[&gzip[..], b"five!"].concat(), "gzip data are followed by something that is not gzip"),
        (&[&gzip[..], &[0x1f; 5][..]].concat(), "gzip data are followed by something that is not gzip"),
        (&[&gzip[..], b"garbage that is long enough for a header"].concat(), "gzip data are followed by"),
        (&[&gzip[..], &[0; 512][..]].concat(), "gzip data are followed by"),
        (&[&gzip[..], &gzip[..12]].concat(), "gzip data end too early"),
        (&[&zstd[..], b"j"].concat(), "zstd data are followed by something that is not zstd"),
        (&[&zstd[..], b"five!"].concat(), "zstd data are followed by something that is not zstd"),
        (&[&zstd[..], &zstd[..20]].concat(), "zstd data end too early"),
        (&flipped, "gzip data are damaged"),
        (&zstd[..zstd.len() - 3], "zstd data end too early"),
    ] {
        match Layer::import(blob, Expect::default()) {
            Err(error @ Error::Compressed { .. }) => assert!(error.to_string().contains(words), "{error}"),
            other => panic!("{words}: {:?}", other.map(|layer| layer.imported)),
        }
    }
    let truncated = Layer::import(&tar[..512], Expect::default());
    assert!(matches!(truncated, Err(Error::Tar(_))));
}

#[test]
fn a_blob_that_is_not_the_expected_one_is_refused() {
    let blob = gzip(&Tar::new().file("Files/a", "x").bytes());
    let (digest, size, other) = (Digest::of(&blob), blob.len() as u64, Digest::of(b"other"));
    let refused = |blob_expect, diff_id| {
        Layer::import(&blob, Expect { blob: blob_expect, diff_id }).err().unwrap().kind()
    };
    for (expect, diff_id) in [
        (Some((other, size)), None),
        (Some((digest, size + 1)), None),
        (Some((digest, size - 1)), None),
        (Some((digest, size)), Some(DiffId(other))),
    ] {
        assert_eq!(refused(expect, diff_id), crate::error::ErrorKind::Verify);
    }
}

#[test]
fn a_blob_that_cannot_be_read_says_so() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("line cut"))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let request =
        ImportRequest { blob: Box::new(Broken), expect: Expect::default(), progress: &(), label: "x".into() };
    assert!(matches!(import(dir.path(), request, &Limits::default()), Err(Error::Io { .. })));
}

#[test]
fn an_end_that_go_accepts_is_accepted_and_said() {
    let file = |tar: Tar| tar.file("Files/a", "x");
    let unseen = |tar: Tar| tar.file("other", "y");
    let stream = |tar: Tar| tar.file("Files/a:s", "y");
    for (tar, length, words) in [
        (file(Tar::new()), 1024, "without an end marker"),
        (file(Tar::new()), 1536, "half an end marker"),
        (unseen(file(Tar::new())), 1600, "padding"),
        (stream(file(Tar::new())), 1600, "padding"),
    ] {
        let layer = Layer::import(&tar.bytes()[..length], Expect::default()).unwrap();
        let notes = &layer.imported.notes;
        assert!(notes.last().unwrap().contains(words), "{notes:?}");
        assert_eq!(layer.read("Files/a"), b"x");
    }
}

#[test]
fn a_file_whose_last_block_is_not_all_there_is_refused_as_linux_could_not_read_it() {
    let tar = Tar::new().file("Files/a", "x").file("Files/b", &"y".repeat(512)).file("Files/c", "x").bytes();
    for length in [2049 + 512, 3071] {
        let Err(Error::Entry { entry, offset: 2048, reason }) =
            Layer::import(&tar[..length], Expect::default()).map(|_| ())
        else {
            panic!("{length}")
        };
        assert!(entry == "Files/c" && reason.contains("padding"), "{entry}: {reason}");
    }
    // Files/b fills its block, so nothing is missing there.
    Layer::import(&tar[..2048], Expect::default()).unwrap();
    Layer::import(&tar[..3072], Expect::default()).unwrap();
}

#[test]
fn a_tar_without_its_last_padding_is_still_indexed_anew_and_spooled() {
    let dir = tempfile::tempdir().unwrap();
    let tar = &Tar::new().file("Files/a", "x").bytes()[..600];
    let path = dir.path().join("old.tar");
    std::fs::write(&path, tar).unwrap();
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    let temporaries = Temporaries::new(dir.path().join("tmp"));
    let diff_id = DiffId(Digest::of(tar));
    assert!(
        rebuild_index(&path, diff_id, &dir.path().join("layer.erofs"), &temporaries).unwrap().index.is_some()
    );
    let request =
        ImportRequest { blob: Box::new(tar), expect: Expect::default(), progress: &(), label: "x".into() };
    assert_eq!(spool(dir.path(), request, &Limits::default()).unwrap().diff_id, diff_id);
}

/// Cases that the reference accepts and we refuse: an entry that no Windows layer can hold, or a last file
/// that Linux could not read.
const STRICTER: [&str; 11] = [
    "ads-odd",
    "attributes-vs-type",
    "eof-in-data-padding",
    "eof-no-final-padding",
    "export-dir-with-data",
    "huge-sizes-header-only",
    "linux-ustar",
    "odd-names",
    "other-types",
    "sparse-formats",
    "tombstones-odd",
];

#[test]
fn every_vector_is_kept_byte_for_byte_or_refused() {
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/backuptar");
    let (mut taken, mut refused) = (0, Vec::new());
    for case in std::fs::read_dir(vectors).unwrap() {
        let path = case.unwrap().path();
        let bytes = std::fs::read(path.join("in.tar")).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let entries: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path.join("entries.json")).unwrap()).unwrap();
        let reference = &entries["import"];
        match Layer::import(&bytes, Expect::default()) {
            Ok(layer) => {
                taken += 1;
                assert!(layer.tar == bytes, "{name}");
                assert!(
                    reference["error"].is_null() || name == "err-gzip",
                    "{name} was refused by the reference"
                );
                if let Some(size) = reference["total_size"].as_u64() {
                    assert_eq!(layer.imported.size, size, "{name}");
                }
            }
            Err(error) if reference["error"].is_null() => {
                assert!(matches!(error, Error::Entry { .. }), "{name}: {error}");
                refused.push(name);
            }
            Err(_) => {}
        }
    }
    refused.sort();
    assert_eq!(refused, STRICTER);
    assert!(taken > 30, "{taken}");
}

#[test]
fn metadata_that_would_fill_the_memory_are_refused() {
    // Compressed, each of these is small: names of directories that the tar never names, and extended
    // attributes that differ.
    let deep = (0..800).fold(Tar::new(), |tar, i| {
        let name: String = (0..1000).map(|j| format!("/{i:x}-{j:x}")).collect();
        tar.file(&format!("Files{name}"), "")
    });
    let value = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [7; 60_000]);
    let eas = (0..1200).fold(Tar::new(), |tar, i| {
        tar.put(b'0', &format!("Files/{i}"), "", b"", &[(&format!("MSWINDOWS.xattr.A{i}"), &value)])
    });
    for tar in [deep, eas] {
        let reason = tar.refused();
        assert!(reason.contains("MiB of memory"), "{reason}");
    }
}

/// The confinement of the import's threads, observed from the blob that they read and from the progress they
/// report.
#[cfg(target_os = "linux")]
#[test]
fn the_threads_that_parse_a_layer_can_open_nothing() {
    use std::io::ErrorKind;
    use std::sync::Mutex;

    /// Tries to open a file whenever it hears of entries.
    struct Opens(Mutex<Vec<(String, Option<ErrorKind>)>>);
    impl Progress for Opens {
        fn entries(&self, _: u64) {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            let opened = File::open("/proc/self/status").err().map(|error| error.kind());
            self.0.lock().unwrap().push((thread, opened));
        }
    }
    /// Looks, before each read, which threads have a filter of system calls.
    struct Looks<R>(R, Mutex<Vec<String>>);
    impl<R: Read> Read for &mut Looks<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // Threads may end meanwhile.
            for task in std::fs::read_dir("/proc/self/task")?.flatten() {
                let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
                if status.contains("Seccomp:\t2") {
                    let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                    self.1.get_mut().unwrap().push(name.trim().to_owned());
                }
            }
            let some = buffer.len().min(1 << 20);
            self.0.read(&mut buffer[..some])
        }
    }
    // More than the buffers on the way hold, so that both threads have taken some of it by its end.
    let blob = Tar::new().file("Files/a", &"x".repeat(24 << 20)).bytes();
    let mut looks = Looks(&blob[..], Mutex::default());
    let opens = Opens(Mutex::default());
    let dir = tempfile::tempdir().unwrap();
    let request = ImportRequest {
        blob: Box::new(&mut looks),
        expect: Expect::default(),
        progress: &opens,
        label: "x".into(),
    };
    import(dir.path(), request, &Limits::default()).unwrap();
    let opens = opens.0.into_inner().unwrap();
    assert!(!opens.is_empty());
    for (thread, opened) in opens {
        assert_eq!((thread.as_str(), opened), ("layer entries", Some(ErrorKind::PermissionDenied)));
    }
    let filtered = looks.1.into_inner().unwrap();
    // The kernel keeps 15 bytes of a name.
    for thread in ["layer decompres", "layer entries"] {
        assert!(filtered.iter().any(|name| name == thread), "{thread}: {filtered:?}");
    }
    File::open("/proc/self/status").unwrap();
}
