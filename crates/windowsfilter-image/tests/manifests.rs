//! An export's manifest says the same as the imported one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::{Fixture, Layout, gzip, sample};
use serde_json::{Value, json};
use windowsfilter::Digest;
use windowsfilter_image::{Compression, ExportOptions, Exported, Format};

const BASE: &str = "org.opencontainers.image.base.digest";
const CHUNKED: &str = "io.github.containers.zstd-chunked.manifest-position";
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// A store with the image `name`, whose manifest has been edited, and the manifest's digest.
fn imported(name: &str, blobs: &[Vec<u8>], edit: impl FnOnce(&mut Value)) -> (Fixture, Digest) {
    let (config, _) = sample();
    let mut layout = Layout::default();
    let descriptor = layout.image(&config, blobs, edit);
    let digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
    let fixture = Fixture::new();
    layout.write(&fixture.path("in"));
    fixture.import(&fixture.path("in"), Some(name)).unwrap();
    (fixture, digest)
}

fn annotate(manifest: &mut Value) {
    manifest["annotations"] = json!({ BASE: "sha256:aa" });
    manifest["subject"] = json!({ "x-vendor": 1 });
    manifest["layers"][0]["annotations"] = json!({ "org.example.layer": "base", CHUNKED: "1:2:3:4" });
}

fn export(fixture: &Fixture, name: &str, format: Format, compression: Compression) -> Exported {
    let options = ExportOptions { format, compression: Some(compression), ..ExportOptions::default() };
    let _ = fs::remove_dir_all(fixture.path("out"));
    fixture.images().export(name, &fixture.path("out"), &options).unwrap()
}

fn json_at(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn exported(fixture: &Fixture, name: &str, compression: Compression) -> (Digest, Value) {
    let Exported { digest, path, .. } = export(fixture, name, Format::Oci, compression);
    (digest, json_at(&path.join("blobs/sha256").join(digest.hex())))
}

#[test]
fn an_image_whose_blobs_stay_the_same_keeps_its_manifest() {
    let tars = sample().1;
    for media_type in [json!("application/vnd.oci.image.manifest.v1+json"), Value::Null] {
        let (fixture, digest) = imported("win:1", &tars, |manifest| {
            annotate(manifest);
            if media_type.is_string() {
                manifest["mediaType"] = media_type;
            }
        });
        assert_eq!(exported(&fixture, "win:1", Compression::None).0, digest);
    }
    // Layers that this tool compressed compress to the same bytes again.
    let (fixture, _) = imported("win:1", &tars, annotate);
    let (first, _) = exported(&fixture, "win:1", Compression::Gzip);
    let second = Fixture::new();
    second.import(&fixture.path("out"), None).unwrap();
    assert_eq!(exported(&second, "win:1", Compression::Gzip).0, first);
}

// skopeo does not exist for Windows.
#[cfg(unix)]
#[test]
fn skopeo_reads_what_was_a_manifest_of_dockers() {
    let (fixture, _) = imported("win:1", &sample().1, |manifest| {
        manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
        manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar");
        }
    });
    let (_, manifest) = exported(&fixture, "win:1", Compression::None);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let copied = std::process::Command::new("skopeo")
        .args(["--insecure-policy", "--override-os", "windows", "--override-arch", "amd64", "copy"])
        .args([fixture.path("out"), fixture.path("copy")].map(|path| format!("oci:{}:win:1", path.display())))
        .output()
        .expect("these tests need skopeo (Debian package skopeo)");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    fixture.import(&fixture.path("copy"), Some("copy:1")).unwrap();
}

#[test]
fn other_blobs_get_a_manifest_that_says_the_same() {
    let (fixture, _) = imported("win:1", &sample().1, annotate);
    let (_, manifest) = exported(&fixture, "win:1", Compression::Gzip);
    assert_eq!(manifest["annotations"], json!({ BASE: "sha256:aa" }));
    assert_eq!(manifest["subject"], json!({ "x-vendor": 1 }));
    // Offsets in one blob do not apply to another.
    assert_eq!(manifest["layers"][0]["annotations"], json!({ "org.example.layer": "base" }));
    assert_eq!(manifest["layers"][1].get("annotations"), None);
}

#[test]
fn of_a_blob_that_stays_the_same_nothing_is_left_out() {
    let tars = sample().1;
    let (fixture, _) = imported("win:1", &[tars[0].clone(), gzip(&tars[1])], annotate);
    let (_, manifest) = exported(&fixture, "win:1", Compression::None);
    assert_eq!(manifest["layers"][0]["annotations"][CHUNKED], "1:2:3:4");
    assert_eq!(manifest["annotations"][BASE], "sha256:aa");
}

#[test]
fn a_foreign_layer_becomes_an_ordinary_one_if_that_is_asked_for() {
    let (fixture, _) = imported("win:1", &sample().1, |manifest| {
        annotate(manifest);
        manifest["layers"][0]["mediaType"] = json!(FOREIGN);
        manifest["layers"][0]["urls"] = json!(["https://example.test/base"]);
    });
    let options = ExportOptions { include_nondistributable: true, ..ExportOptions::default() };
    let Exported { digest, path, .. } =
        fixture.images().export("win:1", &fixture.path("ordinary"), &options).unwrap();
    let manifest = json_at(&path.join("blobs/sha256").join(digest.hex()));
    assert_eq!(manifest["layers"][0]["mediaType"], common::OCI_LAYER);
    assert_eq!(manifest["layers"][0].get("urls"), None);
    assert_eq!(manifest["annotations"][BASE], "sha256:aa");
    let (_, manifest) = exported(&fixture, "win:1", Compression::Gzip);
    assert_eq!(manifest["layers"][0]["mediaType"], FOREIGN);
    assert_eq!(manifest["layers"][0]["urls"], json!(["https://example.test/base"]));
}

#[test]
fn an_export_is_called_by_a_tag_or_by_its_own_digest() {
    let tars = sample().1;
    let (fixture, digest) = imported("win:1", &tars, |_| {});
    let [whole, both] = ["win", "win:1"].map(|name| format!("{name}@{digest}"));
    for name in [&whole, &both] {
        fixture.import(&fixture.path("in"), Some(name)).unwrap();
    }
    let names = |name: &str, compression| {
        let path = fixture.path("saved");
        let options = ExportOptions {
            format: Format::DockerArchive,
            compression: Some(compression),
            ..ExportOptions::default()
        };
        fixture.images().export(name, &path, &options).unwrap();
        let mut tar = tar::Archive::new(fs::File::open(&path).unwrap());
        let mut documents = [Value::Null, Value::Null];
        for entry in tar.entries().unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            match name.as_str() {
                "manifest.json" => documents[0] = serde_json::from_reader(entry).unwrap(),
                "index.json" => documents[1] = serde_json::from_reader(entry).unwrap(),
                _ => {}
            }
        }
        fs::remove_file(&path).unwrap();
        let annotation =
            documents[1]["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].clone();
        (documents[0][0]["RepoTags"].clone(), annotation)
    };
    assert_eq!(names("win:1", Compression::Gzip), (json!(["win:1"]), json!("win:1")));
    assert_eq!(names(&both, Compression::None), (json!(["win:1"]), json!(both)));
    assert_eq!(names(&both, Compression::Gzip), (json!(["win:1"]), json!("win:1")));
    assert_eq!(names(&whole, Compression::None), (Value::Null, json!(whole)));
    assert_eq!(names(&whole, Compression::Gzip), (Value::Null, Value::Null));
}
