//! Editing an image's config: the layers stay what they are.

#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod common;

use std::fs;

use common::{Fixture, Layout, sample};
use windowsfilter::ErrorKind;
#[cfg(target_os = "linux")]
use windowsfilter_image::CommitOptions;
use windowsfilter_image::{CommandLine, ConfigEdits, EditOptions, ExportOptions, ImportOptions, Source};

/// The sample image as `win:1`, its blobs kept.
fn imported() -> Fixture {
    let fixture = Fixture::new();
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    layout.write(&fixture.path("oci"));
    let options = ImportOptions {
        reference: Some("win:1".parse().unwrap()),
        keep_blobs: true,
        ..ImportOptions::new(Source::Path(fixture.path("oci")))
    };
    fixture.images().import(options).unwrap();
    fixture
}

fn options(name: &str) -> EditOptions {
    let edits = ConfigEdits {
        env: vec!["MODE=fast".into()],
        entrypoint: Some(CommandLine::parse("app.exe --serve").unwrap()),
        ..ConfigEdits::default()
    };
    EditOptions { edits, created: Some(0), ..EditOptions::new(name.parse().unwrap()) }
}

#[test]
fn an_edited_image_has_the_same_layers_and_goes_out_in_the_same_blobs() {
    let fixture = imported();
    let images = fixture.images();
    let old = images.inspect("win:1").unwrap();
    let edited = images.edit("win:1", &options("win:2")).unwrap();
    let new = images.inspect("win:2").unwrap();
    assert_eq!(images.inspect("win:1").unwrap(), old, "the old image stays");
    assert_eq!(new.layers, old.layers);
    assert_ne!(new.image_id, old.image_id);
    assert_eq!(new.os_version, old.os_version);
    let steps: Vec<_> = new.history.iter().map(|step| step.created_by.clone().unwrap()).collect();
    assert_eq!(steps[steps.len() - 2..], ["ENV MODE=fast", r#"ENTRYPOINT ["cmd /S /C app.exe --serve"]"#]);
    assert!(new.history[steps.len() - 1].empty_layer);
    // At the same time, by another name, it is the same image.
    assert_eq!(images.edit("win:1", &options("win:3")).unwrap().image_id, edited.image_id);

    let exported = images.export("win:2", &fixture.path("out"), &ExportOptions::default()).unwrap();
    assert!(exported.recompressed.is_empty(), "{exported:?}");
    let again = fixture.import(&fixture.path("out"), Some("win:4")).unwrap();
    assert_eq!(again.image_id, edited.image_id);
    assert_eq!(fixture.store.fsck(false).unwrap(), []);
    assert!(images.fsck(false).unwrap().is_empty());
}

#[test]
fn an_image_that_is_edited_under_its_own_name_gives_it_away() {
    let fixture = imported();
    let images = fixture.images();
    let old = images.inspect("win:1").unwrap().image_id;
    let new = images.edit("win:1", &options("win:1")).unwrap().image_id;
    assert_eq!(images.inspect("win:1").unwrap().image_id, new);
    images.prune(false).unwrap();
    let blob = fixture.store.files().images_dir().join("blobs/sha256").join(old.hex());
    assert!(!blob.exists(), "the old config is of no use");
    assert_eq!(images.list().unwrap().len(), 1);
}

#[test]
fn an_edit_that_is_refused_changes_nothing() {
    let fixture = imported();
    let images = fixture.images();
    let blobs = fixture.store.files().images_dir().join("blobs/sha256");
    let before = fs::read_dir(&blobs).unwrap().count();
    let mut wrong = options("win:2");
    wrong.edits.expose = vec!["http".into()];
    let error = images.edit("win:1", &wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().starts_with("--expose \"http\": expected a port"), "{error}");
    let bound = format!("win@sha256:{}", "0".repeat(64));
    let error = images.edit("win:1", &options(&bound)).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("digest"), "{error}");
    assert_eq!(images.tag("win:1", &bound.parse().unwrap()).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(images.edit("none", &options("win:2")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(images.list().unwrap().len(), 1);
    assert_eq!(fs::read_dir(&blobs).unwrap().count(), before);
}

#[test]
fn a_config_that_no_other_store_would_read_is_not_made() {
    let fixture = imported();
    let images = fixture.images();
    let mut large = options("win:2");
    large.edits.labels = vec![format!("large={}", "x".repeat(8 << 20))];
    let error = images.edit("win:1", &large).unwrap_err().to_string();
    assert!(error.starts_with("the new image's config is ") && error.contains("at most"), "{error}");
    assert_eq!(images.list().unwrap().len(), 1);
}

/// A layer without an image would stay until the next prune.
#[cfg(target_os = "linux")]
#[test]
fn a_commit_whose_edits_are_refused_makes_no_layer() {
    let fixture = Fixture::new();
    let (_, sandbox, view) = fixture.sandbox(64 << 20);
    fs::write(view.join("app.exe"), "x").unwrap();
    fixture.store.unmount(&sandbox).unwrap();
    let before = fixture.store.layers().unwrap();
    for (label, port) in [(format!("large={}", "x".repeat(8 << 20)), "80"), ("a=b".into(), "http")] {
        let edits = ConfigEdits { labels: vec![label], expose: vec![port.into()], ..ConfigEdits::default() };
        let commit = CommitOptions { edits, ..CommitOptions::new("win:2".parse().unwrap()) };
        fixture.images().commit(&sandbox, commit).unwrap_err();
        assert_eq!(fixture.store.layers().unwrap(), before);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_commit_takes_the_same_edits() {
    let fixture = Fixture::new();
    let (_, sandbox, view) = fixture.sandbox(64 << 20);
    fs::write(view.join("app.exe"), "x").unwrap();
    fixture.store.unmount(&sandbox).unwrap();
    let edits = options("unused").edits;
    let commit = CommitOptions { edits, created: Some(0), ..CommitOptions::new("win:2".parse().unwrap()) };
    fixture.images().commit(&sandbox, commit).unwrap();
    let info = fixture.images().inspect("win:2").unwrap();
    let steps: Vec<_> =
        info.history.iter().map(|step| (step.created_by.as_deref(), step.empty_layer)).collect();
    assert_eq!(
        steps[steps.len() - 3..],
        [
            (Some("windowsfilter commit"), false),
            (Some("ENV MODE=fast"), true),
            (Some(r#"ENTRYPOINT ["cmd /S /C app.exe --serve"]"#), true),
        ]
    );
}
