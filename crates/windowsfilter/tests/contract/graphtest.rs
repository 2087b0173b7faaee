//! The suite that moby runs against every graph driver (`daemon/graphdriver/graphtest`), which for Windows it
//! has left empty: create empty, base and snap, deep layer read, diff apply, changes, quota, put and get
//! counting, missing parent.
//!
//! It knows an engine only as a [`Rig`], so a further engine runs all of it with one more line at the end of
//! this file.

use std::fs;
use std::io::Write;

use windowsfilter::{ChangeKind, Driver, Error, LayerStore, Presence, StorageOptions};

use crate::change;
use crate::support::{TestLayer, TestStore, id};

/// A driver over the engine under test, with a new store of its own.
pub(crate) trait Rig {
    fn new() -> Self;
    fn driver(&self) -> &dyn Driver;
    /// The same store once more, as another process would open it.
    fn another(&self) -> Box<dyn Driver>;
    /// A sandbox size that can be filled in a test.
    fn quota() -> u64;
    /// IDs in the store, and what unfinished work has left there.
    fn names(&self) -> Vec<String>;
    /// Everything that is wrong with the store.
    fn problems(&self) -> Vec<String>;
}

fn small<R: Rig>() -> StorageOptions {
    StorageOptions { size: Some(R::quota()) }
}

/// A rig with the layer `base`: a file and a directory with a file.
fn with_base<R: Rig>() -> R {
    let rig = R::new();
    rig.driver().apply_diff(&id("base"), None, &mut &TestLayer::base()[..]).unwrap();
    rig
}

fn create_empty_gives_an_empty_view<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    driver.create(&id("empty"), None).unwrap();
    assert_eq!(driver.exists(&id("empty")).unwrap(), Presence::Present);
    let view = driver.get(&id("empty"), "").unwrap();
    assert_eq!(fs::read_dir(&view).unwrap().count(), 0);
    driver.put(&id("empty")).unwrap();
    driver.remove(&id("empty")).unwrap();
    assert_eq!(driver.exists(&id("empty")).unwrap(), Presence::Absent);
}

fn create_base_and_snap_show_what_the_base_has<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    driver.create_read_write(&id("work"), None, small::<R>(), "").unwrap();
    let view = driver.get(&id("work"), "").unwrap();
    fs::create_dir(view.join("dir")).unwrap();
    fs::write(view.join("dir").join("file"), "from the base").unwrap();
    driver.put(&id("work")).unwrap();
    let mut tar = driver.diff(&id("work"), None).unwrap();
    driver.apply_diff(&id("base"), None, &mut tar).unwrap();
    driver.create_read_write(&id("snap"), Some(&id("base")), small::<R>(), "").unwrap();
    let view = driver.get(&id("snap"), "").unwrap();
    assert_eq!(fs::read_to_string(view.join("dir").join("file")).unwrap(), "from the base");
    driver.put(&id("snap")).unwrap();
}

fn a_file_is_read_through_125_layers<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    let mut parent = None;
    for n in 0..125 {
        let layer = id(&format!("layer{n}"));
        let tar = TestLayer::new()
            .dir("Files")
            .file("Files/same.txt", format!("layer {n}").as_bytes())
            .file(&format!("Files/only-{n}.txt"), b"x")
            .tar();
        driver.apply_diff(&layer, parent.as_ref(), &mut &tar[..]).unwrap();
        parent = Some(layer);
    }
    let top = parent.unwrap();
    let view = driver.get(&top, "").unwrap();
    assert_eq!(fs::read_to_string(view.join("same.txt")).unwrap(), "layer 124");
    assert_eq!(fs::read_dir(&view).unwrap().count(), 126);
    driver.put(&top).unwrap();
}

fn a_diff_of_10_000_files_applies_and_reads_back<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    driver.create_read_write(&id("work"), None, StorageOptions { size: Some(1 << 30) }, "").unwrap();
    let view = driver.get(&id("work"), "").unwrap();
    for n in 0..10_000 {
        fs::write(view.join(format!("file-{n}")), n.to_string()).unwrap();
    }
    driver.put(&id("work")).unwrap();
    let applied = driver.apply_diff(&id("many"), None, &mut driver.diff(&id("work"), None).unwrap()).unwrap();
    assert_eq!(applied.size, (0..10_000u32).map(|n| n.to_string().len() as u64).sum::<u64>());
    let view = driver.get(&id("many"), "").unwrap();
    for n in (0..10_000).step_by(97) {
        assert_eq!(fs::read_to_string(view.join(format!("file-{n}"))).unwrap(), n.to_string());
    }
    driver.put(&id("many")).unwrap();
}

