//! An entry's meaning depends on its place in the tar: hard links, replacements, deletions.

use erofs_index::{FileType, Namespace};

use super::Tar;

#[test]
fn a_deletion_of_a_directory_that_is_also_there_makes_it_a_new_one() {
    let layer = Tar::new()
        .put(b'0', "Files/.wh.gone", "", b"", &[])
        .file("Files/Before/f", "")
        .put(b'0', "Files/.wh.before", "", b"", &[])
        .put(b'0', "Files/.wh.after", "", b"", &[])
        .dir("Files/After")
        .put(b'0', "Files/o/.wh..wh..opq", "", b"", &[])
        .put(b'0', "Hives/.wh.System_Delta", "", b"", &[])
        .import();
    assert_eq!(layer.find("Files/gone").unwrap().kind, FileType::CharDevice);
    for path in ["Files/Before", "Files/After"] {
        assert!(layer.marked(path, "win32.new") && !layer.marked(path, "win32.opaque"), "{path}");
    }
    assert!(layer.marked("Files/o", "win32.opaque") && !layer.marked("Files/o", "win32.new"));
    assert_eq!(layer.imported.whiteouts, 4);
    assert!(layer.find("Hives").is_none());
    let notes = &layer.imported.notes;
    assert!(notes[0].contains("Hives/.wh.System_Delta"), "{notes:?}");
    // Only a deletion behind the entry that it names could be taken to delete that entry.
    assert_eq!(
        notes[1],
        "1 deletion of what the layer itself has, which stays; what is below is hidden: Files/.wh.before"
    );
}

#[test]
fn a_deletion_deletes_nothing_of_its_own_layer_wherever_it_stands() {
    let layer = Tar::new()
        .file("Files/x", "x")
        .put(b'0', "Files/.wh.X", "", b"", &[])
        .put(b'0', "Files/.wh.y", "", b"", &[])
        .file("Files/y", "y")
        .file("Files/d/z", "z")
        .put(b'0', "Files/d/.wh..wh..opq", "", b"", &[])
        .import();
    for name in ["x", "y", "d/z"] {
        assert_eq!(layer.read(&format!("Files/{name}")), name.rsplit('/').next().unwrap().as_bytes());
    }
    assert_eq!(layer.imported.notes.len(), 1, "{:?}", layer.imported.notes);
}

#[test]
fn a_deletion_that_is_a_directory_deletes_nothing_and_is_said() {
    let layer = Tar::new().file("Files/a", "a").dir("Files/.wh.b/").dir("Files/.wh.c//").import();
    assert!(
        layer.find("Files/b").is_none()
            && layer.find("Files/.wh.b").is_none()
            && layer.find("Files/c").is_none()
    );
    assert_eq!(layer.imported.whiteouts, 0);
    let notes = &layer.imported.notes;
    assert!(notes[0].starts_with("2 deletions with a slash at the end, which means nothing"), "{notes:?}");
    assert!(Tar::new().file("Files/.wh.a/b", "").refused().contains("lies in a deletion"));
}

#[test]
fn hard_links_share_the_inode_of_what_came_before_them_in_any_case() {
    let layer = Tar::new()
        .file("Files/data", "x")
        .link("Files/two", "./files/Data")
        .link("Files/one", "Files\\TWO")
        .link("Files/p", "files/Parent/f")
        .import();
    let nid = layer.nid("Files/data");
    assert_eq!((layer.nid("Files/one"), layer.nid("Files/two")), (nid, nid));
    assert_eq!(layer.find("Files/p").unwrap().kind, FileType::CharDevice);
    assert_eq!(layer.xattr("Files/p", Namespace::Trusted, "win32.link").unwrap(), b"Files/Parent/f");
    assert_eq!(layer.imported.parent_links, [b"Files/Parent/f"]);
}

#[test]
fn what_a_link_names_before_it_is_there_is_for_the_layers_below_to_say() {
    let layer = Tar::new()
        .link("Files/one", "Files/TWO")
        .link("Files/two", "Files/data")
        .link("Files/three", "Files/one")
        .file("Files/data", "x")
        .import();
    let target = |path| layer.xattr(path, Namespace::Trusted, "win32.link").unwrap();
    assert_eq!(target("Files/one"), b"Files/TWO");
    assert_eq!(target("Files/two"), b"Files/data");
    // A further name of a link is the same link.
    assert_eq!(target("Files/three"), b"Files/TWO");
    assert_eq!(layer.imported.parent_links, [&b"Files/TWO"[..], b"Files/data"]);
}

