//! A client that unpacks layers by itself, as BuildKit does, gets those of the store or of containerd's
//! content store.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tonic::Code;
use windowsfilter::Digest;

use super::layers::{gzip, layer};
use super::support::{Fixture, options, refused, shown};
use crate::snapshotter::SnapshotterOptions;

fn fixture() -> Fixture {
    Fixture::with(SnapshotterOptions { buildkit: Some("buildkit".into()), ..options() })
}

fn base() -> Vec<u8> {
    layer(&[("a.txt", b"base")])
}

fn top() -> Vec<u8> {
    layer(&[("top.txt", b"top")])
}

/// The chain IDs of both.
fn chain() -> [Digest; 2] {
    let base = Digest::of(&base());
    [base, Digest::of(format!("{base} {}", Digest::of(&top())).as_bytes())]
}

fn key(number: u64, chain_id: Digest) -> String {
    format!("buildkit/{number}/extract-q1w2 {chain_id}")
}

fn name(chain_id: Digest) -> String {
    format!("buildkit/9/{chain_id}")
}

/// Prepares a snapshot and unpacks into it as BuildKit does: without anything that only Windows knows.
async fn unpack(fixture: &mut Fixture, key: &str, parent: &str) -> PathBuf {
    let mounts = fixture.prepare(key, parent).await.unwrap();
    assert_eq!(mounts[0].options, ["rbind", "rw"]);
    assert_eq!(fixture.mounts(key).await.unwrap(), mounts);
    let dir = fs::canonicalize(shown(&mounts)).unwrap();
    fs::create_dir(dir.join("Windows")).unwrap();
    fs::write(dir.join("Windows/junk.txt"), "junk").unwrap();
    dir
}

/// Commits both layers, one on the other, and looks at what they show.
async fn assert_complete(fixture: &mut Fixture) {
    let [base, top] = chain();
    for (number, chain_id, parent) in [(1, base, String::new()), (2, top, name(base))] {
        let dir = unpack(fixture, &key(number, chain_id), &parent).await;
        fixture.restart().await;
        assert!(dir.join("Windows/junk.txt").exists());
        fixture.commit(&name(chain_id), &key(number, chain_id)).await.unwrap();
        assert!(!dir.exists());
    }
    let view = shown(&fixture.view("buildkit/10/v", &name(top)).await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"base");
    assert_eq!(fs::read(view.join("top.txt")).unwrap(), b"top");
    assert!(!view.join("Windows").exists());
    fixture.remove("buildkit/10/v").await.unwrap();
    for chain_id in [top, base] {
        fixture.remove(&name(chain_id)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_the_store_take_the_place_of_what_was_unpacked() {
    let mut fixture = fixture();
    fixture.unpack("default/1/base", "", &base()).await;
    fixture.unpack("default/2/top", "default/1/base", &top()).await;
    fixture.fake.state().blobs.clear();
    assert_complete(&mut fixture).await;
    for name in ["default/2/top", "default/1/base"] {
        fixture.remove(name).await.unwrap();
    }
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_found_by_the_label_that_says_what_they_are() {
    let mut fixture = fixture();
    for tar in [base(), top()] {
        let digest = fixture.fake.add(&gzip(&tar)).to_string();
        let label = [("containerd.io/uncompressed".to_owned(), Digest::of(&tar).to_string())].into();
        fixture.fake.state().labels.insert(digest, label);
    }
    assert_complete(&mut fixture).await;
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_found_by_the_manifest_and_config_of_their_image() {
    let mut fixture = fixture();
    fixture.fake.add(b"{\"no\": \"manifest\"}");
    fixture.fake.add(b"no document");
    let layers = [base(), top()].map(|tar| json!({"digest": fixture.fake.add(&gzip(&tar)).to_string()}));
    // As Microsoft's images spell it.
    let diff_ids = [base(), top()].map(|tar| Digest::of(&tar).to_string());
    let config = fixture.fake.add(json!({"rootfS": {"diff_ids": diff_ids}}).to_string().as_bytes());
    let manifest = json!({"config": {"digest": config.to_string()}, "layers": layers});
    fixture.fake.add(manifest.to_string().as_bytes());
    assert_complete(&mut fixture).await;
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_layer_nothing_is_committed_and_nothing_is_left() {
    let mut fixture = fixture();
    let [base_id, top_id] = chain();
    let dir = unpack(&mut fixture, &key(1, base_id), "").await;
    refused(
        fixture.commit(&name(base_id), &key(1, base_id)).await,
        Code::FailedPrecondition,
        "no blob of its layer",
    );
    // A blob that lies about what it is.
    let digest = fixture.fake.add(&gzip(&top())).to_string();
    let label = [("containerd.io/uncompressed".to_owned(), base_id.to_string())].into();
    fixture.fake.state().labels.insert(digest, label);
    refused(
        fixture.commit(&name(base_id), &key(1, base_id)).await,
        Code::FailedPrecondition,
        "another layer",
    );
    fixture.remove(&key(1, base_id)).await.unwrap();
    assert!(!dir.exists());
    fixture.assert_layers(&[]);
    // Others are told what they always were.
    for other in [format!("default/1/extract-q1 {top_id}"), "buildkit/1/extract-q1".to_owned()] {
        let mounts = fixture.prepare(&other, "").await.unwrap();
        assert_eq!(mounts[0].r#type, "windowsfilter", "{other}");
        refused(fixture.commit("n", &other).await, Code::FailedPrecondition, "no layer was applied");
    }
    let label = [("containerd.io/snapshot.ref", "x")];
    let mounts = fixture.prepare_labelled(&key(7, top_id), "", &label).await.unwrap();
    assert_eq!(mounts[0].r#type, "windowsfilter");
}
