//! Walks of upper directories: the reported entries, and the refused ones.

use super::*;
use rustix::fs::{CWD, XattrFlags};
use std::io::Read;
use tempfile::TempDir;

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
        self
    }
    fn folder(&self, name: &str) -> &Self {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self
    }
    fn device(&self, name: &str, file_type: FileType, number: (u32, u32)) -> &Self {
        let device = rustix::fs::makedev(number.0, number.1);
        rustix::fs::mknodat(CWD, self.path(name), file_type, Mode::from_raw_mode(0o600), device).unwrap();
        self
    }
    fn attribute(&self, name: &str, key: &str, value: &[u8]) -> &Self {
        rustix::fs::lsetxattr(self.path(name), key, value, XattrFlags::empty()).unwrap();
        self
    }
    fn entries(&self) -> Result<Vec<UpperEntry>, LinuxError> {
        UpperDirectory::open(self.0.path()).unwrap().walk(|_| true, None)?.collect()
    }
    fn kinds(&self) -> Vec<(String, UpperKind)> {
        let entries = self.entries().unwrap().into_iter();
        entries.map(|entry| (String::from_utf8(entry.path).unwrap(), entry.kind)).collect()
    }
}

#[test]
fn entries_come_depth_first_and_sorted_by_the_bytes_of_their_names() {
    let upper = Upper::new();
    upper
        .folder("b/inner")
        .folder("B")
        .file("b.txt", "")
        .file("b/z", "1")
        .file("b/inner/x", "12")
        .file("a", "");
    let paths: Vec<_> = upper.kinds().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["B", "a", "b", "b/inner", "b/inner/x", "b/z", "b.txt"]);
}

#[test]
fn every_kind_is_recognised() {
    let upper = Upper::new();
    upper.file("file", "four").folder("folder").folder("opaque").device(
        "gone",
        FileType::CharacterDevice,
        (0, 0),
    );
    upper.attribute("opaque", "trusted.overlay.opaque", b"y");
    upper.device("null", FileType::CharacterDevice, (1, 3)).device("pipe", FileType::Fifo, (0, 0));
    std::os::unix::fs::symlink("/etc/../x", upper.path("link")).unwrap();
    let expected = [
        ("file", UpperKind::File { size: 4 }),
        ("folder", UpperKind::Directory { opaque: false }),
        ("gone", UpperKind::Whiteout),
        ("link", UpperKind::Symlink { target: b"/etc/../x".into() }),
        ("null", UpperKind::Other { mode: 0o20600 }),
        ("opaque", UpperKind::Directory { opaque: true }),
        ("pipe", UpperKind::Other { mode: 0o10600 }),
    ];
    assert_eq!(upper.kinds(), expected.map(|(path, kind)| (path.to_string(), kind)));
}

#[test]
fn whiteouts_by_attribute_count_only_where_the_directory_announces_them() {
    let upper = Upper::new();
    for folder in ["plain", "announced"] {
        let name = format!("{folder}/x");
        upper.folder(folder).file(&name, "").attribute(&name, "trusted.overlay.whiteout", b"");
    }
    upper.attribute("announced", "trusted.overlay.opaque", b"x");
    upper.file("announced/y", "data").attribute("announced/y", "trusted.overlay.whiteout", b"");
    let kinds = upper.kinds();
    assert_eq!(kinds[0].1, UpperKind::Directory { opaque: false });
    assert_eq!(kinds[1], ("announced/x".into(), UpperKind::Whiteout));
    assert_eq!(kinds[2], ("announced/y".into(), UpperKind::File { size: 4 }));
    assert_eq!(kinds[4], ("plain/x".into(), UpperKind::File { size: 0 }));
}

#[test]
fn attributes_of_every_kind_are_read_and_those_of_overlayfs_left_out() {
    let upper = Upper::new();
    upper.file("file", "").folder("folder").device("gone", FileType::CharacterDevice, (0, 0));
    std::os::unix::fs::symlink("nowhere", upper.path("link")).unwrap();
    for name in ["file", "folder", "gone", "link"] {
        upper.attribute(name, "trusted.win32.sd", name.as_bytes());
        upper.attribute(name, "trusted.overlay.origin", b"x");
    }
    upper.attribute("file", "user.b", b"").attribute("file", "user.a", &[0, 1, 2]);
    let entries = upper.entries().unwrap();
    let sd = |name: &str| (b"trusted.win32.sd".to_vec(), name.as_bytes().to_vec());
    let expected = vec![sd("file"), (b"user.a".to_vec(), vec![0, 1, 2]), (b"user.b".to_vec(), vec![])];
    assert_eq!(entries[0].xattrs, expected);
    for entry in &entries[1..] {
        assert_eq!(entry.xattrs, [sd(std::str::from_utf8(&entry.path).unwrap())]);
    }
}

#[test]
fn times_hard_links_and_the_root_are_reported() {
    let upper = Upper::new();
    upper.file("a", "1").attribute("", "user.root", b"1");
    std::fs::hard_link(upper.path("a"), upper.path("b")).unwrap();
    let time = rustix::fs::Timespec { tv_sec: 12_345, tv_nsec: 678_900 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, upper.path("a"), &times, rustix::fs::AtFlags::empty()).unwrap();
    let entries = upper.entries().unwrap();
    assert_eq!(entries[0].inode, entries[1].inode);
    assert_eq!((entries[0].links, entries[0].mtime), (2, (12_345, 678_900)));
    let root = UpperDirectory::open(upper.0.path()).unwrap().root(|_| true).unwrap();
    assert!(root.path.is_empty());
    assert_eq!(root.xattrs, [(b"user.root".to_vec(), b"1".to_vec())]);
}

