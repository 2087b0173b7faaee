//! Layouts as other tools write them: missing images, entries that are not images, and invalid names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::Cursor;

use common::{Fixture, Layout, config, sample};
use serde_json::{Value, json};
use windowsfilter::{Digest, ErrorKind};
use windowsfilter_image::{Error, Imported, Source};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn import(layout: &Layout, name: Option<&str>, platform: Option<&str>) -> Result<(String, Imported), Error> {
    let fixture = Fixture::new();
    let archive = Source::Stream(Box::new(Cursor::new(layout.archive())));
    let imported = fixture.import_from(archive, name, platform, false)?;
    let info = fixture.images().inspect(&imported.reference).unwrap();
    Ok((info.os_version.unwrap(), imported))
}

fn imported_as(layout: &Layout, name: Option<&str>) -> (String, String) {
    let (version, imported) = import(layout, name, None).unwrap();
    (imported.reference, version)
}

/// Removes a blob that an index may still name.
fn leave_out(layout: &mut Layout, descriptor: &Value) {
    let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    layout.files.remove(&format!("blobs/sha256/{hex}")).unwrap();
}

fn image(layout: &mut Layout, version: &str) -> Value {
    let (_, tars) = sample();
    layout.image(&config("windows", version, &tars), &tars, |_| {});
    layout.manifests.pop().unwrap()
}

fn named(layout: &mut Layout, version: &str, name: &str) -> Value {
    let mut descriptor = image(layout, version);
    descriptor["annotations"] = json!({ REF_NAME: name });
    layout.manifests.push(descriptor.clone());
    descriptor
}

/// A layout with one index for two versions of Windows, and the descriptors of their manifests.
fn two_versions() -> (Layout, [Value; 2]) {
    let mut layout = Layout::default();
    let manifests = ["10.0.17763.5", "10.0.20348.7"].map(|version| {
        let mut descriptor = image(&mut layout, version);
        descriptor["platform"] = json!({ "os": "windows", "architecture": "amd64", "os.version": version });
        descriptor
    });
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    let mut index = layout.blob(INDEX, index.as_bytes());
    index["annotations"] = json!({ "io.containerd.image.name": "docker.io/library/win:1" });
    layout.manifests.push(index);
    (layout, manifests)
}

#[test]
fn of_an_index_the_first_image_that_is_there_is_taken() {
    let (mut layout, [first, second]) = two_versions();
    leave_out(&mut layout, &first);
    assert_eq!(imported_as(&layout, None).1, "10.0.20348.7");
    let error = import(&layout, None, Some("windows/amd64:10.0.17763")).unwrap_err();
    let there = "windows/amd64:10.0.20348.7";
    assert!(
        matches!(&error, Error::NoSuchPlatform { available, .. } if available.as_slice() == [there]),
        "{error}"
    );
    leave_out(&mut layout, &second);
    assert!(matches!(import(&layout, None, None).unwrap_err(), Error::MissingBlob { .. }));
}

#[test]
fn an_image_that_is_left_out_is_not_taken_for_another() {
    let mut layout = Layout::default();
    let one = named(&mut layout, "1", "one:1");
    named(&mut layout, "2", "two:1");
    leave_out(&mut layout, &one);
    let error = import(&layout, Some("one:1"), None).unwrap_err();
    assert!(matches!(error, Error::MissingBlob { .. }), "{error}");
    assert_eq!(imported_as(&layout, Some("two:1")), ("two:1".into(), "2".into()));
}

#[test]
fn what_is_no_image_may_lie_beside_one() {
    let mut layout = Layout::default();
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let blob = layout.blob("text/spdx+json", b"{}");
    let manifests = [
        json!({ "schemaVersion": 2, "artifactType": "text/spdx+json", "config": empty, "layers": [blob] }),
        json!({ "schemaVersion": 2, "config": empty, "layers": [blob] }),
        json!({ "schemaVersion": 2, "artifactType": "text/spdx+json", "manifests": [] }),
    ];
    for manifest in manifests {
        let media_type = if manifest["manifests"].is_null() { "" } else { INDEX };
        let descriptor = layout.blob(media_type, manifest.to_string().as_bytes());
        layout.manifests.push(descriptor);
    }
    // Such a blob may even be missing.
    let other = layout.blob("application/xml", b"<xml/>");
    let mut attached = layout.blob("application/vnd.oci.image.manifest.v1+json", b"{}\n");
    attached["artifactType"] = json!("text/spdx+json");
    for descriptor in [other, attached] {
        leave_out(&mut layout, &descriptor);
        layout.manifests.push(descriptor);
    }
    assert!(matches!(import(&layout, Some("a:1"), None).unwrap_err(), Error::NoManifest { .. }));
    named(&mut layout, "10.0.1.1", "win:1");
    assert_eq!(imported_as(&layout, None).0, "win:1");
    assert_eq!(imported_as(&layout, Some("other:1")).0, "other:1");
}

