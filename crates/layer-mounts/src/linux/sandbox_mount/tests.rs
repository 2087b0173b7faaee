//! Sandboxes on real views: their content, the changes in the image, and the attributes that survive copy-up.

use super::*;
use crate::linux::erofs_mount::mount_index;
use crate::linux::sandbox_image;
use crate::linux::test_support::{Layers, Mounted, directory, no_record};
use crate::linux::upper::{UpperDirectory, UpperEntry, UpperKind};
use erofs_index::{ImageBuilder, Inode, InodeId, Kind, Namespace};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

/// A view with a mounted sandbox on it. Unmounts from top to bottom.
struct Running {
    target: Mounted,
    storage: Mounted,
    view: Mounted,
    layers: Layers,
}

impl Running {
    fn on(layers: Layers) -> Self {
        let view = layers.folder("view");
        mount_index(&layers.index(), &layers.tars(), &view).unwrap();
        let view = Mounted(view);
        let image = layers.folder("image").join("sandbox.img");
        sandbox_image::create(
            &layers.folder("templates"),
            &image,
            256 << 20,
            (no_record, &crate::Cancel::default()),
        )
        .unwrap();
        let (storage, target) = (layers.folder("storage"), layers.folder("target"));
        let start = Instant::now();
        let lower = view.0.join("Files");
        let sandbox = Sandbox { image: &image, storage: &storage, lower: &lower, target: &target };
        mount_sandbox(&sandbox).unwrap();
        eprintln!("sandbox mounted in {:?}", start.elapsed());
        Self { target: Mounted(target), storage: Mounted(storage), view, layers }
    }
    fn with(more: impl FnOnce(&mut ImageBuilder, InodeId)) -> Self {
        Self::on(Layers::with(&std::env::temp_dir(), 2, more))
    }
    fn image(&self) -> PathBuf {
        self.layers.folder("image").join("sandbox.img")
    }
    fn unmount(&self) -> Result<(), LinuxError> {
        let (image, lower) = (self.image(), self.lower(""));
        unmount_sandbox(&Sandbox {
            image: &image,
            storage: &self.storage.0,
            lower: &lower,
            target: &self.target.0,
        })
    }
    fn target(&self, name: &str) -> PathBuf {
        self.target.0.join(name)
    }
    fn lower(&self, name: &str) -> PathBuf {
        self.view.0.join("Files").join(name)
    }
    fn changes(&self) -> Vec<UpperEntry> {
        let upper = UpperDirectory::open(&self.storage.0.join(UPPER)).unwrap();
        upper.walk(|_| true, None).unwrap().map(Result::unwrap).collect()
    }
    fn kinds(&self) -> Vec<(String, UpperKind)> {
        let changes = self.changes().into_iter();
        changes.map(|entry| (String::from_utf8(entry.path).unwrap(), entry.kind)).collect()
    }
}

/// Adds an inode below `parent` with these attributes.
fn add(
    builder: &mut ImageBuilder,
    parent: InodeId,
    name: &str,
    kind: Kind,
    attributes: &[(Namespace, &[u8], &[u8])],
) -> InodeId {
    let xattrs = builder.xattr_set(attributes).unwrap();
    let inode = builder.add_inode(Inode { kind, ..directory(xattrs) }).unwrap();
    builder.link(parent, name.as_bytes(), inode).unwrap();
    inode
}

const EMPTY_FILE: Kind = Kind::File { extent: None, size: 0 };

#[test]
fn changes_are_written_to_the_image_as_plain_copies_and_whiteouts() {
    let running = Running::with(|builder, files| {
        let folder = add(builder, files, "folder", Kind::Directory, &[]);
        add(builder, folder, "inside", EMPTY_FILE, &[]);
        add(builder, files, "replaced", Kind::Directory, &[]);
    });
    assert_eq!(std::fs::read(running.target("layer-1.txt")).unwrap(), Layers::text(1));
    std::fs::write(running.target("new"), b"new").unwrap();
    std::fs::write(running.target("layer-0.txt"), b"changed").unwrap();
    std::fs::remove_file(running.target("layer-1.txt")).unwrap();
    std::fs::remove_dir(running.target("replaced")).unwrap();
    std::fs::create_dir(running.target("replaced")).unwrap();
    let expected = [
        ("layer-0.txt", UpperKind::File { size: 7 }),
        ("layer-1.txt", UpperKind::Whiteout),
        ("new", UpperKind::File { size: 3 }),
        ("replaced", UpperKind::Directory { opaque: true }),
    ];
    assert_eq!(running.kinds(), expected.map(|(path, kind)| (path.to_string(), kind)));
    let moved = std::fs::rename(running.target("folder"), running.target("moved")).unwrap_err();
    assert_eq!(moved.kind(), std::io::ErrorKind::CrossesDevices, "a lower folder is never renamed in place");
    std::fs::rename(running.target("new"), running.target("newer")).unwrap();
}

