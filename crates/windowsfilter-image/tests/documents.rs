//! Documents of other programs are read like Go's `encoding/json` does, and unneeded parts are not
//! validated.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;

use common::{Fixture, Layout, chain, layer, sample, tar_of};
use serde_json::{Value, json};
use windowsfilter::{Digest, ErrorKind};
use windowsfilter_image::{Error, Imported, Source};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A container's files, to be changed before packing.
type Files = BTreeMap<String, Vec<u8>>;

fn import(files: &Files, name: Option<&str>) -> (Fixture, Result<Imported, Error>) {
    let fixture = Fixture::new();
    let stream = Source::Stream(Box::new(Cursor::new(tar_of(files))));
    let imported = fixture.import_from(stream, name, None, false);
    if imported.is_err() {
        fixture.assert_empty();
    }
    (fixture, imported)
}

/// The names that an import of the files gives by default.
fn names(files: &Files) -> Vec<String> {
    let (fixture, imported) = import(files, None);
    let imported = imported.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let mut names: Vec<String> =
        fixture.images().list().unwrap().into_iter().map(|image| image.reference).collect();
    names.sort();
    let mut told = imported.references.clone();
    told.sort();
    assert_eq!((&told, &imported.reference), (&names, &imported.references[0]));
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
    names
}

/// A base image's config as Microsoft publishes it, of one layer.
fn microsoft(tar: &[u8], key: &str) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64", "os": "windows", "os.version": "10.0.19042.985",
        "created": "2021-04-30T07:20:45.4345264+00:00",
        "history": [{"created": "2021-04-30T07:20:45.4345264+00:00", "created_by": "Apply image 20H2-amd64"}],
        key: {"type": "layers", "diff_ids": [Digest::of(tar)]},
        "config": {"user": "ContainerUser", "cmd": ["c:\\windows\\system32\\cmd.exe"]},
    });
    config.to_string().into_bytes()
}

/// The files of `docker save` for one image.
fn saved(config: &[u8], tars: &[Vec<u8>], tags: &Value) -> Files {
    let hex = Digest::of(config).hex();
    let layers: Vec<String> = (0..tars.len()).map(|i| format!("{i}/layer.tar")).collect();
    let manifest = json!([{ "Config": format!("{hex}.json"), "RepoTags": tags, "Layers": layers }]);
    let mut files = Files::from([
        (format!("{hex}.json"), config.to_vec()),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ]);
    files.extend(layers.into_iter().zip(tars.iter().cloned()));
    files
}

fn named(layout: &mut Layout, config: &[u8], tars: &[Vec<u8>], name: &str) {
    layout.image(config, tars, |_| {})["annotations"] = json!({ REF_NAME: name });
}

fn sample_layout(name: &str) -> Layout {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    named(&mut layout, &config, &tars, name);
    layout
}

fn edit(files: &mut Files, name: &str, change: impl FnOnce(&mut Value)) {
    let mut document: Value =
        files.get(name).map_or(Value::Null, |bytes| serde_json::from_slice(bytes).unwrap());
    change(&mut document);
    files.insert(name.to_owned(), document.to_string().into_bytes());
}

#[test]
fn keys_of_a_config_are_in_any_case_as_microsoft_writes_them() {
    let tars = vec![layer(&[("License.txt", b"text")])];
    for key in ["rootfS", "ROOTFS", "rootf\u{17f}"] {
        let config = microsoft(&tars[0], key);
        let mut layout = Layout::default();
        named(&mut layout, &config, &tars, "example.com/nanoserver:20H2");
        for files in [layout.complete(), saved(&config, &tars, &json!(["example.com/nanoserver:20H2"]))] {
            assert_eq!(names(&files), ["example.com/nanoserver:20H2"]);
        }
        let (fixture, imported) = import(&layout.complete(), None);
        assert_eq!(imported.unwrap().image_id, Digest::of(&config));
        let info = fixture.images().inspect("example.com/nanoserver:20H2").unwrap();
        assert_eq!(info.os_version.as_deref(), Some("10.0.19042.985"));
        assert_eq!(info.config["user"], "ContainerUser");
    }
}

