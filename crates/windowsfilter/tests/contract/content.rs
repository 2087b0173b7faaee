//! The content of a layer survives in all of its forms: tar, view, list of changes, sizes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use wclayer::filetime::FileTime;
use wclayer::tar::{NewEntry, Reader, Writer, type_flag};
use windowsfilter::driver::ChangeKind;
use windowsfilter::{Driver, Error, Follow};

use crate::support::{TestLayer, TestStore, id};
use crate::{SMALL, change};

fn bytes(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn apply(
    store: &TestStore,
    layer: &str,
    parent: Option<&str>,
    tar: TestLayer,
) -> Result<windowsfilter::driver::Applied, Error> {
    let tar = tar.tar();
    store.apply_diff(&id(layer), parent.map(id).as_ref(), &mut &tar[..])
}

/// Sizes of the files in a tar, streams not counted.
fn file_sizes(tar: &[u8]) -> u64 {
    let mut reader = Reader::new(tar);
    let mut size = 0;
    while let Some(header) = reader.next().unwrap() {
        if header.type_flag == type_flag::FILE && !header.name.contains(&b':') {
            size += header.size;
        }
    }
    size
}

#[test]
fn the_size_of_a_diff_is_that_of_the_files_in_its_tar_and_links_count_once() {
    let store = TestStore::with_base();
    store.create_read_write(&id("box"), Some(&id("base")), SMALL, "").unwrap();
    let view = store.get(&id("box"), "").unwrap();
    fs::write(view.join("one"), vec![1; 100_000]).unwrap();
    fs::hard_link(view.join("one"), view.join("two")).unwrap();
    fs::write(view.join("Windows/notepad.exe"), "changed").unwrap();
    fs::remove_file(view.join("readme.txt")).unwrap();
    store.put(&id("box")).unwrap();
    let tar = bytes(store.diff(&id("box"), None).unwrap());
    assert_eq!(file_sizes(&tar), 100_007);
    assert_eq!(store.diff_size(&id("box"), None).unwrap(), 100_007);
    store.apply_diff(&id("layer"), Some(&id("base")), &mut &tar[..]).unwrap();
    assert_eq!(store.diff_size(&id("layer"), Some(&id("base"))).unwrap(), 100_007);
    let view = store.get(&id("layer"), "").unwrap();
    let inode = |name: &str| fs::metadata(view.join(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("two"));
    store.put(&id("layer")).unwrap();
}

/// The original copies the whole layer to the system drive first, and `$Recycle.Bin` is left out.
#[test]
fn what_was_exported_and_imported_exports_the_same_without_a_copy_on_disk() {
    let store = TestStore::with_base();
    store.create_read_write(&id("box"), Some(&id("base")), SMALL, "").unwrap();
    let view = store.get(&id("box"), "").unwrap();
    fs::create_dir(view.join("$Recycle.Bin")).unwrap();
    fs::write(view.join("$Recycle.Bin/S-1-5-18"), "kept").unwrap();
    fs::write(view.join("big"), vec![3; 4 << 20]).unwrap();
    let mut stream = store.diff(&id("box"), None).unwrap();
    let mut first = vec![0; 4096];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    stream.read_to_end(&mut first).unwrap();
    store.put(&id("box")).unwrap();
    store.apply_diff(&id("layer"), Some(&id("base")), &mut &first[..]).unwrap();
    assert!(bytes(store.diff(&id("layer"), None).unwrap()) == first);
    // A sandbox on top without changes lists none.
    store.create_read_write(&id("box2"), Some(&id("layer")), SMALL, "").unwrap();
    assert_eq!(store.changes(&id("box2")).unwrap(), []);
}

/// Windows rewrites the boot files, so the original serves copies made on import; ours are never rewritten.
#[test]
fn boot_files_come_out_as_they_went_in() {
    let store = TestStore::new();
    let boot = "UtilityVM/Files/EFI/Microsoft/Boot";
    let names = ["BCD", "BCD.LOG", "BCD.LOG1", "BCD.LOG2"].map(|name| format!("{boot}/{name}"));
    let mut tar = TestLayer::new().dir("Files").dir("UtilityVM").dir("UtilityVM/Files");
    for name in &names {
        tar = tar.file(name, format!("content of {name}").as_bytes());
    }
    apply(&store, "base", None, tar).unwrap();
    store.get(&id("base"), "").unwrap();
    store.put(&id("base")).unwrap();
    let getter = store.diff_getter(&id("base")).unwrap();
    for name in &names {
        assert_eq!(bytes(getter.get(name.as_bytes()).unwrap()), format!("content of {name}").as_bytes());
    }
}

/// On Windows the whole utility VM of the parent is copied first, link by link.
#[test]
fn a_layer_that_touches_one_file_of_the_utility_vm_stores_one_file() {
    let store = TestStore::new();
    let base = TestLayer::new()
        .dir("Files")
        .dir("UtilityVM")
        .file("UtilityVM/Files/a", b"a")
        .file("UtilityVM/Files/b", b"b");
    apply(&store, "base", None, base).unwrap();
    // No entry for the directories above it, and another spelling.
    let delta = TestLayer::new().file("utilityvm/files/B", b"new");
    let applied = apply(&store, "delta", Some("base"), delta).unwrap();
    assert_eq!((applied.entries, applied.size), (1, 3));
    let view = store.view(&id("delta")).unwrap();
    for (name, content) in [("UtilityVM/Files/a", "a"), ("UtilityVM/Files/b", "new")] {
        let node = view.lookup_tar_name(name.as_bytes()).unwrap().unwrap();
        assert_eq!(bytes(view.open_file(&node).unwrap()), content.as_bytes(), "{name}");
    }
    assert!(matches!(
        store.diff_getter(&id("delta")).unwrap().get(b"UtilityVM/Files/a").err(),
        Some(Error::NoSuchFile { .. })
    ));
}

/// A wrong time made every container rebuild its catalogues (moby#41066).
#[test]
fn the_time_of_a_directory_is_that_of_its_entry_whatever_happens_in_it() {
    let (old, new) = (FileTime(132_000_000_000_000_000), FileTime(133_000_000_000_000_000));
    let store = TestStore::new();
    let base = TestLayer::new().dir("Files").dir_of("Files/CatRoot", old).dir_of("Files/Other", old);
    let base = base.file("Files/CatRoot/a", b"a").file("Files/CatRoot/b", b"b").file("Files/Other/c", b"c");
    apply(&store, "base", None, base).unwrap();
    let delta =
        TestLayer::new().dir("Files").whiteout("Files/CatRoot/a").link("Files/CatRoot/d", "Files/CatRoot/b");
    apply(&store, "without", Some("base"), delta).unwrap();
    let delta = TestLayer::new().dir("Files").dir_of("Files/CatRoot", new).whiteout("Files/CatRoot/a");
    apply(&store, "with", Some("base"), delta.link("Files/CatRoot/d", "Files/Other/c")).unwrap();
    for (layer, expected) in [("without", old), ("with", new)] {
        let view = store.get(&id(layer), "").unwrap();
        let time = |name: &str| {
            let metadata = fs::metadata(view.join(name)).unwrap();
            FileTime::from_unix(metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap())
        };
        assert_eq!((time("CatRoot"), time("Other")), (expected, old), "{layer}");
        assert!(!view.join("CatRoot/a").exists() && view.join("CatRoot/d").exists(), "{layer}");
        store.put(&id(layer)).unwrap();
    }
}

#[test]
fn deletions_of_what_is_absent_of_a_directory_and_of_hives_do_what_they_can() {
    let store = TestStore::new();
    let base = TestLayer::new()
        .dir("Files")
        .dir("Files/d")
        .file("Files/d/x", b"x")
        .dir("Hives")
        .file("Hives/Sam_Base", b"regf");
    apply(&store, "base", None, base).unwrap();
    let delta =
        TestLayer::new().dir("Files").whiteout("Files/absent").whiteout("Files/D").whiteout("Hives/Sam_Base");
    let applied = apply(&store, "delta", Some("base"), delta).unwrap();
    assert!(applied.notes.iter().any(|note| note.contains("Hives/.wh.Sam_Base")), "{:?}", applied.notes);
    let view = store.view(&id("delta")).unwrap();
    assert!(view.lookup(b"d", Follow::OnTheWay).unwrap().is_none());
    assert!(view.lookup_tar_name(b"Hives/Sam_Base").unwrap().is_some());
    assert!(store.changes(&id("delta")).unwrap().contains(&change(ChangeKind::Delete, "Files/D")));
}

#[test]
fn deletions_in_a_layer_without_parents_are_said_to_delete_nothing() {
    let store = TestStore::new();
    let tar = || TestLayer::new().dir("Files").whiteout("Files/a").whiteout("Files/b");
    let applied = apply(&store, "base", None, tar()).unwrap();
    assert!(
        applied.notes.iter().any(|note| note.contains("its 2 deletions delete nothing")),
        "{:?}",
        applied.notes
    );
    assert_eq!(apply(&store, "next", Some("base"), tar()).unwrap().notes, [""; 0]);
}

/// NTFS allows 1,024 names, Linux more. Layers are kept as they are; a sandbox that Windows could not hold is
/// refused.
#[test]
fn a_file_of_1025_names_is_shown_and_no_sandbox_makes_one() {
    let store = TestStore::new();
    let mut tar = TestLayer::new().dir("Files").file("Files/name0", b"x");
    for n in 1..1025 {
        tar = tar.link(&format!("Files/name{n}"), "Files/name0");
    }
    apply(&store, "many", None, tar).unwrap();
    store.create_read_write(&id("box"), Some(&id("many")), SMALL, "").unwrap();
    let view = store.get(&id("box"), "").unwrap();
    assert_eq!(fs::metadata(view.join("name1024")).unwrap().nlink(), 1025);
    fs::write(view.join("new"), "x").unwrap();
    for n in 1..1024 {
        fs::hard_link(view.join("new"), view.join(format!("new{n}"))).unwrap();
    }
    assert_eq!(file_sizes(&bytes(store.diff(&id("box"), None).unwrap())), 1);
    fs::hard_link(view.join("new"), view.join("one too many")).unwrap();
    let mut out = Vec::new();
    let error = store.diff(&id("box"), None).unwrap().read_to_end(&mut out).unwrap_err();
    let text = format!("{:?} {error}", error.get_ref());
    assert!(out.is_empty() && text.contains("1025 names"), "{text}");
    store.put(&id("box")).unwrap();
}

#[test]
fn a_link_to_nothing_names_what_it_wants_and_leaves_nothing() {
    let store = TestStore::with_base();
    let error =
        apply(&store, "l", Some("base"), TestLayer::new().dir("Files").link("Files/l", "Files/nowhere"))
            .unwrap_err();
    assert!(error.to_string().contains("Files/nowhere"), "{error}");
    let error = apply(&store, "l", None, TestLayer::new().dir("Files").link("Files/l", "Files/readme.txt"))
        .unwrap_err();
    assert!(error.to_string().contains("Files/readme.txt"), "{error}");
    assert_eq!(store.layers().unwrap(), [id("base")]);
    assert_eq!(store.fsck(false).unwrap(), []);
    // With its parent, which has the target in another case, it is found.
    apply(&store, "l", Some("base"), TestLayer::new().dir("Files").link("Files/l", "files/README.TXT"))
        .unwrap();
}

/// A tar as from `git archive`: its first entry is a global header, which is not a file.
#[test]
fn a_global_header_is_no_file() {
    let mut tar = TestLayer::new()
        .file("pax_global_header", b"52 comment=0123456789abcdef0123456789abcdef01234567\n")
        .dir("Files")
        .tar();
    // The writer makes no global headers, so patch type and checksum of an entry.
    let header = header_of(&tar, b"pax_global_header");
    tar.drain(..header);
    tar[156] = b'g';
    seal(&mut tar[..512]);
    let store = TestStore::new();
    let applied = store.apply_diff(&id("l"), None, &mut &tar[..]).unwrap();
    assert_eq!((applied.entries, applied.notes), (1, vec![]));
}

/// NTFS accepts half a surrogate pair in a name; UTF-8 cannot express it.
#[test]
fn names_that_are_no_unicode_come_out_as_they_went_in() {
    let name = b"Files/\xed\xa0\x80x".to_vec();
    // The test's tar writer takes text, so write a name of the same length and replace it in the tar.
    let mut tar = TestLayer::new().dir("Files").file("Files/surx", b"content").tar();
    let header = header_of(&tar, b"Files/surx");
    tar[header..header + name.len()].copy_from_slice(&name);
    seal(&mut tar[header..header + 512]);
    let store = TestStore::new();
    store.apply_diff(&id("l"), None, &mut &tar[..]).unwrap();
    let view = store.view(&id("l")).unwrap();
    assert_eq!(view.list(&view.root()).unwrap()[0].0, name[6..]);
    assert_eq!(bytes(store.diff_getter(&id("l")).unwrap().get(&name).unwrap()), b"content");
    assert!(bytes(store.diff(&id("l"), None).unwrap()) == tar);
    let mounted = store.get(&id("l"), "").unwrap();
    let names: BTreeMap<_, _> =
        fs::read_dir(mounted).unwrap().map(|e| e.unwrap()).map(|e| (e.file_name(), ())).collect();
    assert_eq!(names.keys().next().unwrap().as_encoded_bytes(), &name[6..]);
    store.put(&id("l")).unwrap();
}

/// Offset of the header block of the entry `name`.
fn header_of(tar: &[u8], name: &[u8]) -> usize {
    let is_header = |&at: &usize| tar[at..].starts_with(name) && tar[at + name.len()] == 0;
    (0..tar.len()).step_by(512).find(is_header).unwrap()
}

/// Sets the checksum of a header block.
fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// 300 directories of 255 UTF-16 units are 76,800 units: more than the 32,767 of a Windows path. With 765
/// bytes each, Linux accepts neither the path nor the names.
#[test]
fn a_tree_deeper_and_names_longer_than_any_path_of_either_system_are_kept() {
    let long = "\u{4e00}".repeat(254);
    let mut tar = TestLayer::new();
    let mut path = "Files".to_owned();
    for _ in 0..300 {
        path = format!("{path}/{long}d");
        tar = tar.dir(&path);
    }
    let file = format!("{path}/{long}f");
    let tar = tar.file(&file, b"at the end").tar();
    assert!(file.encode_utf16().count() > 32_767);
    let store = TestStore::new();
    store.apply_diff(&id("deep"), None, &mut &tar[..]).unwrap();
    assert_eq!(bytes(store.diff_getter(&id("deep")).unwrap().get(file.as_bytes()).unwrap()), b"at the end");
    let view = store.view(&id("deep")).unwrap();
    let node = view.lookup(&file.as_bytes()["Files/".len()..], Follow::OnTheWay).unwrap().unwrap();
    assert_eq!(bytes(view.open_file(&node).unwrap()), b"at the end");
    let changes = store.changes(&id("deep")).unwrap();
    assert_eq!(changes.len(), 301);
    assert!(changes.iter().any(|change| change.path == file.as_bytes()), "the names are those of the tar");
    let mounted = store.get(&id("deep"), "").unwrap();
    assert_eq!(bytes(descend(&mounted)), b"at the end");
    store.put(&id("deep")).unwrap();
    assert!(bytes(store.diff(&id("deep"), None).unwrap()) == tar);
}

/// Opens the file at the end of a chain of directories with one entry each.
fn descend(root: &Path) -> File {
    let mut directory: OwnedFd = File::open(root).unwrap().into();
    loop {
        let mut names = rustix::fs::Dir::read_from(&directory).unwrap();
        let name = names.find_map(|entry| {
            let name = entry.unwrap().file_name().to_owned();
            (!matches!(name.to_bytes(), b"." | b"..")).then_some(name)
        });
        let next = openat(&directory, name.unwrap(), OFlags::RDONLY, Mode::empty()).unwrap();
        let file = File::from(next);
        if file.metadata().unwrap().is_file() {
            return file;
        }
        directory = file.into();
    }
}

/// A base layer with `lib/a.dll`, `lib/b.dll` and `web/index.htm`, and a layer on it with links, deletions
/// and replacements.
fn links_and_replacements(store: &TestStore) {
    let base = TestLayer::new()
        .dir("Files")
        .dir("Files/lib")
        .file("Files/lib/a.dll", b"old a")
        .file("Files/lib/b.dll", b"old b")
        .dir("Files/web")
        .file("Files/web/index.htm", b"index")
        .dir("Files/web/pics")
        .file("Files/web/pics/logo", b"logo");
    let upper = TestLayer::new()
        .dir("Files")
        .dir("Files/app")
        .link("Files/app/a.dll", "Files/lib/a.dll")
        .dir("Files/LIB")
        .file("Files/LIB/A.DLL", b"new a")
        .file("Files/lib/b.dll", b"new b")
        .link("Files/app/b.dll", "Files/lib/b.dll")
        .whiteout("Files/web")
        .dir("Files/WEB")
        .file("Files/WEB/home.htm", b"home")
        .dir("Files/WEB/Pics");
    apply(store, "base", None, base).unwrap();
    apply(store, "upper", Some("base"), upper).unwrap();
}

#[test]
fn links_and_replacements_are_what_the_tar_says_at_each_place() {
    let store = TestStore::new();
    links_and_replacements(&store);
    let view = store.get(&id("upper"), "").unwrap();
    let read = |path: &str| fs::read_to_string(view.join(path)).unwrap();
    let inode = |path: &str| fs::metadata(view.join(path)).unwrap().ino();
    let listed = |path: &str| {
        let names = fs::read_dir(view.join(path)).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!((read("app/a.dll"), read("lib/A.DLL")), ("old a".into(), "new a".into()));
    assert_eq!((read("app/b.dll"), inode("app/b.dll")), ("new b".into(), inode("lib/b.dll")));
    assert_eq!(
        (listed("."), listed("lib")),
        (vec!["WEB".into(), "app".into(), "lib".into()], vec!["A.DLL".into(), "b.dll".into()])
    );
    assert_eq!((listed("WEB"), listed("WEB/Pics")), (vec!["Pics".to_owned(), "home.htm".into()], vec![]));
    store.put(&id("upper")).unwrap();
}

#[test]
fn changes_of_a_layer_name_what_a_new_directory_hides_however_deep() {
    let store = TestStore::new();
    links_and_replacements(&store);
    let changes = store.changes(&id("upper")).unwrap();
    for path in ["Files/WEB/index.htm", "Files/WEB/Pics/logo"] {
        assert!(changes.contains(&change(ChangeKind::Delete, path)), "{path}: {changes:?}");
    }
    let opaque =
        TestLayer::new().dir("Files").file("Files/web/.wh..wh..opq", b"").file("Files/web/pics/x", b"x");
    apply(&store, "opaque", Some("base"), opaque).unwrap();
    let changes = store.changes(&id("opaque")).unwrap();
    for path in ["Files/web/index.htm", "Files/web/pics/logo"] {
        assert!(changes.contains(&change(ChangeKind::Delete, path)), "{path}: {changes:?}");
    }
}

#[test]
fn names_with_backslashes_are_kept_and_found_by_them() {
    let mut tar = Writer::new(Vec::new());
    for (name, data) in [(&br"Files\d\x"[..], &b"data"[..]), (br"Files\d\x:s", b"stream"), (b"Files/y", b"y")]
    {
        tar.begin(&NewEntry { name, size: data.len() as u64, ..NewEntry::default() }).unwrap();
        tar.write_data(data).unwrap();
    }
    let tar = tar.finish().unwrap();
    let store = TestStore::new();
    store.apply_diff(&id("l"), None, &mut &tar[..]).unwrap();
    assert_eq!(bytes(store.diff(&id("l"), None).unwrap()), tar);
    let getter = store.diff_getter(&id("l")).unwrap();
    for (name, data) in [
        (&br"Files\d\x"[..], "data"),
        (br"Files\d\x:s", "stream"),
        (b"Files/d/x", "data"),
        (br"files\Y", "y"),
    ] {
        assert_eq!(bytes(getter.get(name).unwrap()), data.as_bytes(), "{}", name.escape_ascii());
    }
}
