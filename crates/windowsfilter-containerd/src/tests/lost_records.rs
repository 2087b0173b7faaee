//! Lost, truncated, empty or old records count as damage, and nothing that they do not know is removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use windowsfilter::fsck::Invariant;
use windowsfilter::{LayerStore, StorageOptions};

use super::layers::layer;
use super::support::{Fixture, Log, open, options, records, shown};
use crate::error::{Error, chain};
use crate::fsck::fsck;
use crate::snapshotter::SnapshotterOptions;

const NAME: &str = "default/2/sha256:base";
const KEY: &str = "default/9/extract-1 x";

fn store(fixture: &Fixture) -> LayerStore {
    LayerStore::open(&fixture.path("store"), StorageOptions::default()).unwrap()
}

/// A stopped server with a snapshot of each kind and a file in the sandbox `c`; and its records as of
/// before each of its calls.
async fn stopped() -> (Fixture, Vec<Vec<u8>>) {
    let mut fixture = Fixture::new();
    let mut old = Vec::new();
    let copy = async |fixture: &mut Fixture, old: &mut Vec<Vec<u8>>| {
        fixture.stop().await;
        old.push(fs::read(records(fixture)).unwrap());
        fixture.start();
    };
    copy(&mut fixture, &mut old).await;
    fixture.unpack(NAME, "", &layer(&[("a.txt", b"base")])).await;
    copy(&mut fixture, &mut old).await;
    let sandbox = fixture.prepare("c", NAME).await.unwrap();
    fs::write(shown(&sandbox).join("new.txt"), "new").unwrap();
    copy(&mut fixture, &mut old).await;
    fixture.prepare("d", NAME).await.unwrap();
    fixture.commit("d'", "d").await.unwrap();
    copy(&mut fixture, &mut old).await;
    fixture.view("v", NAME).await.unwrap();
    copy(&mut fixture, &mut old).await;
    let mounts = fixture.prepare(KEY, NAME).await.unwrap();
    let top = layer(&[("top.txt", b"top")]);
    let digest = fixture.fake.add(&top);
    fixture.apply(mounts, digest, top.len()).await.unwrap();
    fixture.stop().await;
    (fixture, old)
}

fn names(dir: &Path) -> BTreeSet<std::ffi::OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// Checks that the set cannot be opened, that fsck reports it, and that nothing is removed.
#[track_caller]
fn assert_refused(fixture: &Fixture, what: &str) -> Error {
    let store = store(fixture);
    let before = (names(&fixture.path("store/layers")), store.held().unwrap());
    let found = fsck(&store).unwrap();
    assert!(!found.is_empty(), "{what}");
    for finding in &found {
        assert_eq!(finding.invariant, Invariant::SnapshotRecords, "{what}: {found:?}");
        assert!(finding.problem.contains("serve --set default --start-anew"), "{what}: {found:?}");
    }
    let error = open(&fixture.path("store"), options()).map(drop).unwrap_err();
    assert!(error.is_damaged_records(), "{what}: {}", chain(&error));
    assert!(chain(&error).contains("snapshots.redb"), "{what}: {}", chain(&error));
    assert_eq!((names(&fixture.path("store/layers")), store.held().unwrap()), before, "{what}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_records_that_are_not_those_of_its_store_does_not_start() {
    let (mut fixture, old) = stopped().await;
    let path = records(&fixture);
    let good = fs::read(&path).unwrap();
    assert_eq!(fsck(&store(&fixture)).unwrap(), []);
    let mut bad = vec![
        ("empty", Some(Vec::new())),
        ("missing", None),
        ("cut to a half", Some(good[..good.len() / 2].to_vec())),
        ("cut to a byte", Some(good[..1].to_vec())),
        ("zeroed", Some(vec![0; good.len()])),
    ];
    bad.extend(old[..old.len() - 1].iter().map(|old| ("an older copy", Some(old.clone()))));
    for (what, content) in bad {
        match &content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        // Twice: the first attempt must not create new records.
        for _ in 0..2 {
            let error = assert_refused(&fixture, what);
            if matches!(what, "empty" | "missing") {
                assert!(matches!(error, Error::RecordsLost { .. }), "{what}: {error}");
                assert!(error.to_string().contains("sandbox containerd-default-"), "{error}");
            }
        }
    }
    fs::write(&path, good).unwrap();
    assert_eq!(fsck(&store(&fixture)).unwrap(), []);
    fixture.start();
    let sandbox = fixture.mounts("c").await.unwrap();
    assert_eq!(fs::read(shown(&sandbox).join("new.txt")).unwrap(), b"new");
    fixture.commit("top", KEY).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_without_a_directory_is_missed_as_well() {
    let (mut fixture, _) = stopped().await;
    let (dir, aside) = (fixture.path("store/containerd"), fixture.path("aside"));
    fs::rename(&dir, &aside).unwrap();
    assert_refused(&fixture, "no directory");
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    fixture.start();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_directory_of_links_or_room_says_of_lost_records_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("containerd/default");
    drop(open(dir.path(), options()).unwrap());
    // Without any snapshot: only the reserve is left.
    fs::remove_file(set.join("snapshots.redb")).unwrap();
    let error = open(dir.path(), options()).unwrap_err();
    assert!(error.to_string().contains("snapshots.reserve"), "{error}");
    fs::remove_file(set.join("snapshots.reserve")).unwrap();
    std::os::unix::fs::symlink("/", set.join("mounts/3")).unwrap();
    let error = open(dir.path(), options()).unwrap_err();
    assert!(error.to_string().contains("mounts/3"), "{error}");
    fs::remove_file(set.join("mounts/3")).unwrap();
    drop(open(dir.path(), options()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_lost_can_be_started_anew_on_purpose_only() {
    let anew = || SnapshotterOptions { start_anew: true, ..options() };
    let (mut fixture, old) = stopped().await;
    let path = records(&fixture);
    let error = open(&fixture.path("store"), anew()).unwrap_err();
    assert!(matches!(error, Error::NothingLost { .. }), "{error}");
    fs::write(&path, &old[1]).unwrap();
    let log = Log::default();
    let snapshotter = log.of(|| open(&fixture.path("store"), anew()).unwrap());
    for removed in
        ["sandbox containerd-default-", "mount of containerd-default-", "staged layer containerd-default-"]
    {
        assert!(
            log.text().lines().any(|line| line.contains("WARN") && line.contains(removed)),
            "{}",
            log.text()
        );
    }
    assert!(snapshotter.list().is_empty());
    drop(snapshotter);
    assert!(path.with_extension("lost").exists());
    assert_eq!(names(&fixture.path("store/layers")), BTreeSet::new());
    assert_eq!(fsck(&store(&fixture)).unwrap(), []);
    fixture.start();
    // Numbers are never reused.
    let sandbox = fixture.prepare("new", "").await.unwrap();
    let number: u64 = Path::new(&sandbox[0].source).file_name().unwrap().to_str().unwrap().parse().unwrap();
    assert!(number > 5, "{number}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_somebody_else_made_is_not_removed() {
    let mut fixture = Fixture::new();
    fixture.stop().await;
    let id = windowsfilter::LayerId::new("containerd-default-7").unwrap();
    store(&fixture).create_sandbox(&id, None, StorageOptions { size: Some(1 << 30) }, None).unwrap();
    let error = assert_refused(&fixture, "made by hand");
    assert!(error.to_string().contains("sandbox containerd-default-7"), "{error}");
    windowsfilter::Driver::remove(&store(&fixture), &id).unwrap();
    fixture.start();
}
