//! Images made, filled, grown and refused.

use super::*;
use crate::linux::sandbox_mount::mount_storage;
use crate::linux::test_support::{Mounted, no_record};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;
use tempfile::TempDir;

const GIB: u64 = 1 << 30;

struct Store(TempDir);

impl Store {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn create(&self, name: &str, size: u64) -> Result<PathBuf, LinuxError> {
        let image = self.path(name);
        create(&self.path("templates"), &image, size, (no_record, &Cancel::default())).map(|()| image)
    }
    fn mount(&self, image: &Path) -> Mounted {
        let target = image.with_extension("mounted");
        std::fs::create_dir_all(&target).unwrap();
        mount_storage(image, &target).unwrap();
        Mounted(target)
    }
}

fn capacity(folder: &Path) -> u64 {
    let file_system = rustix::fs::statvfs(folder).unwrap();
    file_system.f_blocks * file_system.f_frsize
}

fn assert_sound(image: &Path) {
    Tool::new("e2fsck", image).arguments(&["-f", "-n"]).run(&[0], &Cancel::default()).unwrap();
}

#[test]
fn an_image_of_127_gb_takes_little_space_and_is_ready_for_overlayfs() {
    let store = Store::new();
    store.create("first", 127 * GIB).unwrap();
    let start = Instant::now();
    let image = store.create("second", 127 * GIB).unwrap();
    eprintln!("create from a template: {:?}", start.elapsed());
    let metadata = image.metadata().unwrap();
    assert_eq!(metadata.len(), 127 * GIB);
    assert!(metadata.blocks() * 512 < 5 << 20, "{} bytes are used", metadata.blocks() * 512);
    assert_sound(&image);
    let start = Instant::now();
    let mounted = store.mount(&image);
    eprintln!("mount: {:?}", start.elapsed());
    assert!(mounted.0.join(UPPER).is_dir() && mounted.0.join(WORK).is_dir());
    assert!(capacity(&mounted.0) > 120 * GIB);
}

#[test]
fn two_images_of_one_template_can_be_mounted_together() {
    let store = Store::new();
    let (first, second) =
        (store.create("a", MINIMUM_SIZE).unwrap(), store.create("b", MINIMUM_SIZE).unwrap());
    let (first, second) = (store.mount(&first), store.mount(&second));
    std::fs::write(first.0.join("upper/x"), b"1").unwrap();
    assert!(!second.0.join("upper/x").exists());
}

#[test]
fn the_size_is_a_limit_and_the_smallest_one_is_usable() {
    let store = Store::new();
    let mounted = store.mount(&store.create("a", MINIMUM_SIZE).unwrap());
    std::fs::write(mounted.0.join("upper/fits"), vec![1; 4 << 20]).unwrap();
    let error = std::fs::write(mounted.0.join("upper/too-large"), vec![1; 16 << 20]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_size_below_the_minimum_is_refused_with_both_numbers() {
    let store = Store::new();
    let error = store.create("a", MINIMUM_SIZE - 1).unwrap_err();
    assert!(error.to_string().contains("16777215") && error.to_string().contains("16777216"), "{error}");
    assert!(!store.path("a").exists());
}

#[test]
fn a_size_that_is_no_multiple_of_the_block_is_rounded_up() {
    let store = Store::new();
    let image = store.create("a", MINIMUM_SIZE + 1).unwrap();
    assert_eq!(image.metadata().unwrap().len(), MINIMUM_SIZE + BLOCK);
}

#[test]
fn an_existing_image_is_not_overwritten() {
    let store = Store::new();
    std::fs::write(store.path("a"), b"mine").unwrap();
    assert!(store.create("a", MINIMUM_SIZE).is_err());
    assert_eq!(std::fs::read(store.path("a")).unwrap(), b"mine");
}

#[test]
fn many_at_once_make_one_template_and_leave_nothing_behind() {
    let store = Store::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || store.create(&format!("image-{number}"), MINIMUM_SIZE).unwrap());
        }
    });
    let names = std::fs::read_dir(store.path("templates")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["lock", "sandbox-v1-16777216.img"]);
}

/// Grows an unmounted sandbox as the engine does.
fn expanded(image: &Path, size: u64) -> Result<(), LinuxError> {
    if expand(image, size)? == Growth::NeedsCopy {
        let copy = tempfile::NamedTempFile::new_in(image.parent().unwrap()).unwrap();
        expand_copy(image, copy.path(), size, &Cancel::default())?;
        copy.persist(image).unwrap();
    }
    Ok(())
}