#[test]
fn keys_of_every_document_are_in_any_case() {
    let respell = |bytes: &[u8], keys: &[&str]| {
        let mut text = String::from_utf8(bytes.to_vec()).unwrap();
        for key in keys {
            text = text.replace(&format!("\"{key}\":"), &format!("\"{}\":", key.to_uppercase()));
        }
        text.into_bytes()
    };
    let (config, tars) = sample();
    let mut layout = Layout::default();
    let config = respell(&config, &["os", "os.version", "history", "created_by", "created"]);
    named(&mut layout, &config, &tars, "a:1");
    let old = layout.manifests[0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest =
        respell(&layout.files[&format!("blobs/{old}")], &["config", "layers", "digest", "size", "mediaType"]);
    let descriptor = layout.blob(MANIFEST, &manifest);
    layout.manifests = vec![descriptor];
    layout.manifests[0]["annotations"] = json!({ REF_NAME: "a:1" });
    let mut files = layout.complete();
    let index = respell(&files["index.json"], &["manifests", "annotations", "digest", "size", "mediaType"]);
    files.insert("index.json".into(), index);
    assert_eq!(names(&files), ["a:1"]);
    let mut files = saved(&config, &tars, &json!(["a:1"]));
    let manifest = String::from_utf8(files["manifest.json"].clone()).unwrap();
    let manifest =
        manifest.replace("Config", "config").replace("RepoTags", "REPOTAGS").replace("Layers", "layerS");
    files.insert("manifest.json".into(), manifest.into_bytes());
    assert_eq!(names(&files), ["a:1"]);
}

#[test]
fn of_two_spellings_the_later_one_counts_as_go_has_it() {
    let (config, tars) = sample();
    let text = String::from_utf8(config).unwrap();
    // Docker and containerd would use the later list, so nothing else may be imported.
    for (extra, taken) in [(r#""rootfS":{"diff_ids":[]},"#, true), (r#""x":1,"#, true)] {
        let config = text.replacen('{', &format!("{{{extra}"), 1);
        let mut layout = Layout::default();
        named(&mut layout, config.as_bytes(), &tars, "a:1");
        assert_eq!(import(&layout.complete(), None).1.is_ok(), taken, "{extra}");
    }
    let config = format!("{},\"rootfS\":{{\"diff_ids\":[]}}}}", &text[..text.len() - 1]);
    let mut layout = Layout::default();
    named(&mut layout, config.as_bytes(), &tars, "a:1");
    let error = import(&layout.complete(), None).1.unwrap_err();
    assert_eq!(error.to_string(), "the config names 0 layers, the manifest has 2");
}

#[test]
fn null_is_absent_in_every_document() {
    let (config, tars) = sample();
    let config = String::from_utf8(config).unwrap();
    let config = config.replacen(
        '{',
        r#"{"author":null,"os.features":null,"variant":null,"config":null,"x":null,"#,
        1,
    );
    let config =
        config.replace(r#"[{"created_by":"#, r#"[null,{"author":null,"empty_layer":null,"created_by":"#);
    let mut layout = Layout::default();
    layout.image(config.as_bytes(), &tars, |manifest| {
        manifest["mediaType"] = Value::Null;
        manifest["artifactType"] = Value::Null;
        manifest["annotations"] = Value::Null;
        manifest["subject"] = Value::Null;
        for field in ["urls", "annotations", "platform", "data"] {
            manifest["layers"][0][field] = Value::Null;
            manifest["config"][field] = Value::Null;
        }
        manifest["layers"][1]["annotations"] = json!({ "a": null });
        manifest["layers"][1]["urls"] = json!([null]);
    });
    let descriptor = layout.manifests.last_mut().unwrap();
    descriptor["annotations"] = json!({ REF_NAME: "a:1", "b": null, "io.containerd.image.name": null });
    descriptor["platform"] =
        json!({ "os": "windows", "architecture": "amd64", "os.features": null, "variant": null });
    descriptor["artifactType"] = Value::Null;
    layout.manifests.push(Value::Null);
    assert_eq!(names(&layout.complete()), ["a:1"]);
    let mut files = saved(config.as_bytes(), &tars, &json!(["a:1", null]));
    edit(&mut files, "manifest.json", |manifest| {
        manifest[0]["LayerSources"] = Value::Null;
        manifest[0]["Parent"] = Value::Null;
        manifest.as_array_mut().unwrap().push(Value::Null);
    });
    assert_eq!(names(&files), ["a:1"]);
}

#[test]
fn an_error_names_the_field() {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |manifest| manifest["layers"][1]["size"] = json!("5"));
    let error = import(&layout.complete(), Some("a:1")).1.unwrap_err();
    assert!(
        chain(&error).ends_with("layers[1].size: invalid type: a string, expected u64"),
        "{}",
        chain(&error)
    );
}

#[test]
fn an_index_without_a_usable_image_falls_back_to_manifest_json() {
    let (config, tars) = sample();
    let other = |fields: Value| {
        let mut entry = json!({ "mediaType": MANIFEST, "digest": Digest::of(b"gone"), "size": 5 });
        entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        entry
    };
    for manifests in [
        Value::Null,
        json!([]),
        json!([null]),
        json!([other(json!({ "artifactType": "application/spdx+json" }))]),
        json!([other(json!({ "annotations": { "vnd.docker.reference.type": "attestation-manifest" } }))]),
        json!([other(json!({ "platform": { "os": "linux", "architecture": "amd64" } }))]),
        Value::from(vec![other(json!({ "platform": { "os": "linux", "architecture": "amd64" } })); 2]),
        json!([other(json!({}))]),
    ] {
        let mut files = saved(&config, &tars, &json!(["app:1"]));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        files.insert("index.json".into(), index.to_string().into_bytes());
        assert_eq!(names(&files), ["app:1"], "{manifests}");
        files.remove("manifest.json");
        assert!(import(&files, Some("app:1")).1.is_err());
    }
    // Damage to an existing image does not count as absence.
    let mut files = sample_layout("app:1").complete();
    files.extend(saved(&config, &tars, &json!(["app:1"])));
    let blob = format!("blobs/sha256/{}", Digest::of(&config).hex());
    files.get_mut(&blob).unwrap()[8] ^= 1;
    assert_eq!(import(&files, None).1.unwrap_err().kind(), ErrorKind::Verify);
}

#[test]
fn what_is_not_needed_of_an_index_is_not_judged() {
    let sha512 = format!("sha512:{}", "ab".repeat(64));
    let linux = json!({ "os": "linux", "architecture": "amd64" });
    for other in [
        json!({ "mediaType": MANIFEST, "digest": sha512, "size": 2, "platform": linux }),
        json!({ "mediaType": MANIFEST, "digest": "md5", "size": -2, "platform": linux }),
        json!({ "mediaType": MANIFEST, "digest": 5, "size": "x", "platform": 7, "annotations": [] }),
        json!({ "mediaType": MANIFEST, "digest": Digest::of(b"gone"), "size": 5.5, "platform": { "os": ["x"] } }),
        json!({ "mediaType": MANIFEST, "digest": sha512, "size": 2 }),
        json!({ "mediaType": "text/plain", "digest": sha512 }),
        json!("a text"),
    ] {
        let mut layout = sample_layout("app:1");
        layout.manifests[0]["platform"] = json!({ "os": "windows", "architecture": "amd64" });
        layout.manifests.insert(0, other.clone());
        assert_eq!(names(&layout.complete()), ["app:1"], "{other}");
    }
    // Another platform's damaged manifest.
    let mut layout = sample_layout("app:1");
    let mut broken = layout.blob(MANIFEST, b"{no json");
    broken["annotations"] = json!({ REF_NAME: "app:1" });
    layout.manifests.insert(0, broken);
    assert_eq!(names(&layout.complete()), ["app:1"]);
}

#[test]
fn a_digest_that_is_needed_and_not_sha256_is_said_to_be_unsupported() {
    let sha512 = format!("sha512:{}", "ab".repeat(64));
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |manifest| manifest["layers"][1]["digest"] = json!(sha512));
    let error = chain(&import(&layout.complete(), Some("a:1")).1.unwrap_err());
    assert!(
        error.ends_with(&format!("layers[1].digest: sha512 digests are not supported: {sha512}")),
        "{error}"
    );
    let mut layout = sample_layout("a:1");
    layout.manifests[0]["digest"] = json!(sha512);
    let error = chain(&import(&layout.complete(), None).1.unwrap_err());
    assert!(error.ends_with(&format!("digest: sha512 digests are not supported: {sha512}")), "{error}");
}

#[test]
fn all_names_of_an_image_are_kept() {
    let (config, tars) = sample();
    let tags = json!(["app:1", "app:latest", "example.com/x/app:1", "docker.io/library/app:1"]);
    let mut files = saved(&config, &tars, &tags);
    assert_eq!(names(&files), ["app:1", "app:latest", "example.com/x/app:1"]);
    // The same image twice, as other tools write it.
    edit(&mut files, "manifest.json", |manifest| {
        let mut again = manifest[0].clone();
        again["RepoTags"] = json!(["app:again"]);
        manifest.as_array_mut().unwrap().push(again);
    });
    assert_eq!(names(&files), ["app:1", "app:again", "app:latest", "example.com/x/app:1"]);
    let mut layout = sample_layout("app:1");
    named(&mut layout, &config, &tars, "app:latest");
    assert_eq!(names(&layout.complete()), ["app:1", "app:latest"]);
    // `docker save` with containerd's store: the tag in one annotation, the name in the other.
    let mut layout = Layout::default();
    for tag in ["1", "latest"] {
        layout.image(&config, &tars, |_| {})["annotations"] =
            json!({ REF_NAME: tag, "io.containerd.image.name": format!("docker.io/library/app:{tag}") });
    }
    let mut files = layout.complete();
    files.extend(saved(&config, &tars, &json!(["app:1", "app:latest"])));
    assert_eq!(names(&files), ["docker.io/library/app:1", "docker.io/library/app:latest"]);
    // An index under two names, with the manifests of two versions.
    let mut layout = Layout::default();
    let nested: Vec<Value> = [("10.0.1.1", "1"), ("10.0.2.1", "2")]
        .map(|(version, _)| {
            let config = common::config("windows", version, &tars);
            layout.image(&config, &tars, |_| {}).clone()
        })
        .to_vec();
    let index = json!({ "schemaVersion": 2, "manifests": nested }).to_string();
    layout.manifests = ["a:1", "b:1"]
        .map(|name| {
            let mut entry = layout.blob(INDEX, index.as_bytes());
            entry["annotations"] = json!({ REF_NAME: name });
            entry
        })
        .to_vec();
    assert_eq!(names(&layout.complete()), ["a:1", "b:1"]);
}

#[test]
fn one_image_with_several_names_may_be_called_anything() {
    let (config, tars) = sample();
    let mut layout = sample_layout("app:1");
    named(&mut layout, &config, &tars, "app:latest");
    for files in [layout.complete(), saved(&config, &tars, &json!(["app:1", "app:latest"]))] {
        let (fixture, imported) = import(&files, Some("other:1"));
        assert_eq!(imported.unwrap().references, ["other:1"]);
        assert_eq!(fixture.images().list().unwrap().len(), 1);
    }
}

/// Two images as umoci leaves them: one has a copy of the other's name, but another tag.
fn two_images() -> Layout {
    let tars = sample().1;
    let mut layout = Layout::default();
    for (version, tag) in [("10.0.1.1", "built:1"), ("10.0.2.1", "v1")] {
        let config = common::config("windows", version, &tars);
        layout.image(&config, &tars, |_| {})["annotations"] =
            json!({ REF_NAME: tag, "io.containerd.image.name": "docker.io/library/built:1" });
    }
    layout
}

#[test]
fn which_image_and_what_it_is_called_are_two_things() {
    let layout = two_images();
    let fixture = Fixture::new();
    let path = fixture.path("bl");
    layout.write(&path);
    let error = fixture.import(&path, Some("built:cfg")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let expected =
        format!("{} has several images: built:1, v1; none of them is called built:cfg", path.display());
    assert_eq!(error.to_string(), expected);
    let version = |name: &str| fixture.images().inspect(name).unwrap().os_version.unwrap();
    fixture.select(&path, "v1", Some("built:cfg")).unwrap();
    assert_eq!(version("built:cfg"), "10.0.2.1");
    // As before: a name that one of them has selects it.
    assert_eq!(
        fixture.import(&path, Some("docker.io/library/built:1")).unwrap().references,
        ["docker.io/library/built:1"]
    );
    assert_eq!(version("built:1"), "10.0.1.1");
    assert_eq!(fixture.select(&path, "built:1", None).unwrap().references, ["built:1"]);
    let manifest = layout.manifests[1]["digest"].as_str().unwrap();
    for digest in [manifest, &manifest[7..15]] {
        fixture.select(&path, digest, Some("by:digest")).unwrap();
        assert_eq!(version("by:digest"), "10.0.2.1");
    }
    let error = fixture.select(&path, "v1", None).unwrap_err();
    assert!(matches!(error, Error::NoName { .. }), "{error}");
    let error = fixture.select(&path, "v2", Some("a:1")).unwrap_err();
    assert!(error.to_string().ends_with("is called \"v2\": it has built:1, v1"), "{error}");
}

#[test]
fn systems_are_compared_without_case() {
    let tars = sample().1;
    for os in ["Windows", "WINDOWS", "window\u{17f}"] {
        let mut layout = Layout::default();
        named(&mut layout, &common::config(os, "10.0.1.1", &tars), &tars, "app:1");
        assert_eq!(names(&layout.complete()), ["app:1"]);
        // Chosen among several by the index' data.
        layout.manifests[0]["platform"] = json!({ "os": os, "architecture": "x86_64" });
        let linux = json!({ "mediaType": MANIFEST, "digest": Digest::of(b"x"), "size": 1, "platform": { "os": "linux" } });
        layout.manifests.insert(0, linux);
        let fixture = Fixture::new();
        for platform in ["windows/x86_64", "Windows/AMD64"] {
            let stream = Source::Stream(Box::new(Cursor::new(layout.archive())));
            fixture.import_from(stream, None, Some(platform), false).unwrap();
        }
    }
}

#[test]
fn skopeos_directories_are_images_too() {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    let manifest = layout.manifests[0]["digest"].as_str().unwrap().replace(':', "/");
    let mut files = Files::from([("version".to_owned(), b"Directory Transport Version: 1.1\n".to_vec())]);
    files.insert("manifest.json".into(), layout.files[&format!("blobs/{manifest}")].clone());
    for data in [&config, &tars[0], &tars[1]] {
        files.insert(Digest::of(data).hex(), data.clone());
    }
    let fixture = Fixture::new();
    for (name, data) in &files {
        fs::create_dir_all(fixture.path("dir")).unwrap();
        fs::write(fixture.path("dir").join(name), data).unwrap();
    }
    let error = fixture.import(&fixture.path("dir"), None).unwrap_err();
    assert!(matches!(error, Error::NoName { .. }), "{error}");
    fixture.import(&fixture.path("dir"), Some("win:1")).unwrap();
    assert_eq!(fixture.images().inspect("win:1").unwrap().image_id, Digest::of(&config));
    // As `skopeo copy --all` writes it.
    let image = files["manifest.json"].clone();
    let mut entry = layout.manifests[0].clone();
    entry["platform"] = json!({ "os": "windows", "architecture": "amd64" });
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    files.insert("manifest.json".into(), list.to_string().into_bytes());
    files.insert(format!("{}.manifest.json", Digest::of(&image).hex()), image);
    let (fixture, imported) = import(&files, Some("win:all"));
    imported.unwrap();
    assert_eq!(fixture.images().inspect("win:all").unwrap().layers.len(), 2);
}

/// A config of `length` bytes.
fn large_config(tars: &[Vec<u8>], length: usize) -> Vec<u8> {
    let config = String::from_utf8(common::config("windows", "10.0.1.1", tars)).unwrap();
    config.replacen('{', &format!("{{\"x-pad\":\"{}\",", "a".repeat(length)), 1).into_bytes()
}

#[test]
fn a_document_that_is_named_often_is_read_once() {
    let tars = sample().1;
    let config = large_config(&tars, 8_000_000);
    // Each read would count 8 MB of the 64 MiB limit.
    let mut files = saved(&config, &tars, &json!(["r:0"]));
    edit(&mut files, "manifest.json", |manifest| {
        let entry = manifest[0].clone();
        let more = (1..900).map(|i| {
            let mut entry = entry.clone();
            entry["RepoTags"] = json!([format!("r:{i}")]);
            entry
        });
        manifest.as_array_mut().unwrap().extend(more);
    });
    let (_, imported) = import(&files, Some("r:5"));
    imported.unwrap();
    let mut layout = Layout::default();
    for i in 0..40 {
        named(&mut layout, &config, &tars, &format!("r:{i}"));
    }
    let (_, imported) = import(&layout.complete(), Some("r:7"));
    imported.unwrap();
}

#[test]
fn documents_that_are_read_to_find_an_image_have_a_limit() {
    let tars = sample().1;
    let mut layout = Layout::default();
    for i in 0..9 {
        named(&mut layout, &large_config(&tars, 8_000_000 - i), &tars, &format!("r:{i}"));
    }
    let error = import(&layout.complete(), Some("r:7")).1.unwrap_err();
    assert!(matches!(error, Error::TooManyDocuments { .. }), "{error}");
    assert!(error.to_string().contains("64 MiB") && error.to_string().contains("docs/limits.md"), "{error}");
    let files = Files::from([(
        "manifest.json".to_owned(),
        json!(vec![json!({ "Config": "c.json", "Layers": [] }); 10_001]).to_string().into_bytes(),
    )]);
    let error = import(&files, Some("r:7")).1.unwrap_err();
    assert!(matches!(error, Error::TooManyDocuments { .. }), "{error}");
    let (config, tars) = sample();
    let tags: Vec<String> = (0..300).map(|i| format!("r:{i}")).collect();
    let files = saved(&config, &tars, &json!(tags));
    let error = import(&files, None).1.unwrap_err();
    assert!(error.to_string().contains("300 names, more than 256 (docs/limits.md)"), "{error}");
    import(&files, Some("one:1")).1.unwrap();
    let tags: Vec<String> = (0..10_001).map(|i| format!("r:{i}")).collect();
    let error = import(&saved(&config, &tars, &json!(tags)), Some("r:7")).1.unwrap_err();
    assert!(matches!(error, Error::TooManyDocuments { .. }), "{error}");
}

#[test]
fn a_layer_that_has_no_file_is_named_by_its_number() {
    let (config, tars) = sample();
    let mut files = saved(&config, &tars, &json!(["a:1"]));
    edit(&mut files, "manifest.json", |manifest| manifest[0]["Layers"][1] = json!(""));
    let error = import(&files, None).1.unwrap_err();
    assert!(error.to_string().starts_with("layer 2 of 2, which standard input gives no file,"), "{error}");
}

#[test]
fn one_layer_is_no_image_and_is_known() {
    let fixture = Fixture::new();
    fs::write(fixture.path("base.tar"), layer(&[("License.txt", b"text")])).unwrap();
    let error = fixture.import(&fixture.path("base.tar"), Some("a:1")).unwrap_err();
    assert!(matches!(error, Error::NotAnImage { is_layer: true, .. }), "{error}");
    fs::write(fixture.path("other.tar"), tar_of(&[("etc/passwd".to_owned(), b"root".to_vec())].into()))
        .unwrap();
    let error = fixture.import(&fixture.path("other.tar"), Some("a:1")).unwrap_err();
    assert!(matches!(error, Error::NotAnImage { is_layer: false, .. }), "{error}");
}

#[test]
fn names_of_manifest_json_are_those_of_an_index_that_has_none() {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    let digest = layout.image(&config, &tars, |_| {})["digest"].clone();
    let mut files = layout.complete();
    files.extend(saved(&config, &tars, &json!(["app:1", "app:latest"])));
    assert_eq!(names(&files), ["app:1", "app:latest"]);
    let (fixture, _) = import(&files, None);
    let manifest = fixture.images().inspect("app:latest").unwrap().manifest;
    assert_eq!(json!(manifest), digest, "the index says more of it");
}

#[test]
fn docker_saves_the_foreign_layers_that_an_index_leaves_out() {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |manifest| {
        manifest["layers"][0]["mediaType"] =
            json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
        manifest["layers"][0]["digest"] = json!(Digest::of(b"at the vendor's"));
        manifest["layers"][0]["urls"] = json!(["https://example.test/base"]);
    })["annotations"] = json!({ REF_NAME: "app:1" });
    let mut files = layout.complete();
    let error = import(&files, None).1.unwrap_err();
    assert!(matches!(error, Error::ForeignLayer { .. }), "{error}");
    files.extend(saved(&config, &tars, &json!(["app:1"])));
    let (fixture, imported) = import(&files, None);
    imported.unwrap();
    assert_eq!(fixture.images().inspect("app:1").unwrap().layers[0].urls, ["https://example.test/base"]);
}
