//! Diff: blobs for containerd's content store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};

use tonic::{Code, Request, Status};
use windowsfilter::{Digest, Driver};

use super::fake_containerd::Written;
use super::layers::layer;
use super::support::{Fixture, PATIENCE, refused, shown};
use crate::api::diff::{DiffRequest, DiffResponse};
use crate::api::snapshots::UsageRequest;
use crate::api::types::{Descriptor, Mount};
use crate::containerd::NAMESPACE;

const NAME: &str = "default/2/sha256:base";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn base() -> Vec<u8> {
    layer(&[("a.txt", b"base"), ("b.txt", &[7; 100_000])])
}

async fn with_base() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.unpack(NAME, "", &base()).await;
    fixture
}

async fn diff(
    fixture: &mut Fixture,
    left: &[Mount],
    right: &[Mount],
    media_type: &str,
) -> Result<Descriptor, Status> {
    let (left, right, media_type) = (left.to_vec(), right.to_vec(), media_type.to_owned());
    let labels = [("mine".to_owned(), "kept".to_owned())].into();
    let mut request = Request::new(DiffRequest { left, right, media_type, labels, ..Default::default() });
    request.metadata_mut().insert(NAMESPACE, "tests".parse().unwrap());
    Ok(fixture.diff.diff(request).await?.into_inner().diff.unwrap())
}

fn written(fixture: &Fixture, descriptor: &Descriptor) -> Written {
    let blob = fixture.fake.state().written[&descriptor.digest].clone();
    assert_eq!(Digest::of(&blob.data).to_string(), descriptor.digest);
    assert_eq!(blob.data.len() as i64, descriptor.size);
    blob
}

fn gunzip(data: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(data).read_to_end(&mut tar).unwrap();
    tar
}

