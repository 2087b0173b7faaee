//! The behaviour of every engine beyond moby's suite.

use std::fs;
use std::io::Read;
use std::path::Path;

use windowsfilter::driver::{ChangeKind, Presence};
use windowsfilter::{Driver, Error};

use super::support::{TestLayer, id};
use super::{Rig, View, layers};

pub(crate) fn remove_of_a_parent_is_refused_naming_all_children_and_changes_nothing<R: Rig>() {
    let rig = R::with_base();
    for sandbox in ["c1", "c2"] {
        rig.sandbox(sandbox, Some("base"));
    }
    match rig.driver().remove(&id("base")) {
        Err(Error::HasChildren { children, .. }) => assert_eq!(children, [id("c1"), id("c2")]),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.problems(), [""; 0]);
    for layer in ["c1", "c2", "base"] {
        rig.driver().remove(&id(layer)).unwrap();
    }
    assert_eq!(rig.names(), [""; 0]);
}

pub(crate) fn a_mounted_layer_is_not_removed<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    rig.sandbox("c", Some("base"));
    for layer in ["c", "base"] {
        driver.get(&id(layer), "").unwrap();
        assert!(matches!(driver.remove(&id(layer)), Err(Error::Mounted { .. } | Error::HasChildren { .. })));
        driver.put(&id(layer)).unwrap();
    }
    for layer in ["c", "base"] {
        driver.remove(&id(layer)).unwrap();
        assert_eq!(driver.exists(&id(layer)).unwrap(), Presence::Absent);
    }
}

pub(crate) fn two_diffs_of_one_sandbox_are_the_same_bytes<R: Rig>() {
    let rig = R::with_base();
    rig.sandbox("c", Some("base"));
    rig.mounted("c", |view| view.write("new.txt", b"new"));
    let read = || {
        let mut out = Vec::new();
        rig.driver().diff(&id("c"), None).unwrap().read_to_end(&mut out).unwrap();
        out
    };
    let first = read();
    assert!(first == read() && first.len() > 1024);
}

pub(crate) fn a_diff_dropped_half_way_leaves_the_mount_alive<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    rig.sandbox("c", Some("base"));
    let path = driver.get(&id("c"), "").unwrap();
    let view = rig.view("c", &path);
    view.write("big", &vec![7; 16 << 20]);
    let mut diff = driver.diff(&id("c"), None).unwrap();
    diff.read_exact(&mut [0; 4096]).unwrap();
    drop(diff);
    view.write("still", b"alive");
    driver.put(&id("c")).unwrap();
    let changes = driver.changes(&id("c"), None).unwrap();
    assert!(changes.contains(&R::told(ChangeKind::Add, "Files/still")), "{changes:?}");
    assert!(matches!(driver.put(&id("c")), Err(Error::NotMounted { .. })));
}

pub(crate) fn an_init_layer_adds_nothing_to_the_chain<R: Rig>() {
    let rig = R::with_base();
    rig.sandbox("c-init", Some("base"));
    rig.sandbox("c", Some("c-init"));
    assert_eq!(rig.store().chain_ids(&id("c")).unwrap(), [id("base")]);
}

pub(crate) fn a_layer_without_its_chain_is_damaged_and_not_missing<R: Rig>() {
    let rig = R::with_base();
    let driver = rig.driver();
    let metadata = driver.get_metadata(&id("base")).unwrap();
    let chain = Path::new(&metadata["dir"]).join("layerchain.json");
    let content = fs::read(&chain).unwrap();
    fs::remove_file(&chain).unwrap();
    assert!(matches!(driver.exists(&id("base")).unwrap(), Presence::Damaged { .. }));
    assert!(matches!(driver.get(&id("base"), ""), Err(Error::Damaged { .. })));
    assert_eq!(driver.exists(&id("none")).unwrap(), Presence::Absent);
    assert!(matches!(driver.get(&id("none"), ""), Err(Error::NoSuchLayer { .. })));
    fs::write(&chain, content).unwrap();
    assert_eq!(driver.exists(&id("base")).unwrap(), Presence::Present);
}

pub(crate) fn a_hundred_threads_share_one_mount<R: Rig + Sync>() {
    let rig = R::with_base();
    let store = rig.store();
    let paths: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(|| store.get(&id("base"), "").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let seen = |path| rig.view("base", path).text("readme.txt");
    assert!(paths.iter().all(|path| *path == paths[0] && seen(path).as_deref() == Some("read me")));
    for _ in 0..100 {
        store.put(&id("base")).unwrap();
    }
    assert!(matches!(store.put(&id("base")), Err(Error::NotMounted { .. })));
}

pub(crate) fn metadata_of_an_unknown_layer_is_an_error<R: Rig>() {
    let rig = R::with_base();
    assert!(rig.driver().get_metadata(&id("base")).unwrap()["dir"].ends_with("base"));
    assert!(matches!(rig.driver().get_metadata(&id("none")), Err(Error::NoSuchLayer { .. })));
}

pub(crate) fn the_parent_of_a_diff_is_checked<R: Rig>() {
    let rig = R::with_base();
    let tar = TestLayer::new().dir("Files").file("Files/app", b"app").tar();
    rig.driver().apply_diff(&id("app"), Some(&id("base")), &mut &tar[..]).unwrap();
    rig.sandbox("c", Some("app"));
    assert!(matches!(rig.driver().diff(&id("c"), Some(&id("base"))), Err(Error::NotTheParent { .. })));
    rig.driver().diff(&id("c"), Some(&id("app"))).unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(layers(rig.store()), [id("app"), id("base"), id("c")]);
}

pub(crate) fn a_deletion_and_a_replacement_are_what_a_view_shows<R: Rig>() {
    let rig = R::with_base();
    let tar = TestLayer::new()
        .dir("Files")
        .whiteout("Files/readme.txt")
        .dir("Files/Windows")
        .file("Files/Windows/notepad.exe", b"other")
        .link("Files/same.exe", "Files/Windows/notepad.exe")
        .tar();
    rig.driver().apply_diff(&id("app"), Some(&id("base")), &mut &tar[..]).unwrap();
    rig.sandbox("c", Some("app"));
    let see = |view: &dyn View| {
        assert_eq!(view.read("readme.txt"), None);
        for file in ["Windows/notepad.exe", "same.exe"] {
            assert_eq!(view.text(file).as_deref(), Some("other"));
        }
    };
    rig.mounted("c", see);
    // The layer below has not changed.
    rig.sandbox("below", Some("base"));
    rig.mounted("below", |view| assert_eq!(view.text("readme.txt").as_deref(), Some("read me")));
}