fn changes_tell_added_modified_and_deleted_apart<R: Rig>() {
    let rig = with_base::<R>();
    let driver = rig.driver();
    driver.create_read_write(&id("c"), Some(&id("base")), small::<R>(), "").unwrap();
    let view = driver.get(&id("c"), "").unwrap();
    fs::write(view.join("new.txt"), "new").unwrap();
    fs::write(view.join("Windows").join("notepad.exe"), "other").unwrap();
    fs::remove_file(view.join("readme.txt")).unwrap();
    let expected = [
        change(ChangeKind::Modify, "Files/Windows"),
        change(ChangeKind::Modify, "Files/Windows/notepad.exe"),
        change(ChangeKind::Add, "Files/new.txt"),
        change(ChangeKind::Delete, "Files/readme.txt"),
    ];
    // The same while it is mounted and afterwards.
    assert_eq!(driver.changes(&id("c"), Some(&id("base"))).unwrap(), expected);
    driver.put(&id("c")).unwrap();
    assert_eq!(driver.changes(&id("c"), None).unwrap(), expected);
    // And of the layer that its diff makes.
    driver.apply_diff(&id("layer"), Some(&id("base")), &mut driver.diff(&id("c"), None).unwrap()).unwrap();
    let of_layer = driver.changes(&id("layer"), Some(&id("base"))).unwrap();
    for change in &expected {
        assert!(of_layer.contains(change), "{change:?} is not in {of_layer:?}");
    }
    let view = driver.get(&id("layer"), "").unwrap();
    assert_eq!(fs::read_to_string(view.join("Windows").join("notepad.exe")).unwrap(), "other");
    assert!(!view.join("readme.txt").exists());
    driver.put(&id("layer")).unwrap();
}

fn a_full_sandbox_says_no_space_and_the_store_is_unharmed<R: Rig>() {
    let rig = with_base::<R>();
    let driver = rig.driver();
    driver.create_read_write(&id("c"), Some(&id("base")), small::<R>(), "").unwrap();
    let view = driver.get(&id("c"), "").unwrap();
    let mut file = fs::File::create(view.join("big")).unwrap();
    let block = vec![1; 1 << 20];
    let error = (0..=R::quota() >> 20).find_map(|_| file.write_all(&block).err()).unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    drop(file);
    driver.put(&id("c")).unwrap();
    assert_eq!(rig.problems(), [""; 0]);
}

fn gets_are_counted_and_the_last_put_unmounts<R: Rig>() {
    let rig = with_base::<R>();
    let driver = rig.driver();
    let first = driver.get(&id("base"), "").unwrap();
    let another = rig.another();
    assert_eq!(another.get(&id("base"), "").unwrap(), first);
    driver.put(&id("base")).unwrap();
    assert!(first.join("readme.txt").exists());
    another.put(&id("base")).unwrap();
    assert!(!first.join("readme.txt").exists());
    assert!(matches!(driver.put(&id("base")), Err(Error::NotMounted { .. })));
}

fn a_missing_parent_is_an_error_and_leaves_nothing_behind<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    let missing = id("missing");
    let tar = TestLayer::new().dir("Files").tar();
    let attempts: [Result<(), Error>; 3] = [
        driver.create(&id("x"), Some(&missing)),
        driver.create_read_write(&id("x"), Some(&missing), small::<R>(), ""),
        driver.apply_diff(&id("x"), Some(&missing), &mut &tar[..]).map(drop),
    ];
    for attempt in attempts {
        assert!(matches!(attempt, Err(Error::MissingParent { .. })), "{attempt:?}");
    }
    assert_eq!(rig.names(), [""; 0]);
}

impl Rig for TestStore {
    fn new() -> Self {
        Self::new()
    }

    fn driver(&self) -> &dyn Driver {
        &**self
    }

    fn another(&self) -> Box<dyn Driver> {
        Box::new(LayerStore::open(self.root(), StorageOptions::default()).unwrap())
    }

    fn quota() -> u64 {
        64 << 20
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join("layers")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn problems(&self) -> Vec<String> {
        let layers = self.layers().unwrap();
        let unverified = layers.iter().filter_map(|layer| self.verify(layer).err()).map(|e| e.to_string());
        unverified.chain(self.fsck(false).unwrap().into_iter().map(|finding| finding.problem)).collect()
    }
}

/// The suite for one engine.
macro_rules! suite {
    ($engine:ident, $rig:ty) => {
        suite!(
            $engine, $rig:
            create_empty_gives_an_empty_view,
            create_base_and_snap_show_what_the_base_has,
            a_file_is_read_through_125_layers,
            a_diff_of_10_000_files_applies_and_reads_back,
            changes_tell_added_modified_and_deleted_apart,
            a_full_sandbox_says_no_space_and_the_store_is_unharmed,
            gets_are_counted_and_the_last_put_unmounts,
            a_missing_parent_is_an_error_and_leaves_nothing_behind,
        );
    };
    ($engine:ident, $rig:ty: $($name:ident,)+) => {
        mod $engine {
            use super::*;

            $(#[test]
            fn $name() {
                super::$name::<$rig>();
            })+
        }
    };
}

suite!(portable, TestStore);
