//! Apply with good and bad blobs.

use std::fs;

use tokio::task::JoinHandle;
use tonic::{Code, Response, Status};
use windowsfilter::Digest;

use super::fake_containerd::Blob;
use super::layers::{gzip, layer};
use super::support::{Fixture, apply_request, refused, shown};
use crate::api::diff::ApplyResponse;
use crate::api::types::Mount;

const KEY: &str = "default/3/extract-1 sha256:ab";

fn tar() -> Vec<u8> {
    // Larger than the pieces in flight.
    let noise: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    layer(&[("a.txt", b"a"), ("noise", &noise)])
}

/// Checks that a failed Apply left only the prepared snapshot, which can be applied again, and removed.
async fn assert_nothing_left(fixture: &mut Fixture) {
    fixture.assert_layers(&[]);
    let staged = fs::read_dir(fixture.path("store/layers")).unwrap().count();
    assert_eq!(staged, 0);
    refused(fixture.commit("n", KEY).await, Code::FailedPrecondition, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_compression_is_taken_whatever_the_media_type_says() {
    let mut fixture = Fixture::new();
    let tar = tar();
    let mut zstd = Vec::new();
    windowsfilter_image::Compression::Zstd.copy(&mut &*tar, &mut zstd).unwrap();
    for (i, blob) in [tar.clone(), gzip(&tar), zstd].into_iter().enumerate() {
        let key = format!("default/{i}/extract-{i} x");
        let mounts = fixture.prepare(&key, "").await.unwrap();
        let digest = fixture.fake.add(&blob);
        let applied = fixture.apply(mounts, digest, blob.len()).await.unwrap();
        assert_eq!(applied.digest, Digest::of(&tar).to_string());
        assert_eq!(applied.size, tar.len() as i64);
        assert_eq!(applied.media_type, "application/vnd.oci.image.layer.v1.tar");
        fixture.commit(&format!("n{i}"), &key).await.unwrap();
    }
    assert_eq!(fixture.fake.state().read_namespaces, ["tests"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_namespace_in_the_call_that_of_the_key_is_used() {
    let mut fixture = Fixture::new();
    let tar = tar();
    let digest = fixture.fake.add(&tar);
    let mounts = fixture.prepare("k8s.io/3/extract-1 x", "").await.unwrap();
    let mut request = apply_request(mounts, &digest.to_string(), tar.len() as i64);
    request.metadata_mut().clear();
    fixture.diff.apply(request).await.unwrap();
    let mounts = fixture.prepare("extract-2 x", "").await.unwrap();
    let mut request = apply_request(mounts, &digest.to_string(), tar.len() as i64);
    request.metadata_mut().clear();
    refused(fixture.diff.apply(request).await, Code::InvalidArgument, "namespace");
    assert_eq!(fixture.fake.state().read_namespaces, ["k8s.io"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_exceeds_a_limit_is_refused_by_its_name_and_leaves_nothing() {
    let mut fixture = Fixture::new();
    let mounts = fixture.prepare(KEY, "").await.unwrap();
    let blob = gzip(&layer(&[(&format!("{}f", "d/".repeat(10_000)), b"x")]));
    let digest = fixture.fake.add(&blob);
    refused(fixture.apply(mounts, digest, blob.len()).await, Code::InvalidArgument, "limit max-depth");
    assert_nothing_left(&mut fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_another_system_is_refused_and_leaves_nothing() {
    let mut fixture = Fixture::new();
    let mounts = fixture.prepare(KEY, "").await.unwrap();
    let mut tar = wclayer::tar::Writer::new(Vec::new());
    for name in [&b"etc/passwd"[..], b"usr/bin/sh"] {
        tar.begin(&wclayer::tar::NewEntry { name, ..Default::default() }).unwrap();
    }
    let blob = gzip(&tar.finish().unwrap());
    let digest = fixture.fake.add(&blob);
    let question = "is this a Linux image?";
    refused(fixture.apply(mounts, digest, blob.len()).await, Code::InvalidArgument, question);
    assert_nothing_left(&mut fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_not_what_it_should_be_leaves_nothing() {
    let mut fixture = Fixture::new();
    let mounts = fixture.prepare(KEY, "").await.unwrap();
    let blob = gzip(&tar());
    let digest = fixture.fake.add(&blob);
    let serve = |fixture: &Fixture, blob: Blob| {
        fixture.fake.state().blobs.insert(digest.to_string(), blob);
    };
    let size = blob.len();
    let missing = Digest::of(b"nothing");
    refused(fixture.apply(mounts.clone(), missing, 5).await, Code::NotFound, &missing.to_string());
    assert_nothing_left(&mut fixture).await;

    serve(&fixture, Blob::Whole(gzip(&layer(&[("other", b"x")]))));
    refused(fixture.apply(mounts.clone(), digest, size).await, Code::FailedPrecondition, &digest.to_string());
    assert_nothing_left(&mut fixture).await;

    serve(&fixture, Blob::Whole(blob[..size / 2].to_vec()));
    let truncated = fixture.apply(mounts.clone(), digest, size).await.unwrap_err();
    assert!(matches!(truncated.code(), Code::InvalidArgument | Code::FailedPrecondition), "{truncated:?}");
    assert_nothing_left(&mut fixture).await;

    serve(&fixture, Blob::Breaks(blob[..size / 2].to_vec()));
    refused(fixture.apply(mounts.clone(), digest, size).await, Code::DataLoss, "disk on fire");
    assert_nothing_left(&mut fixture).await;

    let text = b"this is no tar, whatever it is called".repeat(50);
    let no_tar = fixture.fake.add(&text);
    refused(fixture.apply(mounts.clone(), no_tar, text.len()).await, Code::InvalidArgument, "tar");
    assert_nothing_left(&mut fixture).await;

    serve(&fixture, Blob::Whole(blob.clone()));
    fixture.apply(mounts.clone(), digest, size).await.unwrap();
    refused(fixture.apply(mounts, digest, size).await, Code::FailedPrecondition, "already");
    fixture.remove(KEY).await.unwrap();
    fixture.assert_layers(&[]);
    assert_eq!(fs::read_dir(fixture.path("store/layers")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_id_that_containerd_announced_is_checked() {
    let mut fixture = Fixture::new();
    let (tar, label) = (tar(), "containerd.io/snapshot/diff-id");
    let digest = fixture.fake.add(&tar);
    let other = Digest::of(b"other").to_string();
    let mounts = fixture.prepare_labelled(KEY, "", &[(label, &other)]).await.unwrap();
    refused(fixture.apply(mounts, digest, tar.len()).await, Code::FailedPrecondition, &other);
    assert_nothing_left(&mut fixture).await;
}

/// A prepared snapshot, and a blob of which containerd sends only half.
async fn hanging_blob(fixture: &mut Fixture) -> (Vec<Mount>, Digest, Vec<u8>) {
    let mounts = fixture.prepare(KEY, "").await.unwrap();
    let blob = gzip(&tar());
    let digest = fixture.fake.add(&blob);
    fixture.fake.state().blobs.insert(digest.to_string(), Blob::Hangs(blob[..blob.len() / 2].to_vec()));
    (mounts, digest, blob)
}

/// A running Apply that has received everything of such a blob.
async fn apply_until_it_hangs(
    fixture: &Fixture,
    mounts: Vec<Mount>,
    digest: Digest,
    size: usize,
) -> JoinHandle<Result<Response<ApplyResponse>, Status>> {
    let hanging = std::sync::Arc::clone(&fixture.fake.hanging);
    let mut diff = fixture.diff.clone();
    let request = apply_request(mounts, &digest.to_string(), size as i64);
    let apply = tokio::spawn(async move { diff.apply(request).await });
    hanging.notified().await;
    apply
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_store_that_hangs_is_given_up() {
    let mut fixture = Fixture::new();
    let (mounts, digest, blob) = hanging_blob(&mut fixture).await;
    let result = fixture.apply(mounts, digest, blob.len()).await;
    refused(result, Code::DeadlineExceeded, &digest.to_string());
    assert_nothing_left(&mut fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_store_that_sends_without_saying_anything_is_given_up() {
    let mut fixture = Fixture::new();
    let (mounts, digest, _) = hanging_blob(&mut fixture).await;
    fixture.fake.state().blobs.insert(digest.to_string(), Blob::Repeats(Vec::new()));
    let result = fixture.apply(mounts, digest, 1 << 40).await;
    refused(result, Code::DeadlineExceeded, "less than 65536 bytes came in 2 s");
    assert_nothing_left(&mut fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remove_stops_a_running_apply_and_waits_for_it() {
    let mut fixture = Fixture::new();
    let (mounts, digest, blob) = hanging_blob(&mut fixture).await;
    let apply = apply_until_it_hangs(&fixture, mounts.clone(), digest, blob.len()).await;
    refused(fixture.commit("n", KEY).await, Code::FailedPrecondition, "being applied");
    refused(fixture.apply(mounts, digest, blob.len()).await, Code::FailedPrecondition, "being applied");
    fixture.remove(KEY).await.unwrap();
    // Nothing is left when Remove returns.
    assert_eq!(fs::read_dir(fixture.path("store/layers")).unwrap().count(), 0);
    refused(apply.await.unwrap(), Code::Cancelled, "cancelled");
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_whose_caller_is_gone_leaves_nothing() {
    let mut fixture = Fixture::new();
    let (mounts, digest, blob) = hanging_blob(&mut fixture).await;
    let apply = apply_until_it_hangs(&fixture, mounts.clone(), digest, blob.len()).await;
    apply.abort();
    // The first Apply has ended once another one is accepted.
    fixture.fake.state().blobs.insert(digest.to_string(), Blob::Whole(blob.clone()));
    loop {
        match fixture.apply(mounts.clone(), digest, blob.len()).await {
            Ok(_) => break,
            Err(status) => assert!(status.message().contains("being applied"), "{status:?}"),
        }
    }
    fixture.commit("n", KEY).await.unwrap();
    let view = shown(&fixture.view("v", "n").await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_left_to_other_differs_and_what_is_ours_is_not() {
    let mut fixture = Fixture::new();
    let tar = tar();
    let digest = fixture.fake.add(&tar);
    let foreign = Mount { r#type: "overlay".into(), source: "overlay".into(), ..Default::default() };
    for mounts in [vec![], vec![foreign]] {
        refused(
            fixture.apply(mounts, digest, tar.len()).await,
            Code::Unimplemented,
            "do not belong to this snapshotter",
        );
    }
    let mounts = fixture.prepare(KEY, "").await.unwrap();
    let mut request = apply_request(mounts.clone(), &digest.to_string(), tar.len() as i64);
    request.get_mut().diff.as_mut().unwrap().media_type = "application/vnd.in-toto+json".into();
    refused(fixture.diff.apply(request).await, Code::Unimplemented, "in-toto");
    // Otherwise walking would write plain files into a sandbox.
    let sandbox = fixture.prepare("c", "").await.unwrap();
    refused(fixture.apply(sandbox, digest, tar.len()).await, Code::FailedPrecondition, "extract-");
    fixture.remove(KEY).await.unwrap();
    refused(fixture.apply(mounts.clone(), digest, tar.len()).await, Code::NotFound, &mounts[0].source);
    let mounts = fixture.prepare(KEY, "").await.unwrap();
    for bad in ["", "sha256:zz", "sha512:ab"] {
        let request = apply_request(mounts.clone(), bad, 5);
        refused(fixture.diff.apply(request).await, Code::InvalidArgument, "digest");
    }
    let request = apply_request(mounts, &digest.to_string(), -1);
    refused(fixture.diff.apply(request).await, Code::InvalidArgument, "-1 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_commit_that_failed_the_next_one_says_so_and_the_layer_can_be_applied_again() {
    let mut fixture = Fixture::new();
    let base = layer(&[("base", b"base")]);
    fixture.unpack("base", "", &base).await;
    let tar = tar();
    let digest = fixture.fake.add(&tar);
    let mounts = fixture.prepare(KEY, "base").await.unwrap();
    fixture.apply(mounts.clone(), digest, tar.len()).await.unwrap();
    // The layer below is missing for a moment.
    let dir = fixture.path("store/layers").join(Digest::of(&base).hex());
    fs::rename(&dir, fixture.path("aside")).unwrap();
    fixture.commit("n", KEY).await.unwrap_err();
    fs::rename(fixture.path("aside"), &dir).unwrap();
    refused(fixture.commit("n", KEY).await, Code::FailedPrecondition, "an earlier commit failed");
    fixture.apply(mounts, digest, tar.len()).await.unwrap();
    fixture.commit("n", KEY).await.unwrap();
    refused(fixture.stat(KEY).await, Code::NotFound, "no snapshot");
}
