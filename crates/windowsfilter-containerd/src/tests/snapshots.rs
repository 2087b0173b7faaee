//! Prepare, View, Mounts, Commit, Remove: rules and error codes.

use std::fs;

use tonic::Code;
use windowsfilter::Digest;

use super::layers::layer;
use super::support::{Fixture, map, refused, shown};
use crate::api::snapshots::{CommitSnapshotRequest, Kind, UsageRequest};

const NAME: &str = "default/2/sha256:base";

async fn with_base() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.unpack(NAME, "", &layer(&[("a.txt", b"base"), ("b.txt", b"b")])).await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_unpacked_seen_changed_committed_and_removed() {
    let mut fixture = with_base().await;
    assert_eq!(fixture.kind(NAME).await, Kind::Committed);
    let view = shown(&fixture.view("default/3/v", NAME).await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"base");
    assert!(fs::write(view.join("x"), "x").is_err());

    let sandbox = fixture.prepare("default/4//mnt/c", NAME).await.unwrap();
    assert_eq!(sandbox[0].options, ["rbind", "rw"]);
    fs::write(shown(&sandbox).join("new.txt"), "new").unwrap();
    fs::remove_file(shown(&sandbox).join("b.txt")).unwrap();
    assert_eq!(fixture.mounts("default/4//mnt/c").await.unwrap(), sandbox);
    fixture.commit("default/5/top", "default/4//mnt/c").await.unwrap();
    refused(fixture.stat("default/4//mnt/c").await, Code::NotFound, "/mnt/c");
    refused(fixture.mounts("default/5/top").await, Code::FailedPrecondition, "committed");

    let top = shown(&fixture.view("default/6/v2", "default/5/top").await.unwrap());
    let names = |dir| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&top), ["a.txt", "new.txt"]);
    for key in ["default/6/v2", "default/5/top", "default/3/v", NAME] {
        fixture.remove(key).await.unwrap();
        refused(fixture.remove(key).await, Code::NotFound, key);
    }
    fixture.assert_layers(&[]);
    assert_eq!(fs::read_dir(fixture.path("store/containerd/default/mounts")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_parents_are_checked_with_the_codes_of_containerds_own_snapshotters() {
    let mut fixture = with_base().await;
    refused(fixture.prepare("k", "missing").await, Code::NotFound, "parent \"missing\"");
    fixture.prepare("k", NAME).await.unwrap();
    refused(fixture.prepare("k", NAME).await, Code::AlreadyExists, "\"k\"");
    refused(fixture.view("k", "missing").await, Code::AlreadyExists, "\"k\"");
    refused(fixture.view("v", "k").await, Code::InvalidArgument, "active");
    refused(fixture.mounts("nothing").await, Code::NotFound, "nothing");
    refused(fixture.commit(NAME, "k").await, Code::AlreadyExists, NAME);
    refused(fixture.commit("x", "nothing").await, Code::NotFound, "nothing");
    refused(fixture.commit("x", NAME).await, Code::FailedPrecondition, "committed");
    fixture.view("v", NAME).await.unwrap();
    refused(fixture.commit("x", "v").await, Code::FailedPrecondition, "view");
    refused(fixture.commit_on("x", "k", "other").await, Code::InvalidArgument, "other");
    refused(fixture.remove(NAME).await, Code::FailedPrecondition, "remove");
    refused(fixture.prepare("", "").await, Code::InvalidArgument, "key");
    refused(fixture.prepare(&"k".repeat(20_000), "").await, Code::InvalidArgument, "20000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_never_a_path_however_it_looks_and_may_be_long() {
    let mut fixture = with_base().await;
    let long = "k".repeat(10_000);
    for key in ["../../../etc", "/", "default/7//etc/passwd", "a\0b", "ключ", long.as_str()] {
        let sandbox = shown(&fixture.prepare(key, NAME).await.unwrap());
        assert!(sandbox.starts_with(fixture.path("store/containerd/default/mounts")), "{sandbox:?}");
        assert_eq!(fixture.stat(key).await.unwrap().name, key);
        fixture.remove(key).await.unwrap();
        refused(fixture.stat(key).await, Code::NotFound, "no snapshot");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpack_key_gets_a_mount_that_only_our_differ_understands() {
    let mut fixture = Fixture::new();
    let key = "default/3/extract-955493122-n1tQ sha256:ab";
    let mounts = fixture.prepare(key, "").await.unwrap();
    assert_eq!((mounts.len(), mounts[0].r#type.as_str()), (1, "windowsfilter"));
    assert_eq!(fixture.kind(key).await, Kind::Active);
    let other = fixture.prepare("default/4/extract-2 sha256:cd", "").await.unwrap();
    assert_ne!(mounts[0].source, other[0].source);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpack_that_another_differ_did_is_refused_and_the_setting_named() {
    let mut fixture = Fixture::new();
    fixture.prepare("default/3/extract-1 x", "").await.unwrap();
    let result = fixture.commit("default/4/x", "default/3/extract-1 x").await;
    refused(result, Code::FailedPrecondition, "io.containerd.service.v1.diff-service");
    fixture.remove("default/3/extract-1 x").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_unpacked_side_by_side_get_their_parents_when_they_are_committed() {
    let mut fixture = Fixture::new();
    let tars = [layer(&[("a.txt", b"1")]), layer(&[("b.txt", b"2")]), layer(&[("c.txt", b"3")])];
    // All are prepared without a parent, and applied in any order.
    let mut mounts = Vec::new();
    for i in 0..3 {
        mounts.push(fixture.prepare(&format!("default/{i}/extract-{i} x"), "").await.unwrap());
    }
    for i in [2, 0, 1] {
        let digest = fixture.fake.add(&tars[i]);
        fixture.apply(mounts[i].clone(), digest, tars[i].len()).await.unwrap();
    }
    fixture.commit("n0", "default/0/extract-0 x").await.unwrap();
    refused(fixture.commit_on("n1", "default/1/extract-1 x", "gone").await, Code::NotFound, "gone");
    fixture.commit_on("n1", "default/1/extract-1 x", "n0").await.unwrap();
    fixture.commit_on("n2", "default/2/extract-2 x", "n1").await.unwrap();
    assert_eq!(fixture.stat("n2").await.unwrap().parent, "n1");
    refused(fixture.remove("n1").await, Code::FailedPrecondition, "n2");
    let view = shown(&fixture.view("v", "n2").await.unwrap());
    assert_eq!(fs::read_dir(view).unwrap().count(), 3);
    // The IDs are those of an image's import.
    let chain =
        |below: &str, tar: &[u8]| Digest::of(format!("sha256:{below} {}", Digest::of(tar)).as_bytes()).hex();
    let first = Digest::of(&tars[0]).hex();
    let second = chain(&first, &tars[1]);
    let mut expected = [first.clone(), second.clone(), chain(&second, &tars[2])];
    expected.sort();
    fixture.assert_layers(&expected.each_ref().map(String::as_str));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_snapshots_of_one_layer_share_it() {
    let mut fixture = with_base().await;
    let tar = layer(&[("a.txt", b"base"), ("b.txt", b"b")]);
    fixture.unpack("other/9/sha256:base", "", &tar).await;
    let id = Digest::of(&tar).hex();
    fixture.assert_layers(&[&id]);
    fixture.remove(NAME).await.unwrap();
    fixture.assert_layers(&[&id]);
    fixture.remove("other/9/sha256:base").await.unwrap();
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_of_nothing_and_views_of_nothing_are_empty_directories() {
    let mut fixture = Fixture::new();
    let sandbox = shown(&fixture.prepare("c", "").await.unwrap());
    assert_eq!(fs::read_dir(&sandbox).unwrap().count(), 0);
    fs::write(sandbox.join("a.txt"), "a").unwrap();
    let view = shown(&fixture.view("v", "").await.unwrap());
    assert_eq!(fs::read_dir(view).unwrap().count(), 0);
    fixture.commit("layer", "c").await.unwrap();
    let view = shown(&fixture.view("v2", "layer").await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_changed_nothing_makes_a_layer_that_changes_nothing() {
    let mut fixture = with_base().await;
    fixture.prepare("c", NAME).await.unwrap();
    fixture.commit("same", "c").await.unwrap();
    let view = shown(&fixture.view("v", "same").await.unwrap());
    assert_eq!(fs::read(view.join("a.txt")).unwrap(), b"base");
    fixture.prepare("empty", "").await.unwrap();
    fixture.commit("nothing", "empty").await.unwrap();
    let view = shown(&fixture.view("v2", "nothing").await.unwrap());
    assert_eq!(fs::read_dir(view).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_give_a_sandbox_its_size_and_commit_replaces_them() {
    let mut fixture = with_base().await;
    let size = "containerd.io/snapshot/windows/rootfs.sizebytes";
    let sandbox = fixture.prepare_labelled("c", NAME, &[(size, "67108864")]).await.unwrap();
    let error = fs::write(shown(&sandbox).join("big"), vec![1; 80 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(shown(&sandbox).join("big")).unwrap();
    let labels = map(&[("containerd.io/snapshot.ref", "x")]);
    let request = CommitSnapshotRequest {
        name: "n".into(),
        key: "c".into(),
        labels: labels.clone(),
        ..Default::default()
    };
    fixture.snapshots.commit(request).await.unwrap();
    assert_eq!(fixture.stat("n").await.unwrap().labels, labels);
    let refusal = fixture.prepare_labelled("d", NAME, &[(size, "many")]).await;
    refused(refusal, Code::InvalidArgument, "rootfs.sizebytes");
    for (number, words) in
        [("1", "too small"), ("18446744073709551615", "too large"), ("9223372036854775807", "too large")]
    {
        refused(fixture.prepare_labelled("d", NAME, &[(size, number)]).await, Code::InvalidArgument, words);
    }
    let gigabytes = "containerd.io/snapshot/io.microsoft.container.storage.rootfs.size-gb";
    refused(
        fixture.prepare_labelled("d", NAME, &[(gigabytes, "100000000")]).await,
        Code::InvalidArgument,
        "too large",
    );
    refused(fixture.stat("d").await, Code::NotFound, "d");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_layer_can_hold_is_refused_by_commit_as_by_diff() {
    let mut fixture = with_base().await;
    let sandbox = fixture.prepare("default/3/bad", NAME).await.unwrap();
    for (name, count) in [("a:b", "1 entry cannot"), ("con", "2 entries cannot")] {
        fs::write(shown(&sandbox).join(name), "x").unwrap();
        let request = crate::api::diff::DiffRequest { right: sandbox.clone(), ..Default::default() };
        let mut diff = fixture.diff.clone();
        let by_diff = diff.diff(request).await.unwrap_err();
        // Without its parent on the left it would be compared with nothing, which is not its parent.
        assert_eq!(by_diff.code(), Code::InvalidArgument, "{by_diff:?}");
        let left = fixture.view(&format!("default/4/{count}"), NAME).await.unwrap();
        let request = crate::api::diff::DiffRequest { left, right: sandbox.clone(), ..Default::default() };
        let by_diff = diff.diff(request).await.unwrap_err();
        refused(fixture.commit("default/5/n", "default/3/bad").await, Code::FailedPrecondition, count);
        let by_commit = fixture.commit("default/5/n", "default/3/bad").await.unwrap_err();
        assert_eq!((by_commit.code(), by_commit.message()), (by_diff.code(), by_diff.message()));
    }
    fs::remove_file(shown(&sandbox).join("a:b")).unwrap();
    fs::remove_file(shown(&sandbox).join("con")).unwrap();
    fixture.commit("default/5/n", "default/3/bad").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_labels_is_refused_and_leaves_nothing() {
    let mut fixture = Fixture::new();
    let value = "x".repeat(4000);
    let keys: Vec<String> = (0..400).map(|i| format!("containerd.io/snapshot/{i}")).collect();
    let labels: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), value.as_str())).collect();
    refused(fixture.prepare_labelled("k", "", &labels).await, Code::InvalidArgument, "labels");
    assert_eq!(fixture.list(&[]).await.unwrap(), [""; 0]);
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_what_a_snapshot_itself_takes() {
    let mut fixture = with_base().await;
    let usage = |fixture: &Fixture, key: &str| {
        let mut snapshots = fixture.snapshots.clone();
        let request = UsageRequest { key: key.to_owned(), ..Default::default() };
        async move { snapshots.usage(request).await.map(tonic::Response::into_inner) }
    };
    let tar = layer(&[("a.txt", b"base"), ("b.txt", b"b")]);
    let committed = usage(&fixture, NAME).await.unwrap();
    assert_eq!((committed.size, committed.inodes), (tar.len() as i64, 3));
    let sandbox = shown(&fixture.prepare("c", NAME).await.unwrap());
    let empty = usage(&fixture, "c").await.unwrap();
    assert_eq!((empty.size, empty.inodes), (0, 0));
    fs::write(sandbox.join("big"), vec![1; 1 << 20]).unwrap();
    rustix::fs::syncfs(fs::File::open(&sandbox).unwrap()).unwrap();
    let used = usage(&fixture, "c").await.unwrap();
    assert!(used.size >= 1 << 20 && used.size < 2 << 20, "{used:?}");
    assert_eq!(used.inodes, 1);
    fixture.view("v", NAME).await.unwrap();
    assert_eq!(usage(&fixture, "v").await.unwrap().size, 0);
    refused(usage(&fixture, "missing").await, Code::NotFound, "missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_in_use_is_removed_and_goes_with_its_last_user() {
    let mut fixture = with_base().await;
    let sandbox = shown(&fixture.prepare("c", NAME).await.unwrap());
    let open = fs::File::create(sandbox.join("open")).unwrap();
    fixture.remove("c").await.unwrap();
    refused(fixture.stat("c").await, Code::NotFound, "c");
    drop(open);
    fixture.snapshots.cleanup(crate::api::snapshots::CleanupRequest::default()).await.unwrap();
    fixture.remove(NAME).await.unwrap();
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_sandboxes_are_made_and_removed_at_once() {
    let fixture = with_base().await;
    let tasks: Vec<_> = (0..50)
        .map(|i| {
            let (mut snapshots, key) = (fixture.snapshots.clone(), format!("default/{i}/c"));
            tokio::spawn(async move {
                let request = crate::api::snapshots::PrepareSnapshotRequest {
                    key: key.clone(),
                    parent: NAME.into(),
                    ..Default::default()
                };
                let mounts = snapshots.prepare(request).await.unwrap().into_inner().mounts;
                fs::write(shown(&mounts).join("mine"), key.as_bytes()).unwrap();
                assert_eq!(fs::read(shown(&mounts).join("mine")).unwrap(), key.as_bytes());
                let request = crate::api::snapshots::RemoveSnapshotRequest { key, ..Default::default() };
                snapshots.remove(request).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // The Cleanup that containerd sends after removals removes what was in use for a moment.
    fixture.snapshotter().cleanup().unwrap();
    let id = Digest::of(&layer(&[("a.txt", b"base"), ("b.txt", b"b")])).hex();
    fixture.assert_layers(&[&id]);
}