#[test]
fn an_unmounted_sandbox_grows_and_keeps_its_files() {
    let store = Store::new();
    let image = store.create("a", MINIMUM_SIZE).unwrap();
    std::fs::write(store.mount(&image).0.join("upper/kept"), b"kept").unwrap();
    expanded(&image, 40 * GIB).unwrap();
    assert_sound(&image);
    assert!(image.metadata().unwrap().blocks() * 512 < 20 << 20);
    let mounted = store.mount(&image);
    assert!(capacity(&mounted.0) > 36 * GIB);
    assert_eq!(std::fs::read(mounted.0.join("upper/kept")).unwrap(), b"kept");
}

#[test]
fn a_mounted_sandbox_grows_or_says_which_privilege_is_missing() {
    let store = Store::new();
    let image = store.create("a", 64 << 20).unwrap();
    let mounted = store.mount(&image);
    let before = capacity(&mounted.0);
    match expand(&image, 40 * GIB) {
        Ok(growth) => {
            assert_eq!(growth, Growth::Done);
            assert!(capacity(&mounted.0) > 36 * GIB);
        }
        Err(error) => {
            eprintln!("without CAP_SYS_RESOURCE: {error}");
            assert!(matches!(error, LinuxError::GrowNotPermitted { .. }), "{error}");
            assert!(error.to_string().contains("CAP_SYS_RESOURCE"), "{error}");
            assert_eq!(capacity(&mounted.0), before);
            assert_eq!(image.metadata().unwrap().len(), 64 << 20);
        }
    }
    std::fs::write(mounted.0.join("upper/still-works"), b"1").unwrap();
    drop(mounted);
    assert_sound(&image);
}

#[test]
fn shrinking_is_refused_and_the_same_size_changes_nothing() {
    let store = Store::new();
    let image = store.create("a", 2 * MINIMUM_SIZE).unwrap();
    assert!(matches!(expand(&image, MINIMUM_SIZE), Err(LinuxError::SandboxShrink { .. })));
    assert_eq!(expand(&image, 2 * MINIMUM_SIZE).unwrap(), Growth::Done);
    assert_eq!(image.metadata().unwrap().len(), 2 * MINIMUM_SIZE);
}

#[test]
fn growth_that_was_cut_off_after_the_file_grew_is_finished() {
    let store = Store::new();
    let image = store.create("a", MINIMUM_SIZE).unwrap();
    File::options().write(true).open(&image).unwrap().set_len(4 * MINIMUM_SIZE).unwrap();
    expanded(&image, 4 * MINIMUM_SIZE).unwrap();
    assert_sound(&image);
    assert!(capacity(&store.mount(&image).0) > 3 * MINIMUM_SIZE);
}

#[test]
fn the_sandbox_is_as_it_was_until_its_larger_copy_is_complete() {
    let store = Store::new();
    let image = store.create("a", MINIMUM_SIZE).unwrap();
    let before = std::fs::read(&image).unwrap();
    let copy = tempfile::NamedTempFile::new_in(image.parent().unwrap()).unwrap();
    expand_copy(&image, copy.path(), 2 * MINIMUM_SIZE, &Cancel::default()).unwrap();
    assert!(std::fs::read(&image).unwrap() == before);
    assert_eq!(copy.path().metadata().unwrap().len(), 2 * MINIMUM_SIZE);
}

#[test]
fn a_missing_program_names_its_package() {
    let error = Tool::new("mkfs.nosuchfs", Path::new("/x")).run(&[0], &Cancel::default()).unwrap_err();
    assert_eq!(error.to_string(), "mkfs.nosuchfs is not installed: it is in the package e2fsprogs");
}

#[test]
fn a_damaged_image_is_not_grown_and_the_message_is_the_tools() {
    let store = Store::new();
    let image = store.path("a");
    std::fs::write(&image, vec![0; MINIMUM_SIZE as usize]).unwrap();
    let error = expanded(&image, 2 * MINIMUM_SIZE).unwrap_err();
    assert!(error.to_string().contains("Bad magic number"), "{error}");
    assert_eq!(image.metadata().unwrap().len(), MINIMUM_SIZE);
}