#[tokio::test(flavor = "multi_thread")]
async fn the_diff_of_a_committed_layer_is_its_own_tar() {
    let mut fixture = with_base().await;
    let nothing = fixture.view("default/3/-parent-view-x", "").await.unwrap();
    let right = fixture.view("default/4/v", NAME).await.unwrap();
    let plain = diff(&mut fixture, &nothing, &right, LAYER).await.unwrap();
    let blob = written(&fixture, &plain);
    assert!(blob.data == base());
    assert_eq!(blob.namespace, "tests");
    let expected = [("mine", "kept"), ("containerd.io/uncompressed", &Digest::of(&base()).to_string())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(blob.labels, BTreeMap::from(expected));
    let gzip = diff(&mut fixture, &[], &right, "").await.unwrap();
    assert_eq!(gzip.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert!(gunzip(&written(&fixture, &gzip).data) == base());
    let zstd =
        diff(&mut fixture, &nothing, &right, "application/vnd.oci.image.layer.v1.tar+zstd").await.unwrap();
    assert!(zstd::decode_all(&*written(&fixture, &zstd).data).unwrap() == base());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_diff_of_a_sandbox_is_what_commit_would_make_of_it() {
    let mut fixture = with_base().await;
    let sandbox = fixture.prepare("default/5/c", NAME).await.unwrap();
    fs::write(shown(&sandbox).join("new.txt"), "new").unwrap();
    fs::remove_file(shown(&sandbox).join("a.txt")).unwrap();
    let left = fixture.view("default/6/x-parent-view-1", NAME).await.unwrap();
    let first = diff(&mut fixture, &left, &sandbox, LAYER).await.unwrap();
    fixture.commit("default/7/n", "default/5/c").await.unwrap();
    let right = fixture.view("default/8/v", "default/7/n").await.unwrap();
    let second = diff(&mut fixture, &left, &right, LAYER).await.unwrap();
    assert_eq!(first, second);
    let tar = String::from_utf8_lossy(&written(&fixture, &first).data).into_owned();
    assert!(tar.contains("Files/.wh.a.txt") && tar.contains("Files/new.txt") && !tar.contains("b.txt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_kept_by_a_lease_that_ends_by_itself() {
    let mut fixture = with_base().await;
    let right = fixture.view("v", NAME).await.unwrap();
    let descriptor = diff(&mut fixture, &[], &right, "").await.unwrap();
    let lease = written(&fixture, &descriptor).lease;
    let expire: jiff::Timestamp =
        fixture.fake.state().leases[&lease]["containerd.io/gc.expire"].parse().unwrap();
    assert!(expire > jiff::Timestamp::now() + jiff::SignedDuration::from_mins(50));
    assert!(fixture.fake.state().resources.is_empty());

    // The second time the blob exists already: the commit fails, and does not add it to the lease.
    let again = diff(&mut fixture, &[], &right, "").await.unwrap();
    assert_eq!(again, descriptor);
    let resources = fixture.fake.state().resources.clone();
    assert_eq!(resources.len(), 1);
    assert_eq!((resources[0].1.as_str(), &resources[0].2), ("content", &descriptor.digest));
    assert!(fixture.fake.state().leases.contains_key(&resources[0].0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_store_that_refuses_or_is_silent_is_reported_and_the_writing_aborted() {
    let mut fixture = with_base().await;
    let right = fixture.view("v", NAME).await.unwrap();
    fixture.fake.state().write_failure = Some((0, Code::Unavailable));
    refused(diff(&mut fixture, &[], &right, LAYER).await, Code::Unavailable, "the content store refuses");
    fixture.fake.state().write_failure = Some((1, Code::ResourceExhausted));
    refused(
        diff(&mut fixture, &[], &right, LAYER).await,
        Code::ResourceExhausted,
        "the content store refuses",
    );
    fixture.fake.state().write_failure = None;
    fixture.fake.state().silent = true;
    // Everything was sent, and the server waits for the commit, which may take longer.
    let seconds = PATIENCE.commit.as_secs();
    let words = format!("no answer for {seconds} s");
    refused(diff(&mut fixture, &[], &right, LAYER).await, Code::DeadlineExceeded, &words);
    assert_eq!(fixture.fake.state().aborted.len(), 3);
    assert_eq!(fixture.fake.state().leases.len(), 0);
    assert!(fixture.fake.state().written.is_empty());
    fixture.fake.state().silent = false;
    diff(&mut fixture, &[], &right, LAYER).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_refused_and_only_other_peoples_mounts_are_left_to_others() {
    let mut fixture = with_base().await;
    fixture.unpack("top", NAME, &layer(&[("c", b"c")])).await;
    let base = fixture.view("vb", NAME).await.unwrap();
    let top = fixture.view("vt", "top").await.unwrap();
    let sandbox = fixture.prepare("c", "top").await.unwrap();
    let unpack = fixture.prepare("extract-1 x", "").await.unwrap();
    let foreign = [Mount { r#type: "overlay".into(), source: "overlay".into(), ..Default::default() }];
    diff(&mut fixture, &base, &top, LAYER).await.unwrap();
    for (left, right) in [
        (&top[..], &base[..]),
        (&base, &sandbox),
        (&[], &sandbox),
        (&sandbox, &top),
        (&top, &unpack),
        (&top, &top),
        (&foreign, &top),
        (&top, &foreign),
    ] {
        refused(diff(&mut fixture, left, right, LAYER).await, Code::InvalidArgument, "cannot compare");
    }
    refused(
        diff(&mut fixture, &foreign, &foreign, LAYER).await,
        Code::Unimplemented,
        "do not belong to this snapshotter",
    );
    refused(diff(&mut fixture, &base, &top, "application/zip").await, Code::Unimplemented, "application/zip");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_windows_cannot_hold_are_all_listed_and_nothing_is_written() {
    let mut fixture = with_base().await;
    let sandbox = fixture.prepare("c", NAME).await.unwrap();
    for name in ["con", "a:b"] {
        fs::write(shown(&sandbox).join(name), "x").unwrap();
    }
    let left = fixture.view("v", NAME).await.unwrap();
    let status = diff(&mut fixture, &left, &sandbox, LAYER).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("con") && status.message().contains("a:b"), "{status:?}");
    assert!(fixture.fake.state().written.is_empty());
    let status = fixture.commit("n", "c").await.unwrap_err();
    assert!(status.message().contains("a:b"), "{status:?}");
    // The sandbox is unchanged and can be fixed.
    for name in ["con", "a:b"] {
        fs::remove_file(shown(&sandbox).join(name)).unwrap();
    }
    fixture.commit("n", "c").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_date_epoch_makes_changes_of_different_times_the_same_layer() {
    let mut fixture = with_base().await;
    let left = fixture.view("v", NAME).await.unwrap();
    let mut digests = Vec::new();
    for key in ["c1", "c2"] {
        let sandbox = fixture.prepare(key, NAME).await.unwrap();
        fs::write(shown(&sandbox).join("new.txt"), "new").unwrap();
        let request = |epoch: Option<i64>| DiffRequest {
            left: left.clone(),
            right: sandbox.clone(),
            media_type: LAYER.into(),
            source_date_epoch: epoch.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        for epoch in [None, Some(1_600_000_000)] {
            let mut request = Request::new(request(epoch));
            request.metadata_mut().insert(NAMESPACE, "tests".parse().unwrap());
            digests.push(fixture.diff.diff(request).await.unwrap().into_inner().diff.unwrap().digest);
        }
    }
    assert_eq!(digests[1], digests[3]);
    assert_ne!(digests[0], digests[2]);
    // It is a layer like any other.
    let tar = fixture.fake.state().written[&digests[1]].data.clone();
    let id = windowsfilter::LayerId::new("again").unwrap();
    fixture.store().apply_diff(&id, None, &mut Cursor::new(tar)).unwrap();
    fixture.store().remove(&id).unwrap();
}

/// A Diff that containerd no longer answers, and the waiting call.
async fn hanging_diff(
    fixture: &Fixture,
    left: &[Mount],
    right: &[Mount],
    reference: &str,
) -> tokio::task::JoinHandle<Result<tonic::Response<DiffResponse>, Status>> {
    fixture.fake.state().silent = true;
    let mut client = fixture.diff.clone();
    let (left, right, r#ref) = (left.to_vec(), right.to_vec(), reference.to_owned());
    let mut request =
        Request::new(DiffRequest { left, right, media_type: LAYER.into(), r#ref, ..Default::default() });
    request.metadata_mut().insert(NAMESPACE, "tests".parse().unwrap());
    let call = tokio::spawn(async move { client.diff(request).await });
    fixture.fake.hanging.notified().await;
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_in_containerd_of_a_diff_whose_caller_is_gone() {
    let mut fixture = with_base().await;
    let right = fixture.view("v", NAME).await.unwrap();
    for reference in ["", "a name of the client"] {
        let call = hanging_diff(&fixture, &[], &right, reference).await;
        let lease = fixture.fake.state().leases.keys().next().unwrap().clone();
        call.abort();
        fixture.fake.taken_back.notified().await;
        let mut state = fixture.fake.state();
        assert!(state.leases.is_empty());
        // The client's reference may be in use by another write by now.
        let expected = if reference.is_empty() { vec![lease] } else { Vec::new() };
        assert_eq!(std::mem::take(&mut state.aborted), expected);
    }
    fixture.fake.state().silent = false;
    diff(&mut fixture, &[], &right, LAYER).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_without_leases_does_not_make_containerd_ask_another_differ() {
    let mut fixture = with_base().await;
    let right = fixture.view("v", NAME).await.unwrap();
    fixture.fake.state().without_leases = true;
    refused(diff(&mut fixture, &[], &right, LAYER).await, Code::FailedPrecondition, "unknown service");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_diff_who_wants_something_else_of_its_sandbox() {
    let mut fixture = with_base().await;
    let sandbox = fixture.prepare("c", NAME).await.unwrap();
    // More than the pieces in flight between the sandbox and containerd.
    fs::write(shown(&sandbox).join("large"), vec![7; 64 << 20]).unwrap();
    let left = fixture.view("v", NAME).await.unwrap();
    let call = hanging_diff(&fixture, &left, &sandbox, "").await;

    assert_eq!(fixture.mounts("c").await.unwrap(), sandbox);
    let usage = UsageRequest { key: "c".into(), ..Default::default() };
    assert!(fixture.snapshots.usage(usage).await.unwrap().into_inner().size > 0);
    fixture.remove("c").await.unwrap();
    refused(fixture.stat("c").await, Code::NotFound, "no snapshot");
    assert!(!call.is_finished());
    assert_eq!(fixture.store().layers().unwrap().len(), 2);
    call.abort();
    fixture.fake.taken_back.notified().await;
    // The thread that reads the sandbox ends once its receiver is gone.
    while fixture.store().layers().unwrap().len() > 1 {
        fixture.snapshotter().tidy();
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.store().held().unwrap().len(), 1, "only the view");
}
