//! A store on a full disk: operations that need space are refused, those that free space succeed, and the
//! server needs no restart.

use std::fs::File;
use std::io::Write;

use tonic::Code;

use super::layers::layer;
use super::support::{Fixture, refused, shown};

const NAME: &str = "default/2/sha256:base";
/// Megabytes of the disk.
const SIZE: u64 = 64;

async fn with_base() -> Fixture {
    let mut fixture = Fixture::on_a_small_disk(SIZE);
    fixture.unpack(NAME, "", &layer(&[("a.txt", b"base")])).await;
    fixture
}

/// Makes a sandbox `box` and writes to it until the disk is full.
async fn write_until_full(fixture: &mut Fixture) {
    let sandbox = shown(&fixture.prepare("box", NAME).await.unwrap());
    let mut file = File::create(sandbox.join("large")).unwrap();
    for _ in 0..2 * SIZE {
        let _ = file.write_all(&vec![1; 1 << 20]);
    }
    // The sandbox is larger than its disk, which only the sync shows.
    assert!(rustix::fs::syncfs(&file).is_err() || file.sync_all().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_room_is_refused_and_succeeds_when_there_is_some() {
    let mut fixture = with_base().await;
    for key in ["a", "b", "c"] {
        fixture.prepare(key, NAME).await.unwrap();
    }
    fixture.disk().fill();
    refused(fixture.prepare("d", NAME).await, Code::ResourceExhausted, "No space left");
    for key in ["a", "b"] {
        fixture.remove(key).await.unwrap();
        refused(fixture.stat(key).await, Code::NotFound, "no snapshot");
    }
    fixture.disk().empty();
    fixture.prepare("d", NAME).await.unwrap();
    fixture.remove("c").await.unwrap();
    fixture.remove("d").await.unwrap();
    fixture.remove(NAME).await.unwrap();
    fixture.snapshotter().cleanup().unwrap();
    fixture.assert_layers(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_has_filled_the_disk_is_removed_and_its_room_is_back() {
    let mut fixture = with_base().await;
    write_until_full(&mut fixture).await;
    fixture.remove("box").await.unwrap();
    fixture.snapshotter().cleanup().unwrap();
    let sandbox = shown(&fixture.prepare("again", NAME).await.unwrap());
    std::fs::write(sandbox.join("new"), vec![1; 16 << 20]).unwrap();
    rustix::fs::syncfs(File::open(&sandbox).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_on_the_disk_that_a_sandbox_has_filled_and_removes_it() {
    let mut fixture = with_base().await;
    write_until_full(&mut fixture).await;
    fixture.restart().await;
    fixture.remove("box").await.unwrap();
    fixture.snapshotter().cleanup().unwrap();
    fixture.prepare("again", NAME).await.unwrap();
}