#[test]
fn a_link_keeps_its_file_whatever_comes_in_the_place_of_its_target() {
    let layer = Tar::new()
        .file("Files/x", "old")
        .file("Files/x:stream", "s")
        .link("Files/l", "Files/X")
        .file("Files/x", "new")
        .link("Files/m", "Files/x")
        .file("Files/d/f", "in d")
        .link("Files/k", "Files/d/f")
        .link("Files/chain", "Files/k")
        .file("Files/d", "file")
        .file("Files/e", "e")
        .link("Files/i", "Files/e")
        .dir("Files/E")
        .put(b'2', "Files/s", "C:\\Windows", b"", &[])
        .link("Files/t", "Files/s")
        .file("Files/s", "no link")
        .import();
    let contents = [
        ("l", "old"),
        ("x", "new"),
        ("m", "new"),
        ("k", "in d"),
        ("chain", "in d"),
        ("d", "file"),
        ("i", "e"),
    ];
    for (name, content) in contents {
        assert_eq!(layer.read(&format!("Files/{name}")), content.as_bytes(), "{name}");
    }
    assert_eq!(
        (layer.nid("Files/m"), layer.nid("Files/k")),
        (layer.nid("Files/x"), layer.nid("Files/chain"))
    );
    assert_eq!((layer.find("Files/l").unwrap().nlink, layer.find("Files/x").unwrap().nlink), (1, 2));
    assert_eq!(layer.find("Files/E").unwrap().kind, FileType::Directory);
    assert_eq!(layer.find("Files/t").unwrap().kind, FileType::Symlink);
    assert_eq!(layer.read("Files/s"), b"no link");
    // Streams stay with their file.
    assert_eq!((layer.metadata("Files/l").streams.len(), layer.metadata("Files/x").streams.len()), (1, 0));
}

#[test]
fn a_link_in_a_directory_that_is_replaced_is_gone_and_its_file_is_not() {
    let layer = Tar::new().file("Files/x", "x").link("Files/d/l", "Files/x").file("Files/D", "file").import();
    assert_eq!((layer.read("Files/x"), layer.find("Files/x").unwrap().nlink), (b"x".to_vec(), 1));
    // The link in the replaced directory is gone, so it needs no target in the layers below.
    let layer = Tar::new().link("Files/d/l", "Files/none").file("Files/d", "file").import();
    assert!(layer.imported.parent_links.is_empty());
}

#[test]
fn a_hard_link_to_its_own_name_changes_nothing() {
    let layer = Tar::new().file("Files/x", "x").link("Files/X", "Files/x").import();
    assert_eq!(layer.read("Files/X"), b"x");
    assert!(layer.find("Files/x").is_none());
}

#[test]
fn hard_links_to_a_directory_or_with_streams_are_refused() {
    for (tar, target) in [
        (Tar::new().dir("Files/d"), "Files/d"),
        (Tar::new().file("Files/d/x", ""), "Files/D"),
        (Tar::new().dir("Files"), "Files"),
        (Tar::new().file("Files/d", "").dir("Files/d"), "Files/d"),
    ] {
        let reason = tar.link("Files/a", target).refused();
        assert!(reason.contains("to a directory"), "{reason}");
    }
    let file = || Tar::new().file("Files/x", "x");
    let reason = file().link("Files/l", "Files/x").file("Files/l:s", "").refused();
    assert!(reason.contains("its file is a hard link"), "{reason}");
    let reason = file().file("Files/l:s", "").link("Files/l", "Files/x").refused();
    assert!(reason.contains("has streams"), "{reason}");
    // Once another file has taken the link's name, it can have streams.
    let layer = file().link("Files/l", "Files/x").file("Files/l", "y").file("Files/l:s", "z").import();
    assert_eq!((layer.metadata("Files/l").streams.len(), layer.metadata("Files/x").streams.len()), (1, 0));
}
