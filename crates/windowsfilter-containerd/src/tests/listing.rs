//! Stat, Update and List.

use std::io::Cursor;

use tonic::Code;
use windowsfilter::{Driver, LayerId};

use super::layers::layer;
use super::support::{Fixture, map, refused};
use crate::api::snapshots::{Info, Kind, UpdateSnapshotRequest, UpdateSnapshotResponse};

async fn update(
    fixture: &mut Fixture,
    key: &str,
    labels: &[(&str, &str)],
    paths: Option<&[&str]>,
) -> Result<Info, tonic::Status> {
    // Fields other than labels are ignored; containerd sends them.
    let info = Info {
        name: key.into(),
        parent: "noise".into(),
        kind: Kind::Committed.into(),
        labels: map(labels),
        ..Default::default()
    };
    let update_mask = paths
        .map(|paths| prost_types::FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() });
    let request = UpdateSnapshotRequest { info: Some(info), update_mask, ..Default::default() };
    let UpdateSnapshotResponse { info } = fixture.snapshots.update(request).await?.into_inner();
    Ok(info.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn update_changes_labels_and_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.prepare_labelled("k", "", &[("a", "1"), ("b", "2")]).await.unwrap();
    let before = fixture.stat("k").await.unwrap();
    assert_eq!(before.created_at, before.updated_at);
    let info =
        update(&mut fixture, "k", &[("a", "3"), ("c", "4")], Some(&["labels.a", "labels.b"])).await.unwrap();
    assert_eq!(info.labels, map(&[("a", "3")]));
    assert_eq!((info.kind(), info.parent.as_str()), (Kind::Active, ""));
    assert_eq!(info.created_at, before.created_at);
    assert!(info.updated_at.as_ref().unwrap().nanos != before.updated_at.as_ref().unwrap().nanos);
    let info = update(&mut fixture, "k", &[("x", "y")], None).await.unwrap();
    assert_eq!(info.labels, map(&[("x", "y")]));
    assert_eq!(fixture.stat("k").await.unwrap(), info);
    refused(update(&mut fixture, "k", &[], Some(&["parent"])).await, Code::InvalidArgument, "parent");
    refused(update(&mut fixture, "missing", &[], None).await, Code::NotFound, "missing");
    let nothing = UpdateSnapshotRequest::default();
    refused(fixture.snapshots.update(nothing).await, Code::InvalidArgument, "info");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_what_containerd_made_and_nothing_else_of_the_store() {
    let mut fixture = Fixture::new();
    let tar = layer(&[("a", b"1")]);
    fixture
        .store()
        .apply_diff(&LayerId::new("imported").unwrap(), None, &mut Cursor::new(tar.clone()))
        .unwrap();
    fixture.unpack("default/1/base", "", &tar).await;
    fixture.view("default/2/v", "default/1/base").await.unwrap();
    fixture.prepare("default/3/extract-1 x", "").await.unwrap();
    assert_eq!(fixture.list(&[]).await.unwrap(), ["default/1/base", "default/2/v", "default/3/extract-1 x"]);
    assert_eq!(fixture.list(&["kind==view", "kind==committed"]).await.unwrap().len(), 2);
    assert_eq!(fixture.list(&["parent==default/1/base,kind==view"]).await.unwrap(), ["default/2/v"]);
    refused(fixture.list(&["name=="]).await, Code::InvalidArgument, "value");
    refused(fixture.list(&["kind==view", "(("]).await, Code::InvalidArgument, "((");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_in_batches() {
    let mut fixture = Fixture::new();
    for i in 0..230 {
        fixture.prepare(&format!("default/{i}/extract-{i} x"), "").await.unwrap();
    }
    assert_eq!(fixture.list(&[]).await.unwrap().len(), 230);
}
