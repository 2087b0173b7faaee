//! The parent is a view of a chain, read from its index.

use layer_mounts::linux::erofs_mount::mount_index;
use layer_mounts::linux::sandbox_mount::{Sandbox, mount_sandbox};
use layer_mounts::linux::{mount_table, sandbox_image};

use super::*;
use crate::digest::{DiffId, Digest};
use crate::engine::portable::chain::write_chain_index;
use crate::engine::portable::view::View;
use crate::engine::portable::xattrs::Origin;
use crate::engine::{ChainLayer, Follow};
use crate::id::LayerId;
use crate::temporary::Temporaries;
use erofs_index::{Extent, ImageBuilder, Inode, InodeId, Kind, Options, XattrSetId};
use std::fs::File;
use std::os::unix::fs::FileExt;

fn metadata() -> Win32Metadata {
    let content = StreamContent::InTar { origin: Origin { layer: None, offset: 1024 }, size: 5 };
    Win32Metadata {
        attributes: Some(0x21),
        created: Some(FileTime(7)),
        streams: vec![Stream { name: b"s".to_vec(), content }],
        origin: Some(Origin { layer: None, offset: 0 }),
        ..Default::default()
    }
}

/// A layer with `Files/Dir/{Old.txt,Gone.txt}`, the first of them with a stream that stays in the tar.
fn layer(folder: &TempDir) -> View {
    let dir = folder.path().to_owned();
    let tar = File::create(dir.join("layer.tar")).unwrap();
    tar.write_all_at(b"bytes", 1024).unwrap();
    tar.set_len(4096).unwrap();
    let mut builder = ImageBuilder::new(Options::default());
    let device = builder.add_device(8).unwrap();
    let owned = metadata().to_xattrs(Namespace::User);
    let borrowed: Vec<_> = owned.iter().map(|(space, name, value)| (*space, &name[..], &value[..])).collect();
    let xattrs = builder.xattr_set(&borrowed).unwrap();
    let plain = Inode {
        kind: Kind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: (5, 0),
        xattrs: XattrSetId::EMPTY,
    };
    let files = builder.add_inode(plain.clone()).unwrap();
    let inside = builder.add_inode(plain.clone()).unwrap();
    builder.link(InodeId::ROOT, b"Files", files).unwrap();
    builder.link(files, b"Dir", inside).unwrap();
    for name in ["Old.txt", "Gone.txt"] {
        let kind = Kind::File { extent: Some(Extent { device, block: 2 }), size: 5 };
        let file = builder.add_inode(Inode { kind, mode: 0o644, xattrs, ..plain.clone() }).unwrap();
        builder.link(inside, name.as_bytes(), file).unwrap();
    }
    builder.write(File::create(dir.join("layer.erofs")).unwrap()).unwrap();
    let id: LayerId = "parent".parse().unwrap();
    let chain = [ChainLayer { id: id.clone(), dir, diff_id: Some(DiffId(Digest::of(b"tar"))) }];
    let index = folder.path().join("chain.erofs");
    let temporaries = folder.path().join("tmp");
    std::fs::create_dir(&temporaries).unwrap();
    write_chain_index(&chain, &index, &Temporaries::new(temporaries), StreamForm::Plain).unwrap();
    View::open(id, &index, &chain).unwrap()
}

#[test]
fn a_view_answers_what_a_sandbox_changed() {
    let folder = tempfile::tempdir().unwrap();
    let view = layer(&folder);
    let upper = Upper::new();
    upper.folder("dir").file("dir/old.TXT", "new").whiteout("dir/Gone.txt").file("dir/added", "");
    let changes = changes(&upper.open(), &view, StreamForm::Plain, &DiffLimits::default()).unwrap();
    let changes: Vec<_> =
        changes.into_iter().map(|c| (c.kind.letter(), String::from_utf8(c.path).unwrap())).collect();
    let expected = [('M', "Dir"), ('D', "Dir/Gone.txt"), ('M', "Dir/Old.txt"), ('A', "Dir/added")];
    assert_eq!(changes, expected.map(|(kind, path)| (kind, format!("Files/{path}"))));
}

#[test]
fn a_stream_of_a_copied_up_file_is_read_from_the_tar_it_stayed_in() {
    let folder = tempfile::tempdir().unwrap();
    let view = layer(&folder);
    let copied = view.metadata(&view.lookup(b"Dir/Old.txt", Follow::OnTheWay).unwrap().unwrap()).unwrap();
    let upper = Upper::new();
    upper.folder("Dir").file("Dir/Old.txt", "new").metadata("Dir/Old.txt", &copied);
    let diff = read(&write(&upper.open(), &view, Vec::new()).unwrap());
    let stream = diff.iter().find(|entry| entry.name == "Files/Dir/Old.txt:s").unwrap();
    assert_eq!(stream.data, b"bytes");
    let file = diff.iter().find(|entry| entry.name == "Files/Dir/Old.txt").unwrap();
    assert_eq!((file.layer().attributes, file.layer().creation_time), (0x21, FileTime(7)));
}

