//! The start after a stop or a crash at any point: records, layers and mounts agree again.

use std::fs;
use std::io::Cursor;

use tonic::Code;
use windowsfilter::{Digest, Driver, Expect, ImportRequest, LayerId, LayerStore, StorageOptions};

use super::layers::layer;
use super::support::{Fixture, open, options, refused, shown};
use crate::error::Error;
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
    // As after the machine was switched off: no mounts, no links.
    let store = store(&fixture);
    for (layer, holders) in store.held().unwrap() {
        for holder in holders {
            store.release(&layer, &holder).unwrap();
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
        // A sandbox and a view, made and held but not recorded.
        let sandbox = LayerId::new("containerd-default-77").unwrap();
        let small = StorageOptions { size: Some(1 << 30) };
        store.create_read_write(&sandbox, Some(&id), small, "").unwrap();
        store.hold(&sandbox, sandbox.as_str()).unwrap();
        store.hold(&id, "containerd-default-78").unwrap();
        // A layer that was published and not recorded, and one that was unpacked for a snapshot that is gone.
        let top = layer(&[("top.txt", b"top")]);
        let request = |tar: Vec<u8>| ImportRequest {
            blob: Box::new(Cursor::new(tar)),
            expect: Expect::default(),
            progress: &(),
            label: "test".into(),
        };
        let staged = store.stage(&LayerId::new("containerd-default-79").unwrap(), request(top)).unwrap();
        let images = windowsfilter_image::ImageStore::open(&store).unwrap();
        images.publish_shared(staged, Some(&id), "containerd-default-79").unwrap();
        let mut kept = store.stage(&LayerId::new("containerd-default-80").unwrap(), request(tar())).unwrap();
        kept.keep().unwrap();
        std::os::unix::fs::symlink("/", fixture.path("store/containerd/default/mounts/78")).unwrap();
        // Another set's things are not touched.
        store.own(&id, "containerd-other-1").unwrap();
    }
    fixture.start();
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

#[tokio::test(flavor = "multi_thread")]
async fn an_unpack_whose_bytes_were_cleaned_up_is_refused_and_can_be_removed() {
    let mut fixture = Fixture::new();
    let key = "default/9/extract-1 x";
    let mounts = fixture.prepare(key, "").await.unwrap();
    let digest = fixture.fake.add(&tar());
    fixture.apply(mounts, digest, tar().len()).await.unwrap();
    fixture.stop().await;
    store(&fixture).cleanup().unwrap();
    fixture.start();
    refused(fixture.commit("n", key).await, Code::FailedPrecondition, "no layer was applied");
    fixture.remove(key).await.unwrap();
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
    // Asked again, it is the same one; on another parent, for another namespace, or without the label, it is not.
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
