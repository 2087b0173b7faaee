//! Breaks every invariant of snapshots alone, and checks that fsck finds it by name; `docs/fsck.md` lists
//! the tests.

use std::fs;
use std::path::Path;

use windowsfilter::fsck::Invariant;
use windowsfilter::{Driver, LayerStore, StorageOptions};

use super::layers::layer;
use super::support::{Fixture, records};
use crate::fsck::{Finding, fsck};
use crate::records::Records;

const BASE: &str = "default/2/sha256:base";

/// A stopped server's store, with a layer `BASE` and a sandbox `box` on it.
async fn stopped() -> (Fixture, LayerStore) {
    let mut fixture = Fixture::new();
    fixture.unpack(BASE, "", &layer(&[("a.txt", b"base")])).await;
    fixture.prepare("box", BASE).await.unwrap();
    assert_eq!(fsck(fixture.store()).unwrap(), [], "what a server has open is not looked at");
    fixture.stop().await;
    let store = LayerStore::open(&fixture.path("store"), StorageOptions::default()).unwrap();
    assert_eq!(fsck(&store).unwrap(), []);
    (fixture, store)
}

fn only(store: &LayerStore, invariant: Invariant) -> Finding {
    let found = fsck(store).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].invariant, found[0].set.as_str()), (invariant, "default"), "{found:?}");
    found.into_iter().next().unwrap()
}

/// The records' content; `None` if they cannot be read.
fn content(path: &Path) -> Option<String> {
    Some(format!("{:?}", Records::read_copy(path).ok()??.all().collect::<Vec<_>>()))
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_records_is_found_and_never_taken_for_other_records() {
    let (mut fixture, store) = stopped().await;
    let path = records(&fixture);
    let good = fs::read(&path).unwrap();
    let before = content(&path).unwrap();
    let mut found = 0;
    for offset in (0..good.len()).step_by(good.len() / 400) {
        let mut bad = good.clone();
        bad[offset] ^= 1 << (offset % 8);
        fs::write(&path, &bad).unwrap();
        match fsck(&store).unwrap().as_slice() {
            // A bit without meaning, in an unused page.
            [] => assert_eq!(content(&path).as_deref(), Some(&*before), "at {offset}"),
            [one] => {
                assert_eq!(one.invariant, Invariant::SnapshotRecords, "{one:?}");
                assert!(one.problem.contains("snapshots.redb"), "{one:?}");
                found += 1;
            }
            many => panic!("at {offset}: {many:?}"),
        }
        assert!(fs::read(&path).unwrap() == bad, "looking has changed something");
    }
    assert!(found > 0);
    // In a record's own text, which unused pages also contain.
    let texts = good.windows(9).enumerate().filter(|(_, text)| text == b"committed");
    let findings = texts.flat_map(|(at, _)| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        fsck(&store).unwrap()
    });
    let findings: Vec<_> = findings.map(|finding| finding.invariant).collect();
    assert_eq!(findings, [Invariant::SnapshotRecords]);
    fs::write(&path, good).unwrap();
    assert_eq!(fsck(&store).unwrap(), []);
    // A server's fixture unmounts everything when dropped.
    fixture.start();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_without_what_it_needs_is_found() {
    let (mut fixture, store) = stopped().await;
    let layers = store.layers().unwrap();
    let (sandbox, base): (Vec<_>, Vec<_>) =
        layers.into_iter().partition(|id| id.as_str().starts_with("containerd-default-"));
    let (sandbox, base) = (sandbox[0].clone(), base[0].clone());
    let owner = store.owners(&base).unwrap().into_iter().next().unwrap();
    store.disown(&base, &owner).unwrap();
    assert!(only(&store, Invariant::SnapshotNeeds).problem.contains("does not own its layer"));
    store.own(&base, &owner).unwrap();

    let (dir, aside) = (fixture.path("store/layers").join(sandbox.as_str()), fixture.path("aside"));
    fs::rename(&dir, &aside).unwrap();
    assert!(only(&store, Invariant::SnapshotNeeds).problem.contains(sandbox.as_str()));
    store.create(&sandbox, Some(&base)).unwrap();
    assert!(only(&store, Invariant::SnapshotNeeds).problem.contains("not a sandbox"));
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();

    // Removes its record, but not its child's.
    let records = Records::open(&records(&fixture)).unwrap();
    let parent = records.get(BASE).unwrap();
    records.remove(&parent, |_| Ok(())).unwrap();
    drop(records);
    assert!(only(&store, Invariant::SnapshotNeeds).problem.contains("is not a snapshot"));
    let records = Records::open(&super::support::records(&fixture)).unwrap();
    records.add(&parent, |_| Ok(())).unwrap();
    drop(records);
    assert_eq!(fsck(&store).unwrap(), []);
    // A server's fixture unmounts everything when dropped.
    fixture.start();
}