#[test]
fn an_image_may_say_that_it_is_one() {
    let (config, tars) = sample();
    let image_config = "application/vnd.oci.image.config.v1+json";
    let mut layout = Layout::default();
    let descriptor = layout.image(&config, &tars, |manifest| manifest["artifactType"] = json!(image_config));
    descriptor["artifactType"] = json!(image_config);
    imported_as(&layout, Some("win:1"));
}

#[test]
fn a_tag_alone_is_no_name_but_chooses() {
    let mut layout = Layout::default();
    for (version, tag) in [("1", "latest"), ("2", "LTSC2022")] {
        named(&mut layout, version, tag);
        if tag == "latest" {
            let error = import(&layout, None, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert_eq!(
                error.to_string(),
                "standard input (tag latest) does not say how the image is called: name it with --ref"
            );
            assert_eq!(imported_as(&layout, Some("any:1")), ("any:1".into(), "1".into()));
        }
    }
    for (name, version) in [("win", "1"), ("win:latest", "1"), ("example.com/win:LTSC2022", "2")] {
        assert_eq!(imported_as(&layout, Some(name)), (name.into(), version.into()));
    }
    let error = import(&layout, Some("win:ltsc2022"), None).unwrap_err();
    assert!(
        error.to_string().ends_with("several images: latest, LTSC2022; none of them is called win:ltsc2022"),
        "{error}"
    );
}

#[test]
fn a_whole_name_chooses_before_a_tag() {
    let mut layout = Layout::default();
    named(&mut layout, "1", "v1");
    named(&mut layout, "2", "docker.io/library/win:v1");
    assert_eq!(imported_as(&layout, Some("win:v1")).1, "2");
    assert_eq!(imported_as(&layout, Some("nano:v1")).1, "1");
}

#[test]
fn a_digest_in_a_name_is_that_of_the_manifest_or_its_index() {
    let (layout, [first, _]) = two_versions();
    for digest in [&first["digest"], &layout.manifests[0]["digest"]] {
        let name = format!("win@{}", digest.as_str().unwrap());
        assert_eq!(imported_as(&layout, Some(&name)).0, name);
    }
    let name = format!("win:1@{}", Digest::of(b"another"));
    let error = import(&layout, Some(&name), None).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let mut layout = Layout::default();
    named(&mut layout, "1", &name);
    let error = import(&layout, None, None).unwrap_err();
    assert!(error.to_string().starts_with("the manifest of win:1@sha256:"), "{error}");
    assert_eq!(imported_as(&layout, Some("win:1")).0, "win:1");
}

#[test]
fn an_archive_without_manifests_cannot_show_that_a_digest_is_its_own() {
    let (config, tars) = sample();
    let saved = json!([{ "Config": "config.json", "RepoTags": null, "Layers": ["0.tar", "1.tar"] }]);
    let mut files = std::collections::BTreeMap::from([
        ("config.json".to_owned(), config),
        ("manifest.json".to_owned(), saved.to_string().into_bytes()),
    ]);
    for (i, tar) in tars.into_iter().enumerate() {
        files.insert(format!("{i}.tar"), tar);
    }
    let archive = common::tar_of(&files);
    let fixture = Fixture::new();
    let import = |name: &str| {
        fixture.import_from(Source::Stream(Box::new(Cursor::new(archive.clone()))), Some(name), None, false)
    };
    let error = import(&format!("win@{}", Digest::of(b"x"))).unwrap_err();
    assert!(error.to_string().ends_with("give it a tag"), "{error}");
    fixture.assert_empty();
    import("win:1").unwrap();
}
