//! The invariants of sandboxes, of the templates they are copied from, and of mounts.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use windowsfilter::fsck::Invariant;
use windowsfilter::{Driver, StorageOptions};

use crate::support::{TestStore, id};
use crate::{flip, left_alone, repaired};

const SIZE: u64 = 16 << 20;
const SMALL: StorageOptions = StorageOptions { size: Some(SIZE) };

/// With the sandbox `box` on `base`, in which something was written.
fn with_sandbox() -> TestStore {
    let store = TestStore::with_base();
    store.create_read_write(&id("box"), Some(&id("base")), SMALL, "").unwrap();
    let view = store.get(&id("box"), "").unwrap();
    fs::write(view.join("new.txt"), [7; 10_000]).unwrap();
    store.put(&id("box")).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
    store
}

fn image(store: &TestStore) -> PathBuf {
    store.layer_dir("box/sandbox.img")
}

/// A little-endian number of four bytes.
fn number(path: &Path, offset: u64) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut bytes = [0; 4];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    u64::from(u32::from_le_bytes(bytes))
}

#[test]
fn an_unfinished_template_is_removed() {
    let store = TestStore::with_base();
    fs::create_dir_all(store.root().join("templates/making/root")).unwrap();
    repaired(&store, Invariant::UnfinishedTemplate);
    assert!(!store.root().join("templates/making").exists());
}

#[test]
fn a_damaged_template_is_removed_and_made_anew_when_it_is_needed() {
    let store = with_sandbox();
    let template = store.root().join(format!("templates/sandbox-v1-{SIZE}.img"));
    let record = template.with_extension("json");
    // Damage in the file system, in its unused part, and without a record to compare with.
    let damages: [&dyn Fn(); 4] =
        [&|| flip(&template, 1024 + 200), &|| flip(&template, SIZE - 1), &|| flip(&record, 40), &|| {
            fs::remove_file(&record).unwrap();
        }];
    for damage in damages {
        damage();
        let found = repaired(&store, Invariant::TemplateIntact);
        assert!(found.problem.contains("sandbox-v1-"), "{found:?}");
        assert!(!template.exists());
        store.create_read_write(&id("other"), Some(&id("base")), SMALL, "").unwrap();
        assert!(template.exists());
        assert_eq!(store.fsck(false).unwrap(), []);
        store.remove(&id("other")).unwrap();
    }
    fs::remove_file(&template).unwrap();
    assert_eq!(store.fsck(false).unwrap(), [], "a template may be deleted at any time");
}

#[test]
fn a_mount_whose_record_rots_is_found_and_taken_off() {
    let store = with_sandbox();
    let view = store.get(&id("box"), "").unwrap();
    flip(&store.root().join("mounts/box/state.json"), 30);
    let found = repaired(&store, Invariant::MountRecord);
    assert_eq!(found.id, Some(id("box")));
    assert!(!view.exists());
    let view = store.get(&id("box"), "").unwrap();
    assert_eq!(fs::read(view.join("new.txt")).unwrap(), [7; 10_000], "nothing is lost");
    store.put(&id("box")).unwrap();
}

#[test]
fn a_mount_without_a_record_is_taken_off() {
    let store = with_sandbox();
    store.get(&id("box"), "").unwrap();
    fs::remove_file(store.root().join("mounts/box/state.json")).unwrap();
    repaired(&store, Invariant::MountsInUse);
}

#[test]
fn a_sandbox_that_is_shorter_than_it_was_or_gone_is_found() {
    let store = with_sandbox();
    let path = image(&store);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 4096]).unwrap();
    assert!(left_alone(&store, Invariant::SandboxSize).problem.contains("sandbox.img"));
    fs::remove_file(&path).unwrap();
    assert!(left_alone(&store, Invariant::SandboxSize).problem.contains("it is missing"));
    fs::write(&path, good).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
}

/// The state after a killed `expand`.
#[test]
fn a_sandbox_that_is_longer_than_its_record_says_is_sound() {
    let store = with_sandbox();
    File::options().write(true).open(image(&store)).unwrap().set_len(2 * SIZE).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn every_flipped_bit_of_a_superblock_is_found() {
    let store = with_sandbox();
    for offset in (1024..2048).step_by(37).chain([1024 + 0x38, 2047]) {
        flip(&image(&store), offset);
        let found = store.fsck(false).unwrap();
        assert!(
            found.len() == 1 && found[0].invariant == Invariant::SandboxSuperblock,
            "{offset}: {found:?}"
        );
        assert!(found[0].problem.contains("sandbox.img"), "{found:?}");
        flip(&image(&store), offset);
    }
    flip(&image(&store), 1500);
    left_alone(&store, Invariant::SandboxSuperblock);
    assert!(store.verify(&id("box")).is_err());
}

#[test]
fn damage_to_the_metadata_of_a_sandbox_is_found_by_e2fsck() {
    let store = with_sandbox();
    let path = image(&store);
    // Source: `struct ext4_group_desc` of `fs/ext4/ext4.h`: bitmaps of blocks and inodes, the table of
    // inodes; inodes are of 1024 bytes.
    let block = |at: u64| number(&path, 4096 + at) * 4096;
    let (blocks, inodes, table) = (block(0), block(4), block(8));
    let root = table + 1024;
    for offset in [4096, 4096 + 0x1E, blocks, inodes, root, root + 4, root + 0x28] {
        flip(&path, offset);
        let found = left_alone(&store, Invariant::SandboxFileSystem);
        assert!(found.problem.contains("sandbox.img"), "{offset}: {found:?}");
        flip(&path, offset);
    }
    assert_eq!(store.fsck(false).unwrap(), []);
}

#[test]
fn what_is_mounted_is_the_kernels_and_not_taken_for_damaged() {
    let store = with_sandbox();
    let view = store.get(&id("box"), "").unwrap();
    for number in 0..200 {
        fs::write(view.join(format!("{number}.txt")), [1; 3000]).unwrap();
    }
    assert_eq!(store.fsck(false).unwrap(), []);
    fs::remove_file(view.join("7.txt")).unwrap();
    store.verify(&id("box")).unwrap();
    store.put(&id("box")).unwrap();
    assert_eq!(store.fsck(false).unwrap(), []);
}

/// After a crash of the machine, the journal of a sandbox is full and the rest is some seconds old.
#[test]
fn a_sandbox_whose_journal_is_to_be_replayed_is_sound() {
    let store = with_sandbox();
    let view = store.get(&id("box"), "").unwrap();
    for number in 0..100 {
        fs::create_dir(view.join(number.to_string())).unwrap();
    }
    let copy = store.root().join("copy");
    File::open(view.join("7")).unwrap().sync_all().unwrap();
    fs::copy(image(&store), &copy).unwrap();
    store.put(&id("box")).unwrap();
    fs::rename(&copy, image(&store)).unwrap();
    assert_ne!(number(&image(&store), 1024 + 0x60) & 4, 0, "the journal has to be replayed");
    assert_eq!(store.fsck(false).unwrap(), []);
}
