//! A sandbox's changes become an image. Needs root, as mounting does.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;

use common::{Fixture, Layout, sample};
use windowsfilter::{Driver, LayerId, StorageOptions};
use windowsfilter_image::{CommitOptions, Error};

#[test]
fn a_commit_of_what_windows_cannot_hold_says_so_and_leaves_nothing() {
    let fixture = Fixture::new();
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    layout.write(&fixture.path("oci"));
    let parent = fixture.import(&fixture.path("oci"), Some("win:1")).unwrap();
    let sandbox = LayerId::new("box").unwrap();
    let options = StorageOptions { size: Some(64 << 20) };
    fixture.store.create_read_write(&sandbox, Some(&parent.top), options, "").unwrap();
    fs::write(fixture.store.mount(&sandbox, None).unwrap().join("a:b"), "").unwrap();
    let options = CommitOptions {
        reference: "win:2".parse().unwrap(),
        author: None,
        message: None,
        created: None,
        progress: &(),
    };
    let error = fixture.images().commit(&sandbox, options).unwrap_err();
    fixture.store.unmount(&sandbox).unwrap();
    let Error::Store(windowsfilter::Error::NotPortable { problems }) = error else { panic!("{error:?}") };
    assert!(problems.len() == 1 && problems[0].contains("a:b"), "{problems:?}");
    assert_eq!(fixture.images().list().unwrap().len(), 1);
    assert_eq!(fixture.store.layers().unwrap().len(), 3);
}

#[test]
fn a_commit_adds_a_layer_and_history_and_is_reproducible() {
    let fixture = Fixture::new();
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    layout.write(&fixture.path("oci"));
    let parent = fixture.import(&fixture.path("oci"), Some("win:1")).unwrap();
    let sandbox = LayerId::new("box").unwrap();
    let options = StorageOptions { size: Some(1 << 30) };
    fixture.store.create_read_write(&sandbox, Some(&parent.top), options, "").unwrap();
    let view = fixture.store.mount(&sandbox, None).unwrap();
    fs::write(view.join("new.txt"), "new").unwrap();
    let commit = |name: &str| {
        let options = CommitOptions {
            reference: name.parse().unwrap(),
            author: Some("Ann".into()),
            message: Some("adds new.txt".into()),
            created: Some(1_700_000_000),
            progress: &(),
        };
        fixture.images().commit(&sandbox, options).unwrap()
    };
    let first = commit("win:2");
    let second = commit("win:3");
    fixture.store.unmount(&sandbox).unwrap();
    assert_eq!((&first.image_id, &first.layers), (&second.image_id, &second.layers));
    assert_eq!(first.layers[..2], parent.layers);
    let info = fixture.images().inspect("win:2").unwrap();
    assert_eq!(info.os_version.as_deref(), Some("10.0.20348.1"));
    assert_eq!(info.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    let last = info.history.last().unwrap();
    assert_eq!((last.author.as_deref(), last.comment.as_deref()), (Some("Ann"), Some("adds new.txt")));
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
    assert!(fixture.store.view(&first.top).unwrap().lookup(b"new.txt", false).unwrap().is_some());
}
