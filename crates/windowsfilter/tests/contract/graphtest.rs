//! The suite that moby runs against every graph driver (`daemon/graphdriver/graphtest`), which it leaves
//! empty for Windows: create empty, base and snap, deep layer read, diff apply, changes, quota, put and get
//! counting, missing parent.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use windowsfilter::driver::{ChangeKind, Presence};
use windowsfilter::{Driver, Error, StorageOptions};

use super::Rig;
use super::support::{TestLayer, id};

/// The parent of a sandbox with the fewest possible parents.
fn least<R: Rig>() -> Option<&'static str> {
    (!R::SANDBOXES_WITHOUT_PARENT).then_some("base")
}

pub(crate) fn create_empty_gives_an_empty_view<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    driver.create(&id("empty"), None).unwrap();
    assert_eq!(driver.exists(&id("empty")).unwrap(), Presence::Present);
    assert_eq!(rig.mounted("empty", |view| view.names()), BTreeSet::new());
    driver.remove(&id("empty")).unwrap();
    assert_eq!(driver.exists(&id("empty")).unwrap(), Presence::Absent);
}

pub(crate) fn create_base_and_snap_show_what_the_base_has<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    rig.sandbox("work", least::<R>());
    rig.mounted("work", |view| {
        view.make_directory("dir");
        view.write("dir/file", b"from the layer");
    });
    let mut tar = driver.diff(&id("work"), None).unwrap();
    driver.apply_diff(&id("layer"), least::<R>().map(id).as_ref(), &mut tar).unwrap();
    rig.sandbox("snap", Some("layer"));
    let seen = rig.mounted("snap", |view| view.text("dir/file"));
    assert_eq!(seen.as_deref(), Some("from the layer"));
}

pub(crate) fn a_file_is_read_through_125_layers<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    let mut parent = None;
    for n in 0..125 {
        let layer = id(&format!("layer{n}"));
        let tar = TestLayer::new()
            .dir("Files")
            .file("Files/same.txt", format!("layer {n}").as_bytes())
            .file(format!("Files/only-{n}.txt"), b"x")
            .tar();
        driver.apply_diff(&layer, parent.as_ref(), &mut &tar[..]).unwrap();
        parent = Some(layer);
    }
    let top = parent.unwrap();
    rig.sandbox("c", Some(top.as_str()));
    rig.mounted("c", |view| {
        assert_eq!(view.text("same.txt").as_deref(), Some("layer 124"));
        let names = view.names();
        assert!((0..125).all(|n| names.contains(&format!("only-{n}.txt"))) && names.len() == 126);
    });
}

pub(crate) fn a_diff_of_10_000_files_applies_and_reads_back<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    let parent = least::<R>().map(id);
    let options = StorageOptions { size: Some(1 << 30) };
    driver.create_read_write(&id("work"), parent.as_ref(), options, "").unwrap();
    rig.mounted("work", |view| {
        for n in 0..10_000 {
            view.write(&format!("file-{n}"), n.to_string().as_bytes());
        }
    });
    let mut tar = driver.diff(&id("work"), None).unwrap();
    let applied = driver.apply_diff(&id("many"), parent.as_ref(), &mut tar).unwrap();
    assert_eq!(applied.size, (0..10_000u32).map(|n| n.to_string().len() as u64).sum::<u64>());
    rig.sandbox("c", Some("many"));
    rig.mounted("c", |view| {
        for n in (0..10_000).step_by(97) {
            assert_eq!(view.text(&format!("file-{n}")), Some(n.to_string()));
        }
    });
}

pub(crate) fn changes_tell_added_modified_and_deleted_apart<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    rig.sandbox("c", Some("base"));
    let path = driver.get(&id("c"), "").unwrap();
    let view = rig.view("c", &path);
    view.write("new.txt", b"new");
    view.write("Windows/notepad.exe", b"other");
    view.remove("readme.txt");
    let expected = [
        R::told(ChangeKind::Modify, "Files/Windows"),
        R::told(ChangeKind::Modify, "Files/Windows/notepad.exe"),
        R::told(ChangeKind::Add, "Files/new.txt"),
        R::told(ChangeKind::Delete, "Files/readme.txt"),
    ];
    // The list is the same while it is mounted and afterwards.
    let mounted = driver.changes(&id("c"), Some(&id("base"))).unwrap();
    driver.put(&id("c")).unwrap();
    assert_eq!(driver.changes(&id("c"), None).unwrap(), mounted);
    if R::TELLS_ADDED {
        assert_eq!(mounted, expected);
    }
    // And the same for the layer from its diff.
    driver.apply_diff(&id("layer"), Some(&id("base")), &mut driver.diff(&id("c"), None).unwrap()).unwrap();
    let of_layer = driver.changes(&id("layer"), Some(&id("base"))).unwrap();
    for change in &expected {
        assert!(mounted.contains(change), "{change:?} is not in {mounted:?}");
        assert!(of_layer.contains(change), "{change:?} is not in {of_layer:?}");
    }
    rig.sandbox("on-it", Some("layer"));
    rig.mounted("on-it", |view| {
        assert_eq!(view.text("Windows/notepad.exe").as_deref(), Some("other"));
        assert_eq!(view.read("readme.txt"), None);
    });
}

pub(crate) fn a_full_sandbox_says_no_space_and_the_store_is_unharmed<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    rig.sandbox("c", Some("base"));
    let view = driver.get(&id("c"), "").unwrap();
    let mut file = fs::File::create(view.join("big")).unwrap();
    let block = vec![1; 1 << 20];
    let error = (0..=R::quota() >> 20).find_map(|_| file.write_all(&block).err()).unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    drop(file);
    driver.put(&id("c")).unwrap();
    assert_eq!(rig.problems(), [""; 0]);
}

pub(crate) fn gets_are_counted_and_the_last_put_unmounts<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    let first = driver.get(&id("base"), "").unwrap();
    let another = rig.another();
    assert_eq!(another.get(&id("base"), "").unwrap(), first);
    driver.put(&id("base")).unwrap();
    assert_eq!(rig.view("base", &first).text("readme.txt").as_deref(), Some("read me"));
    another.put(&id("base")).unwrap();
    assert!(!R::VIEWS_END || !first.exists());
    assert!(matches!(driver.put(&id("base")), Err(Error::NotMounted { .. })));
}

pub(crate) fn a_missing_parent_is_an_error_and_leaves_nothing_behind<R: Rig>() {
    let rig = R::new();
    let driver = rig.driver();
    let missing = id("missing");
    let tar = TestLayer::new().dir("Files").tar();
    let attempts: [Result<(), Error>; 3] = [
        driver.create(&id("x"), Some(&missing)),
        driver.create_read_write(&id("x"), Some(&missing), StorageOptions::default(), ""),
        driver.apply_diff(&id("x"), Some(&missing), &mut &tar[..]).map(drop),
    ];
    for attempt in attempts {
        assert!(matches!(attempt, Err(Error::MissingParent { .. })), "{attempt:?}");
    }
    assert_eq!(rig.names(), [""; 0]);
}
