//! Commits a sandbox's changes as an image. Needs root to mount.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;

use common::{Fixture, Layout, sample};
use serde_json::{Value, json};
use windowsfilter::{Follow, LayerId, StorageOptions};
use windowsfilter_image::{CommitOptions, Error, Imported};

#[test]
fn a_commit_of_what_windows_cannot_hold_says_so_and_leaves_nothing() {
    let fixture = Fixture::new();
    let (_, sandbox, view) = fixture.sandbox(64 << 20);
    fs::write(view.join("a:b"), "").unwrap();
    let options = CommitOptions::new("win:2".parse().unwrap());
    let error = fixture.images().commit(&sandbox, options).unwrap_err();
    fixture.store.unmount(&sandbox).unwrap();
    let Error::Store(windowsfilter::Error::NotPortable { problems, .. }) = error else { panic!("{error:?}") };
    assert!(problems.len() == 1 && problems[0].contains("a:b"), "{problems:?}");
    assert_eq!(fixture.images().list().unwrap().len(), 1);
    assert_eq!(fixture.store.layers().unwrap().len(), 3);
}

#[test]
fn a_commit_adds_a_layer_and_history_and_is_reproducible() {
    let fixture = Fixture::new();
    let (parent, sandbox, view) = fixture.sandbox(1 << 30);
    fs::write(view.join("new.txt"), "new").unwrap();
    let commit = |name: &str| {
        let options = CommitOptions {
            author: Some("Ann".into()),
            message: Some("adds new.txt".into()),
            created: Some(1_700_000_000),
            ..CommitOptions::new(name.parse().unwrap())
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
    assert!(fixture.store.view(&first.top).unwrap().lookup(b"new.txt", Follow::OnTheWay).unwrap().is_some());
}

const SIZE: StorageOptions = StorageOptions { size: Some(64 << 20) };

fn id(text: &str) -> LayerId {
    LayerId::new(text).unwrap()
}

/// The images `a` and `b` with the same layers and different commands.
fn two_images() -> Fixture {
    let fixture = Fixture::new();
    let (config, tars) = sample();
    for name in ["a", "b"] {
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        config["config"]["Cmd"] = json!([name]);
        let mut layout = Layout::default();
        layout.image(config.to_string().as_bytes(), &tars, |_| {});
        layout.write(&fixture.path(name));
        fixture.import(&fixture.path(name), Some(name)).unwrap();
    }
    fixture
}

fn commit(
    fixture: &Fixture,
    sandbox: &str,
    reference: &str,
    created: Option<i64>,
) -> Result<Imported, Error> {
    let reference = reference.parse().unwrap();
    let options = CommitOptions { created, ..CommitOptions::new(reference) };
    fixture.images().commit(&id(sandbox), options)
}

fn command(fixture: &Fixture, reference: &str) -> Value {
    fixture.images().inspect(reference).unwrap().config["Cmd"].clone()
}

#[test]
fn a_commit_starts_from_the_image_that_the_sandbox_was_made_from() {
    let fixture = two_images();
    for name in ["a", "b"] {
        fixture.images().create_sandbox(name, &id(&format!("on-{name}")), SIZE).unwrap();
        commit(&fixture, &format!("on-{name}"), &format!("from-{name}"), None).unwrap();
        assert_eq!(command(&fixture, &format!("from-{name}")), json!([name]));
    }
}

#[test]
fn the_config_of_an_image_stays_for_its_sandbox_when_the_image_goes() {
    let fixture = two_images();
    fixture.images().create_sandbox("b", &id("box"), SIZE).unwrap();
    let config = fixture.images().get(&"b".parse().unwrap()).unwrap().image_id;
    for name in ["a", "b"] {
        fixture.images().remove(name).unwrap();
    }
    fixture.images().prune(false).unwrap();
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
    commit(&fixture, "box", "c", None).unwrap();
    assert_eq!(command(&fixture, "c"), json!(["b"]));
    fixture.store.remove(&id("box")).unwrap();
    assert_eq!(fixture.images().prune(false).unwrap().blobs, [config]);
}

#[test]
fn a_sandbox_whose_image_has_lost_its_config_is_found() {
    let fixture = two_images();
    fixture.images().create_sandbox("a", &id("box"), SIZE).unwrap();
    let image = fixture.images().get(&"a".parse().unwrap()).unwrap().image_id;
    fixture.images().remove("a").unwrap();
    fs::remove_file(fixture.store.files().images_dir().join("blobs/sha256").join(image.hex())).unwrap();
    let found = fixture.images().fsck(false).unwrap();
    assert!(found.len() == 1 && found[0].reference.as_deref() == Some("sandbox box"), "{found:?}");
}

#[test]
fn a_sandbox_on_the_layers_of_several_images_is_not_committed_as_any_of_them() {
    let fixture = two_images();
    let top = fixture.images().resolve("a").unwrap();
    fixture.images().create_sandbox(top.as_str(), &id("box"), SIZE).unwrap();
    let error = commit(&fixture, "box", "c", None).unwrap_err();
    assert!(matches!(&error, Error::SeveralParents { names, .. } if names.len() == 2), "{error}");
    fixture.images().remove("a").unwrap();
    commit(&fixture, "box", "c", None).unwrap();
    assert_eq!(command(&fixture, "c"), json!(["b"]));
}

#[test]
fn with_a_time_the_same_changes_are_the_same_image_whenever_they_were_made() {
    let fixture = two_images();
    for (sandbox, seconds) in [("one", 1_700_000_000), ("two", 1_800_000_000)] {
        fixture.images().create_sandbox("a", &id(sandbox), SIZE).unwrap();
        let view = fixture.store.mount(&id(sandbox), None).unwrap();
        let file = fs::File::create(view.join("new")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
        drop(file);
        fixture.store.unmount(&id(sandbox)).unwrap();
    }
    let [one, two] =
        ["one", "two"].map(|sandbox| commit(&fixture, sandbox, sandbox, Some(1_000_000_000)).unwrap());
    assert_eq!((one.image_id, one.layers), (two.image_id, two.layers));
    let [one, two] = ["one", "two"].map(|sandbox| commit(&fixture, sandbox, sandbox, None).unwrap());
    assert_ne!(one.layers, two.layers);
}

#[test]
fn a_base_image_as_microsoft_publishes_it_is_committed_and_exported() {
    let tars = vec![common::layer(&[("License.txt", b"text")])];
    let base = json!({
        "architecture": "amd64", "os": "windows", "os.version": "10.0.19042.985",
        "created": "2021-04-30T07:20:45.4345264+00:00",
        "history": [{ "created": "2021-04-30T07:20:45.4345264+00:00", "created_by": "Apply image 20H2-amd64" }],
        "rootfS": { "type": "layers", "diff_ids": [windowsfilter::Digest::of(&tars[0])] },
        "config": { "user": "ContainerUser", "cmd": ["c:\\windows\\system32\\cmd.exe"] },
    });
    let mut layout = Layout::default();
    layout.image(base.to_string().as_bytes(), &tars, |_| {});
    let fixture = Fixture::new();
    layout.write(&fixture.path("oci"));
    fixture.import(&fixture.path("oci"), Some("base:1")).unwrap();
    fixture.images().create_sandbox("base:1", &id("box"), SIZE).unwrap();
    let view = fixture.store.mount(&id("box"), None).unwrap();
    fs::write(view.join("new.txt"), "new").unwrap();
    let image = commit(&fixture, "box", "app:1", Some(1_700_000_000)).unwrap();
    fixture.store.unmount(&id("box")).unwrap();
    assert_eq!(fixture.images().fsck(false).unwrap(), []);

    let out = fixture.path("out");
    fixture.images().export("app:1", &out, &windowsfilter_image::ExportOptions::default()).unwrap();
    let config: Value =
        serde_json::from_slice(&fs::read(out.join("blobs/sha256").join(image.image_id.hex())).unwrap())
            .unwrap();
    assert_eq!(config.get("rootfs"), None);
    assert_eq!(config["rootfS"]["diff_ids"].as_array().unwrap().len(), 2);
    assert_eq!(config["rootfS"]["diff_ids"][0], base["rootfS"]["diff_ids"][0]);
    assert_eq!((&config["config"], &config["history"][0]), (&base["config"], &base["history"][0]));
    assert_eq!(
        (config["history"].as_array().unwrap().len(), &config["created"]),
        (2, &json!("2023-11-14T22:13:20Z"))
    );
    let again = Fixture::new();
    assert_eq!(again.import(&out, None).unwrap().layers, image.layers);
}
