//! The start after a stop or crash at any point brings records, layers and mounts back in line.

use std::fs;
use std::io::Cursor;

use tonic::Code;
use windowsfilter::fsck::Invariant;
use windowsfilter::import::{Expect, ImportRequest};
use windowsfilter::{Digest, Driver, LayerId, LayerStore, StorageOptions};

use super::layers::layer;
use super::support::{Fixture, Log, open, options, records, refused, shown};
use crate::error::Error;
use crate::fsck::fsck;
use crate::records::Records;
use crate::snapshotter::SnapshotterOptions;

const NAME: &str = "default/2/sha256:base";

fn tar() -> Vec<u8> {
    layer(&[("a.txt", b"base")])
}

fn store(fixture: &Fixture) -> LayerStore {
    LayerStore::open(&fixture.path("store"), StorageOptions { size: Some(1 << 30) }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_as_it_was_after_a_restart() {
    let mut fixture = Fixture::new();
    fixture.unpack(NAME, "", &tar()).await;
    let view = fixture.view("v", NAME).await.unwrap();
    let sandbox = fixture.prepare("c", NAME).await.unwrap();
    fs::write(shown(&sandbox).join("new.txt"), "new").unwrap();
    let key = "default/9/extract-1 x";
    let mounts = fixture.prepare(key, NAME).await.unwrap();
    let top = layer(&[("top.txt", b"top")]);
    let digest = fixture.fake.add(&top);
    fixture.apply(mounts, digest, top.len()).await.unwrap();
    let (list, info) = (fixture.list(&[]).await.unwrap(), fixture.stat(NAME).await.unwrap());

    fixture.restart().await;
    assert_eq!(fixture.list(&[]).await.unwrap(), list);
    assert_eq!(fixture.stat(NAME).await.unwrap(), info);
    assert_eq!(fixture.mounts("v").await.unwrap(), view);
    assert_eq!(fixture.mounts("c").await.unwrap(), sandbox);
    assert_eq!(fs::read(shown(&sandbox).join("new.txt")).unwrap(), b"new");
    fixture.commit("top", key).await.unwrap();
    let top = shown(&fixture.view("v2", "top").await.unwrap());
    assert_eq!(fs::read(top.join("top.txt")).unwrap(), b"top");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_that_are_gone_are_made_again_at_the_start() {
    let mut fixture = Fixture::new();
    fixture.unpack(NAME, "", &tar()).await;
    let view = fixture.view("v", NAME).await.unwrap();
    let sandbox = fixture.prepare("c", NAME).await.unwrap();
    fs::write(shown(&sandbox).join("new.txt"), "new").unwrap();
    fixture.stop().await;
    // The state after a reboot: no mounts, no links.
    let store = store(&fixture);
    for (layer, holders) in store.held().unwrap() {
        for holder in holders {
            store.unhold(&layer, &holder).unwrap();
        }
    }
    fs::remove_dir_all(fixture.path("store/containerd/default/mounts")).unwrap();
    assert!(!shown(&view).exists());
    fixture.start();
    assert_eq!(fs::read(shown(&view).join("a.txt")).unwrap(), b"base");
    assert_eq!(fs::read(shown(&sandbox).join("new.txt")).unwrap(), b"new");
    assert_eq!(fixture.mounts("c").await.unwrap(), sandbox);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_without_a_record_is_removed_at_the_start() {
    let mut fixture = Fixture::new();
    fixture.unpack(NAME, "", &tar()).await;
    let id = LayerId::new(Digest::of(&tar()).hex()).unwrap();
    fixture.stop().await;
    {
        let store = store(&fixture);
        // Marked as pending before anything of it exists.
        Records::open(&records(&fixture)).unwrap().begin(&[77, 78, 79, 80]).unwrap();
        // A sandbox and a view, created and held but not recorded.
        let sandbox = LayerId::new("containerd-default-77").unwrap();
        let small = StorageOptions { size: Some(1 << 30) };
        store.create_read_write(&sandbox, Some(&id), small, "").unwrap();
        store.hold(&sandbox, sandbox.as_str()).unwrap();
        store.hold(&id, "containerd-default-78").unwrap();
        // A published layer without a record, and a staged one whose snapshot is gone.
        let top = layer(&[("top.txt", b"top")]);
        let request = |tar: Vec<u8>| ImportRequest {
            blob: Box::new(Cursor::new(tar)),
            expect: Expect::default(),
            progress: &(),
            label: "test".into(),
        };
        let staged = store.stage(&LayerId::new("containerd-default-79").unwrap(), request(top)).unwrap();
        let images = windowsfilter_image::ImageStore::open(store.clone()).unwrap();
        images.publish_shared(staged, Some(&id), "containerd-default-79").unwrap();
        let mut kept = store.stage(&LayerId::new("containerd-default-80").unwrap(), request(tar())).unwrap();
        kept.keep().unwrap();
        std::os::unix::fs::symlink("/", fixture.path("store/containerd/default/mounts/78")).unwrap();
        // Another set's things must not be touched.
        store.own(&id, "containerd-other-1").unwrap();
    }
    let log = Log::default();
    log.of(|| fixture.start());
    for removed in [
        "containerd-default-77",
        "mount of containerd-default-77",
        "for snapshot 78",
        "of snapshot 79",
        "containerd-default-80-importing",
    ] {
        assert!(
            log.text().lines().any(|line| line.contains("WARN") && line.contains(removed)),
            "{removed}: {}",
            log.text()
        );
    }
    fixture.assert_layers(&[id.as_str()]);
    assert_eq!(fixture.store().held().unwrap(), []);
    assert_eq!(fs::read_dir(fixture.path("store/layers")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(fixture.path("store/containerd/default/mounts")).unwrap().count(), 0);
    assert_eq!(fixture.list(&[]).await.unwrap(), [NAME]);
    fixture.remove(NAME).await.unwrap();
    fixture.assert_layers(&[id.as_str()]);
    fixture.store().disown(&id, "containerd-other-1").unwrap();
    fixture.store().remove(&id).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_owner_was_not_written_is_owned_again() {
    let mut fixture = Fixture::new();
    fixture.unpack(NAME, "", &tar()).await;
    let id = LayerId::new(Digest::of(&tar()).hex()).unwrap();
    fixture.stop().await;
    let owner = store(&fixture).owners(&id).unwrap().into_iter().next().unwrap();
    store(&fixture).disown(&id, &owner).unwrap();
    fixture.start();
    assert!(fixture.store().remove(&id).is_err());
}

/// A server stopped after it answered an Apply.
async fn applied(key: &str) -> Fixture {
    let mut fixture = Fixture::new();
    let mounts = fixture.prepare(key, "").await.unwrap();
    let digest = fixture.fake.add(&tar());
    fixture.apply(mounts, digest, tar().len()).await.unwrap();
    fixture.stop().await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_apply_was_answered_stays_whatever_is_cleaned_up_meanwhile() {
    let key = "default/9/extract-1 x";
    let mut fixture = applied(key).await;
    let store = store(&fixture);
    for repair in [false, true] {
        assert_eq!(store.fsck(repair).unwrap(), []);
        assert_eq!(fsck(&store).unwrap(), []);
    }
    store.cleanup().unwrap();
    fixture.start();
    fixture.commit("n", key).await.unwrap();
    let view = shown(&fixture.view("v", "n").await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"base");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_interrupted_after_it_published_its_layer_can_be_tried_again() {
    let key = "default/9/extract-1 x";
    let mut fixture = applied(key).await;
    {
        let store = store(&fixture);
        let staged = store.staged().unwrap().remove(0).id;
        Records::open(&records(&fixture)).unwrap().begin(&[1]).unwrap();
        let images = windowsfilter_image::ImageStore::open(store.clone()).unwrap();
        images
            .publish_shared(store.take_up_staged(&staged).unwrap().unwrap(), None, staged.as_str())
            .unwrap();
        assert_eq!(fsck(&store).unwrap(), []);
    }
    fixture.start();
    fixture.commit("n", key).await.unwrap();
    let view = shown(&fixture.view("v", "n").await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"base");
    fixture.remove("v").await.unwrap();
    fixture.remove("n").await.unwrap();
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_layer_that_somebody_removed_is_missed_by_name() {
    let key = "default/9/extract-1 x";
    let mut fixture = applied(key).await;
    let staged = fs::read_dir(fixture.path("store/layers")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(&staged).unwrap();
    let found = fsck(&store(&fixture)).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].invariant, Invariant::SnapshotNeeds);
    assert!(found[0].problem.contains(staged.file_name().unwrap().to_str().unwrap()), "{found:?}");
    fixture.start();
    refused(
        fixture.commit("n", key).await,
        Code::FailedPrecondition,
        "the layer that was applied to it is gone",
    );
    // It can be applied again.
    let mounts = fixture.mounts(key).await.unwrap();
    let digest = fixture.fake.add(&tar());
    fixture.apply(mounts, digest, tar().len()).await.unwrap();
    fixture.commit("n", key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_of_one_store_do_not_see_each_other() {
    let mut fixture = Fixture::new();
    fixture.unpack(NAME, "", &tar()).await;
    fixture.prepare("c", NAME).await.unwrap();
    let other = SnapshotterOptions { set: "other".into(), ..options() };
    let other = open(&fixture.path("store"), other).unwrap();
    assert!(other.list().is_empty());
    other.cleanup().unwrap();
    assert_eq!(fixture.list(&[]).await.unwrap(), ["c", NAME]);
    assert!(fs::read_dir(shown(&fixture.mounts("c").await.unwrap())).unwrap().count() == 1);
    let again = open(&fixture.path("store"), options());
    assert!(matches!(again, Err(Error::Records { .. })), "{again:?}");
    for set in ["", "a-b", "../x", "A"] {
        let options = SnapshotterOptions { set: set.into(), ..options() };
        assert!(matches!(open(&fixture.path("store"), options), Err(Error::Name { .. })), "{set}");
    }
}

/// containerd's labels for a layer on top of another in parallel unpacking.
fn side_by_side(layer: &str, below: &str) -> [(&'static str, String); 2] {
    [
        ("containerd.io/snapshot.ref", format!("sha256:{layer}")),
        ("containerd.io/snapshot/parent-chain-id", format!("sha256:{below}")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_the_store_that_are_unpacked_side_by_side_are_staged() {
    let mut fixture = Fixture::with(SnapshotterOptions { skip_existing: true, ..options() });
    let top = layer(&[("top.txt", b"top")]);
    let base = LayerId::new(Digest::of(&tar()).hex()).unwrap();
    let chain = Digest::of(format!("{} {}", Digest::of(&tar()), Digest::of(&top)).as_bytes());
    let id = LayerId::new(chain.hex()).unwrap();
    fixture.store().apply_diff(&base, None, &mut Cursor::new(tar())).unwrap();
    fixture.store().apply_diff(&id, Some(&base), &mut Cursor::new(top.clone())).unwrap();
    let labels = side_by_side(id.as_str(), base.as_str());
    let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
    let is_read_only = |mounts: &[crate::api::types::Mount]| {
        assert_eq!((mounts.len(), mounts[0].r#type.as_str()), (1, "windowsfilter"));
        mounts[0].options == ["ro"]
    };

    // The lowest has no parent, so it is not unpacked at all.
    let below = [labels[0].0].map(|key| (key, format!("sha256:{base}")));
    let below = below.each_ref().map(|(key, value)| (*key, value.as_str()));
    let lowest = fixture.prepare_labelled("default/2/extract-1 x", "", &below).await;
    refused(lowest, Code::AlreadyExists, "nothing to unpack");
    let found = fixture.list(&[]).await.unwrap();
    let (first, second, third) = ("default/3/extract-2 x", "default/4/extract-3 x", "default/5/extract-4 x");
    for key in [first, second, third] {
        let mounts = fixture.prepare_labelled(key, "", &labels).await.unwrap();
        assert!(is_read_only(&mounts));
        assert_eq!(fixture.mounts(key).await.unwrap(), mounts);
    }
    fixture.restart().await;
    assert_eq!(fsck(fixture.store()).unwrap(), []);
    let other_parent = fixture.commit_on("n", first, "").await;
    refused(other_parent, Code::InvalidArgument, "on top of another");
    fixture.commit_on("top", first, &found[0]).await.unwrap();
    assert_eq!(fixture.stat("top").await.unwrap().parent, found[0]);
    let view = shown(&fixture.view("v", "top").await.unwrap());
    for (name, content) in [("a.txt", "base"), ("top.txt", "top")] {
        assert_eq!(fs::read_to_string(view.join(name)).unwrap(), content);
    }
    // An older containerd applies it anyway.
    let digest = fixture.fake.add(&top);
    let mounts = fixture.mounts(second).await.unwrap();
    fixture.apply(mounts, digest, top.len()).await.unwrap();
    assert!(!is_read_only(&fixture.mounts(second).await.unwrap()));
    fixture.commit_on("again", second, &found[0]).await.unwrap();
    fixture.remove(third).await.unwrap();
    // A layer that is missing, or not on this parent, is unpacked.
    let labels = side_by_side(base.as_str(), id.as_str());
    let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
    assert!(!is_read_only(&fixture.prepare_labelled("default/6/extract-5 x", "", &labels).await.unwrap()));
    for key in ["v", "top", "again", "default/6/extract-5 x", found[0].as_str()] {
        fixture.remove(key).await.unwrap();
    }
    fixture.restart().await;
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_the_store_are_not_unpacked_again_if_asked() {
    let mut fixture = Fixture::with(SnapshotterOptions { skip_existing: true, ..options() });
    let id = LayerId::new(Digest::of(&tar()).hex()).unwrap();
    fixture.store().apply_diff(&id, None, &mut Cursor::new(tar())).unwrap();
    let reference = format!("sha256:{id}");
    let label = [("containerd.io/snapshot.ref", reference.as_str())];
    refused(
        fixture.prepare_labelled("default/3/extract-1 x", "", &label).await,
        Code::AlreadyExists,
        "already",
    );
    let filter = format!("labels.\"containerd.io/snapshot.ref\"=={reference},parent==\"\"");
    let found = fixture.list(&[filter.as_str()]).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    // A second request gets the same snapshot; one with another parent, for another namespace, or without
    // the label does not.
    refused(
        fixture.prepare_labelled("default/4/extract-2 x", "", &label).await,
        Code::AlreadyExists,
        "already",
    );
    assert_eq!(fixture.list(&[]).await.unwrap(), found);
    fixture.prepare_labelled("default/5/extract-3 x", &found[0], &label).await.unwrap();
    fixture.prepare_labelled("other/6/extract-4 x", "", &label).await.unwrap();
    fixture.prepare("default/7/extract-5 x", "").await.unwrap();
    let unknown = [("containerd.io/snapshot.ref", "sha256:ab")];
    fixture.prepare_labelled("default/8/extract-6 x", "", &unknown).await.unwrap();
    let view = shown(&fixture.view("v", &found[0]).await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"base");
    for key in ["v", "default/5/extract-3 x", found[0].as_str()] {
        fixture.remove(key).await.unwrap();
    }
}