#[test]
fn copy_up_carries_every_attribute_of_files_folders_and_links() {
    let large = vec![7_u8; 60 << 10];
    let running = Running::with(|builder, files| {
        let attributes: [(Namespace, &[u8], &[u8]); 3] = [
            (Namespace::User, b"DOSATTRIB", b"0x20"),
            (Namespace::User, b"win32.sd", &[1; 300]),
            (Namespace::User, b"DosStream.big:$DATA", &large),
        ];
        add(builder, files, "file", EMPTY_FILE, &attributes);
        add(builder, files, "folder", Kind::Directory, &attributes);
        let trusted = [(Namespace::Trusted, &b"win32.sd"[..], &[2; 300][..])];
        add(builder, files, "link", Kind::Symlink(b"layer-0.txt".to_vec()), &trusted);
    });
    File::options().append(true).open(running.target("file")).unwrap();
    std::fs::write(running.target("folder/x"), b"").unwrap();
    // A change of its metadata copies a link up.
    let nobody = Some(rustix::fs::Uid::from_raw(1));
    rustix::fs::chownat(CWD, running.target("link"), nobody, None, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let changes = running.changes();
    let paths: Vec<_> = changes.iter().map(|entry| String::from_utf8_lossy(&entry.path)).collect();
    assert_eq!(paths, ["file", "folder", "folder/x", "link"]);
    for entry in &changes[..2] {
        assert_eq!(entry.xattrs, xattrs::all(&running.lower(&String::from_utf8_lossy(&entry.path))).unwrap());
        assert_eq!(entry.xattrs.len(), 3);
    }
    assert_eq!(changes[3].xattrs, [(b"trusted.win32.sd".to_vec(), vec![2; 300])]);
    assert_eq!(changes[1].mtime.0, changes[2].mtime.0, "adding to a folder changes its time");
}

/// A sandbox over a file with that many attributes of `length` bytes each.
fn with_streams(count: usize, length: usize) -> Running {
    let names: Vec<_> = (0..count).map(|number| format!("DosStream.{number:03}:$DATA")).collect();
    let value = vec![3_u8; length];
    Running::with(|builder, files| {
        let attributes: Vec<_> =
            names.iter().map(|name| (Namespace::User, name.as_bytes(), value.as_slice())).collect();
        add(builder, files, "file", EMPTY_FILE, &attributes);
    })
}

#[test]
fn a_hundred_short_or_fifty_long_streams_of_a_file_are_copied_up() {
    for (count, length) in [(100, 4), (50, 5000)] {
        let running = with_streams(count, length);
        File::options().append(true).open(running.target("file")).unwrap();
        let copied = &running.changes()[0].xattrs;
        assert_eq!(copied, &xattrs::all(&running.lower("file")).unwrap());
        assert_eq!(copied.len(), count);
    }
}

/// Bytes for the attributes of one file: a block without its header and end mark (the rest of the inode comes
/// on top).
const XATTR_BLOCK: usize = 4096 - 32 - 4;
/// Bytes that ext4 keeps free of values, so that more attributes can be added whose values lie elsewhere.
/// Source: `EXT4_XATTR_BLOCK_RESERVE` of `fs/ext4/xattr.h`.
const XATTR_RESERVE: usize = 512;
/// Longer values always get an inode of their own. Source: `EXT4_XATTR_MIN_LARGE_EA_SIZE` of
/// `fs/ext4/xattr.h`.
const XATTR_INLINE_MAX: usize = 4096 - 20 - 32 - 4;

/// Whether `count` attributes with names of `name` bytes (without namespace) and values of `value` bytes are
/// certain to survive copy-up.
fn xattrs_fit(count: usize, name: usize, value: usize) -> bool {
    // `struct ext4_xattr_entry`, the name, and the value unless it lies elsewhere; each to a multiple of
    // four.
    let entries = count * (16 + name.next_multiple_of(4));
    let values = if value > XATTR_INLINE_MAX { 0 } else { count * value.next_multiple_of(4) };
    entries <= XATTR_RESERVE || entries + values <= XATTR_BLOCK
}

#[test]
fn attributes_that_are_certain_to_fit_are_always_copied_up() {
    for length in [0, 100, 500, 1500, 3000, 4040, 4041] {
        let most = (1..=100).take_while(|&count| xattrs_fit(count, 19, length)).last().unwrap();
        let running = with_streams(most.min(60_000 / (length + 1) * 4), length);
        File::options().append(true).open(running.target("file")).unwrap();
        assert!(running.changes()[0].xattrs.len() >= 14);
    }
}

#[test]
fn more_attributes_than_ext4_can_hold_make_the_change_fail_and_nothing_is_lost() {
    let running = with_streams(100, 500);
    let error = File::options().append(true).open(running.target("file")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(running.changes().is_empty());
    assert_eq!(xattrs::all(&running.target("file")).unwrap().len(), 100);
}

#[test]
fn the_root_shows_the_attributes_and_time_of_the_views_root() {
    let running = Running::on(Layers::with_root_attribute(b"win32.sd", b"root"));
    let shown = xattrs::all(&running.target("")).unwrap();
    assert_eq!(shown, [(b"user.win32.sd".to_vec(), b"root".to_vec())]);
    assert_eq!(running.target("").metadata().unwrap().mtime(), running.lower("").metadata().unwrap().mtime());
}

#[test]
fn deleting_gives_the_space_back_to_the_store() {
    let running = Running::with(|_, _| {});
    let used = || running.image().metadata().unwrap().blocks() * 512;
    std::fs::write(running.target("large"), vec![1; 128 << 20]).unwrap();
    rustix::fs::syncfs(File::open(running.target("")).unwrap()).unwrap();
    let full = used();
    std::fs::remove_file(running.target("large")).unwrap();
    running.unmount().unwrap();
    in_use::wait_for_image(&running.image()).unwrap();
    assert!(full > 128 << 20 && used() < 16 << 20, "{full} bytes before, {} after", used());
}

#[test]
fn a_sandbox_is_as_large_as_it_was_made() {
    let running = Running::with(|_, _| {});
    let error = std::fs::write(running.target("large"), vec![1; 300 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn the_mount_has_the_options_that_keep_the_upper_directory_plain() {
    let running = Running::with(|_, _| {});
    let overlay = mount_table::at(&running.target("")).unwrap().unwrap();
    let has = |option: &str| overlay.file_system_options.split(',').any(|x| x == option);
    assert_eq!(overlay.file_system, "overlay");
    assert!(has("redirect_dir=nofollow"), "{}", overlay.file_system_options);
    assert!(!has("userxattr") && !has("metacopy=on") && !has("index=on"), "{}", overlay.file_system_options);
    for option in ["nosuid", "nodev", "noatime"] {
        assert!(overlay.options.split(',').any(|x| x == option));
    }
}

#[test]
fn a_sandbox_that_is_mounted_is_not_mounted_again() {
    let running = Running::with(|_, _| {});
    let error = mount_storage(&running.image(), &running.layers.folder("other")).unwrap_err();
    assert!(matches!(error, LinuxError::ImageAttached { .. }), "{error}");
}

#[test]
fn a_failed_overlay_leaves_nothing_mounted_and_no_loop_device() {
    let running = Running::with(|_, _| {});
    let layers = &running.layers;
    let image = layers.folder("image").join("other.img");
    sandbox_image::create(
        &layers.folder("templates"),
        &image,
        256 << 20,
        (no_record, &crate::Cancel::default()),
    )
    .unwrap();
    let (storage, target) = (layers.folder("storage-2"), layers.folder("target-2"));
    let missing = running.lower("missing");
    let sandbox = Sandbox { image: &image, storage: &storage, lower: &missing, target: &target };
    let error = mount_sandbox(&sandbox).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(mount_table::at(&storage).unwrap(), None);
    in_use::wait_for_image(&image).unwrap();
}

#[test]
fn unmounting_is_refused_while_in_use_and_can_be_repeated() {
    let running = Running::with(|_, _| {});
    let open = File::create(running.target("open")).unwrap();
    assert!(matches!(running.unmount(), Err(LinuxError::Busy { .. })));
    assert!(mount_table::at(&running.storage.0).unwrap().is_some());
    drop(open);
    running.unmount().unwrap();
    running.unmount().unwrap();
    in_use::wait_for_image(&running.image()).unwrap();
}

/// A file system of 32 MiB for a store, and a sandbox in it.
fn on_a_small_disk(folder: &Path) -> (Mounted, Running) {
    let context = FsContext::open("tmpfs", folder).unwrap();
    context.string("size", "32m").unwrap();
    let store = Mounted(folder.to_owned());
    attach(context.mount(MountAttrFlags::empty()).unwrap().as_fd(), &store.0).unwrap();
    let running = Running::on(Layers::new_in(&store.0, 1));
    (store, running)
}

fn fill(store: &Mounted) -> PathBuf {
    let path = store.0.join("full");
    std::fs::write(&path, vec![1; 64 << 20]).unwrap_err();
    path
}

#[test]
fn what_a_full_disk_keeps_from_being_saved_stays_mounted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, running) = on_a_small_disk(folder.path());
    let full = fill(&store);
    std::fs::write(running.target("lost"), vec![1; 4 << 20]).unwrap();
    let unmounted = running.unmount();
    assert!(matches!(unmounted, Err(LinuxError::Unsaved { .. })));
    assert!(mount_table::at(&running.target.0).unwrap().is_some());
    std::fs::remove_file(full).unwrap();
    // Until then the lost file can still be copied.
    assert_eq!(std::fs::read(running.target("lost")).unwrap().len(), 4 << 20);
}

#[test]
fn a_full_disk_does_not_harm_a_sandbox_that_nobody_writes_to() {
    let folder = tempfile::tempdir().unwrap();
    let (store, running) = on_a_small_disk(folder.path());
    std::fs::write(running.target("saved"), b"before").unwrap();
    running.unmount().unwrap();
    let lower = running.lower("");
    let sandbox = Sandbox {
        image: &running.image(),
        storage: &running.storage.0,
        lower: &lower,
        target: &running.target.0,
    };
    mount_sandbox(&sandbox).unwrap();
    let full = fill(&store);
    unmount_sandbox(&sandbox).unwrap();
    // Mounting fails as well if the disk was full before.
    assert!(matches!(mount_sandbox(&sandbox), Err(LinuxError::Unsettled { .. })));
    assert_eq!(mount_table::at(sandbox.storage).unwrap(), None);
    std::fs::remove_file(full).unwrap();
    mount_sandbox(&sandbox).unwrap();
    assert_eq!(std::fs::read(running.target("saved")).unwrap(), b"before");
    unmount_sandbox(&sandbox).unwrap();
    in_use::wait_for_image(sandbox.image).unwrap();
    sandbox_image::check_file_system(sandbox.image, &crate::Cancel::default()).unwrap();
}

#[test]
fn awkward_and_long_paths_are_mounted() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Layers::deep_folder(&parent).join("a:b,c\\d e");
    std::fs::create_dir_all(&folder).unwrap();
    let running = Running::on(Layers::new_in(&folder, 1));
    std::fs::write(running.target("x"), b"1").unwrap();
    assert_eq!(running.kinds().len(), 1);
}

#[test]
fn a_store_that_lies_on_an_overlay_itself_works() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work", "store"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let mut context = FsContext::open("overlay", folder.path()).unwrap();
    for (key, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        context.path(key, &folder.path().join(name)).unwrap();
    }
    let store = Mounted(folder.path().join("store"));
    attach(context.mount(MountAttrFlags::empty()).unwrap().as_fd(), &store.0).unwrap();
    let running = Running::on(Layers::new_in(&store.0, 2));
    std::fs::write(running.target("layer-0.txt"), b"changed").unwrap();
    assert_eq!(running.kinds().len(), 1);
}