#[test]
fn redirects_and_metadata_only_copies_are_refused_with_the_path() {
    for attribute in FOREIGN {
        let upper = Upper::new();
        upper.folder("x").file("x/y", "").attribute("x/y", attribute, b"z");
        let error = upper.entries().unwrap_err().to_string();
        assert!(error.starts_with("x/y: ") && error.contains(attribute), "{error}");
    }
}

#[test]
fn a_path_longer_than_the_kernels_limit_is_walked_and_its_file_opened() {
    let upper = Upper::new();
    let name = "n".repeat(60);
    let mut directory: OwnedFd = File::open(upper.0.path()).unwrap().into();
    for level in 0..150 {
        let file =
            rustix::fs::openat(&directory, "z", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600));
        rustix::io::write(file.unwrap(), format!("level {level}").as_bytes()).unwrap();
        rustix::fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o700)).unwrap();
        directory = rustix::fs::openat(&directory, &name, OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let entries = upper.entries().unwrap();
    assert_eq!(entries.len(), 300);
    let longest = entries.iter().map(|entry| &entry.path).rfind(|path| path.ends_with(b"/z"));
    assert_eq!(longest.unwrap().len(), 62, "files come after the folder beside them, the outermost last");
    let deepest =
        entries.iter().map(|entry| &entry.path).filter(|path| path.ends_with(b"/z")).max_by_key(|p| p.len());
    let mut text = String::new();
    let opened = UpperDirectory::open(upper.0.path()).unwrap().open_file(deepest.unwrap()).unwrap();
    { opened }.read_to_string(&mut text).unwrap();
    assert_eq!(text, "level 149");
    assert!(deepest.unwrap().len() > 4096);
}

#[test]
fn opening_follows_no_link_leaves_no_directory_and_opens_only_files() {
    let upper = Upper::new();
    upper.folder("folder").file("folder/file", "x").device("pipe", FileType::Fifo, (0, 0));
    std::os::unix::fs::symlink("folder", upper.path("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", upper.path("passwd")).unwrap();
    let directory = UpperDirectory::open(upper.0.path()).unwrap();
    assert!(directory.open_file(b"folder/file").is_ok());
    let refused: [&[u8]; 7] =
        [b"link/file", b"passwd", b"pipe", b"folder", b"../x", b"/etc/passwd", b"folder/../folder/file/"];
    for path in refused {
        assert!(directory.open_file(path).is_err(), "{} was opened", String::from_utf8_lossy(path));
    }
}

#[test]
fn an_upper_directory_that_is_a_link_is_refused() {
    let upper = Upper::new();
    upper.folder("real");
    std::os::unix::fs::symlink("real", upper.path("link")).unwrap();
    assert!(UpperDirectory::open(&upper.path("link")).is_err());
}

#[test]
fn a_directory_moved_during_the_walk_ends_it_with_an_error() {
    let upper = Upper::new();
    let deep: String = (0..40).map(|level| format!("{level}/")).collect();
    upper.folder(&deep).folder("elsewhere");
    let directory = UpperDirectory::open(upper.0.path()).unwrap();
    let mut walk = directory.walk(|_| true, None).unwrap();
    assert_eq!(walk.by_ref().take(40).filter(Result::is_ok).count(), 40);
    std::fs::rename(upper.path("0/1/2"), upper.path("elsewhere/2")).unwrap();
    let rest: Vec<_> = walk.collect();
    assert!(matches!(rest.last(), Some(Err(LinuxError::Moved { .. }))), "{rest:?}");
}

#[test]
fn only_attributes_that_are_asked_for_are_read_and_not_more_than_fit() {
    let upper = Upper::new();
    upper.file("file", "").attribute("file", "user.a", b"1").attribute("file", "user.b", b"2");
    let directory = UpperDirectory::open(upper.0.path()).unwrap();
    let asked: Wanted = |name| name == b"user.b";
    let b = vec![(b"user.b".to_vec(), b"2".to_vec())];
    let entry = directory.walk(asked, None).unwrap().next().unwrap().unwrap();
    assert_eq!((entry.xattrs, entry.others), (b.clone(), vec![(b"user.a".to_vec(), 1)]));
    assert_eq!(directory.attributes(b"file", asked).unwrap(), b);
    let error = xattrs::selected(&upper.path("file"), |_| true, 13).unwrap_err();
    assert!(matches!(error, LinuxError::AttributesTooLarge { limit: 13, .. }), "{error}");
    assert_eq!(xattrs::selected(&upper.path("file"), |_| true, 14).unwrap().0.len(), 2);
}

#[test]
fn more_names_than_are_allowed_end_the_walk() {
    let upper = Upper::new();
    upper.folder("d").file("d/1", "").file("d/2", "").file("e", "");
    let directory = UpperDirectory::open(upper.0.path()).unwrap();
    let count = |most| -> Result<Vec<_>, LinuxError> { directory.walk(|_| false, Some(most))?.collect() };
    assert_eq!(count(4).unwrap().len(), 4);
    assert!(matches!(count(3), Err(LinuxError::TooManyNames { limit: 3, .. })));
}

#[test]
fn directories_too_deep_end_the_walk() {
    let upper = Upper::new();
    let mut directory: OwnedFd = File::open(upper.0.path()).unwrap().into();
    for _ in 0..=DEPTH_MAX {
        rustix::fs::mkdirat(&directory, "d", Mode::from_raw_mode(0o700)).unwrap();
        directory = rustix::fs::openat(&directory, "d", OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let error = upper.entries().unwrap_err();
    assert!(matches!(error, LinuxError::TooDeep { limit: DEPTH_MAX, .. }), "{error}");
}