#[test]
fn a_stream_in_a_layer_has_to_be_one_that_a_file_there_has() {
    let folder = tempfile::tempdir().unwrap();
    let view = layer(&folder);
    let copied = view.metadata(&view.lookup(b"Dir/Old.txt", Follow::OnTheWay).unwrap().unwrap()).unwrap();
    let stream = &copied.streams[0];
    let StreamContent::InTar { origin, size } = stream.content else { panic!("{stream:?}") };
    let place = |offset, size| StreamContent::InTar { origin: Origin { offset, ..origin }, size };
    let others = [
        Stream { name: b"t".to_vec(), ..stream.clone() },
        Stream { content: place(origin.offset + 1, size), ..stream.clone() },
        Stream { content: place(0, size), ..stream.clone() },
        Stream { content: place(origin.offset, size - 1), ..stream.clone() },
        Stream { content: place(origin.offset, 4096), ..stream.clone() },
    ];
    let problems = |streams: Vec<Stream>| {
        let upper = Upper::new();
        upper.file("new", "").metadata("new", &Win32Metadata { streams, ..Default::default() });
        match write(&upper.open(), &view, Vec::new()) {
            Err(Error::NotPortable { problems, .. }) => problems,
            other => panic!("{other:?}"),
        }
    };
    for other in others {
        let problems = problems(vec![other]);
        assert!(
            problems.len() == 1 && problems[0].contains("where no file below the sandbox has it"),
            "{problems:?}"
        );
    }
    // The stream itself may be in any file, but only once in each.
    assert_eq!(problems(vec![stream.clone(), stream.clone()]), [r#""new" has more than one stream "s""#]);
    let upper = Upper::new();
    upper.file("moved", "").metadata("moved", &copied);
    write(&upper.open(), &view, Vec::new()).unwrap();
}

#[test]
fn streams_made_in_a_sandbox_have_names_that_a_stream_can_have() {
    let folder = tempfile::tempdir().unwrap();
    let view = layer(&folder);
    let upper = Upper::new();
    for (file, stream) in [("1", "a:b"), ("2", "../x"), ("3", "a\\b"), ("4", ""), ("good", "Zone.Identifier")]
    {
        upper.file(file, "").attribute(file, &format!("user.DosStream.{stream}:$DATA"), b"x");
    }
    let Err(Error::NotPortable { problems, .. }) = write(&upper.open(), &view, Vec::new()) else { panic!() };
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn a_backslash_in_a_new_name_does_not_lead_into_a_directory_of_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let view = layer(&folder);
    let upper = Upper::new();
    upper.file("Dir\\Old.txt", "");
    let result = write(&upper.open(), &view, Vec::new());
    assert!(matches!(result, Err(Error::NotPortable { problems, .. }) if problems.len() == 1));
}

/// A sandbox on the view of `folder`, mounted until the test ends.
struct Mounted<'a>(&'a TempDir);

impl Mounted<'_> {
    fn new(folder: &TempDir) -> Mounted<'_> {
        for name in ["view", "templates", "storage", "target"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mounted = Mounted(folder);
        let (view, image) = (mounted.path("view"), mounted.path("sandbox.img"));
        mount_index(&mounted.path("chain.erofs"), &[mounted.path("layer.tar")], &view).unwrap();
        sandbox_image::create(
            &mounted.path("templates"),
            &image,
            256 << 20,
            (|_, _| Ok(()), &crate::Cancel::default()),
        )
        .unwrap();
        let (storage, lower, target) = (mounted.path("storage"), view.join("Files"), mounted.path("target"));
        mount_sandbox(&Sandbox { image: &image, storage: &storage, lower: &lower, target: &target }).unwrap();
        mounted
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        for name in ["target", "storage", "view"] {
            let _ = mount_table::unmount(&self.path(name));
        }
    }
}

#[test]
fn what_overlayfs_writes_down_becomes_the_layer_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let view = layer(&folder);
    let mounted = Mounted::new(&folder);
    let target = |name: &str| mounted.path("target").join(name);
    std::fs::rename(target("Dir/Old.txt"), target("Dir/Renamed.txt")).unwrap();
    std::fs::remove_file(target("Dir/Gone.txt")).unwrap();
    std::fs::create_dir(target("new")).unwrap();
    std::fs::hard_link(target("Dir/Renamed.txt"), target("new/linked")).unwrap();
    std::os::unix::fs::symlink("../Dir", target("new/link")).unwrap();
    let upper = UpperDirectory::open(&mounted.path("storage/upper")).unwrap();
    let listed = |upper| {
        let changes = changes(upper, &view, StreamForm::Plain, &DiffLimits::default()).unwrap().into_iter();
        changes
            .map(|c| format!("{} {}", c.kind.letter(), String::from_utf8(c.path).unwrap()))
            .collect::<Vec<_>>()
    };
    let added = ["A Files/new", "A Files/new/link", "A Files/new/linked"];
    let first = ["M Files/Dir", "D Files/Dir/Gone.txt", "D Files/Dir/Old.txt", "A Files/Dir/Renamed.txt"];
    assert_eq!(listed(&upper), [&first[..], &added].concat());

    let diff = read(&write(&upper, &view, Vec::new()).unwrap());
    let find = |name: &str| diff.iter().find(|entry| entry.name == name).unwrap();
    let renamed = find("Files/Dir/Renamed.txt");
    assert_eq!((&renamed.data[..], renamed.layer().creation_time), (&b"bytes"[..], FileTime(7)));
    assert_eq!(find("Files/Dir/Renamed.txt:s").data, b"bytes");
    assert_eq!(find("Files/new/linked").link_name, b"Files/Dir/Renamed.txt");
    assert_eq!(
        (find("Files/new/link").layer().attributes, &find("Files/new/link").link_name[..]),
        (0x410, &br"..\Dir"[..])
    );

    std::fs::remove_dir_all(target("Dir")).unwrap();
    std::fs::create_dir(target("Dir")).unwrap();
    let first = ["M Files/Dir", "D Files/Dir/Gone.txt", "D Files/Dir/Old.txt"];
    assert_eq!(listed(&upper), [&first[..], &added].concat());
}
