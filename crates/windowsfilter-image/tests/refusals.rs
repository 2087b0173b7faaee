//! Bad images give one clear error and leave nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;

use common::{Fixture, Layout, OCI_LAYER, chain, config, gzip, layer, sample};
use serde_json::json;
use windowsfilter::{Digest, ErrorKind};
use windowsfilter_image::{Error, Source};

fn with(edit: impl FnOnce(&mut Layout, Vec<u8>, Vec<Vec<u8>>)) -> String {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    edit(&mut layout, config, tars);
    Fixture::new().refused(&layout)
}

fn blob_name(data: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(data).hex())
}

#[test]
fn a_blob_that_is_not_what_its_digest_says() {
    let message = with(|layout, config, tars| {
        layout.image(&config, &tars, |_| {});
        layout.files.insert(blob_name(&tars[1]), layer(&[("A.TXT", b"ToP")]));
    });
    assert!(message.contains("expected sha256:"), "{message}");
    let message = with(|layout, config, tars| {
        layout.image(&config, &tars, |_| {});
        layout.files.get_mut(&blob_name(&config)).unwrap()[8] ^= 1;
    });
    assert!(message.starts_with("config sha256:"), "{message}");
}

#[test]
fn a_blob_too_damaged_to_be_read_is_one_that_does_not_verify() {
    let (config, tars) = sample();
    let gzipped = gzip(&tars[1]);
    for (blob, at) in [(gzipped.clone(), gzipped.len() / 2), (tars[1].clone(), 1030)] {
        let mut layout = Layout::default();
        layout.image(&config, &[tars[0].clone(), blob.clone()], |_| {});
        layout.files.get_mut(&blob_name(&blob)).unwrap()[at] ^= 0x55;
        let fixture = Fixture::new();
        fs::write(fixture.path("damaged"), layout.archive()).unwrap();
        let error = fixture.import(&fixture.path("damaged"), Some("x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verify, "{}", chain(&error));
        assert!(error.to_string().contains(&Digest::of(&blob).to_string()), "{}", chain(&error));
        fixture.assert_empty();
    }
}

#[test]
fn a_config_that_is_no_json_somewhere() {
    let deep = [&[b'['; 10_001][..], &[b']'; 10_001]].concat();
    for odd in [&b"\"\n\""[..], b"01", b"tru", b"\"\\x\"", b"{\"a\" 1}", &deep] {
        let message = with(|layout, config, tars| {
            let rootfs = br#""rootfs":{"#;
            let at = config.windows(rootfs.len()).position(|window| window == rootfs).unwrap() + rootfs.len();
            let config = [&config[..at], b"\"other\":", odd, b",", &config[at..]].concat();
            layout.image(&config, &tars, |_| {});
        });
        assert!(message.starts_with("the image's config"), "{message}");
    }
}

#[test]
fn a_layer_with_a_bad_entry_is_named() {
    let (_, mut tars) = sample();
    tars[1] = layer(&[("../x", b"x")]);
    let mut layout = Layout::default();
    layout.image(&config("windows", "10.0.20348.1", &tars), &tars, |_| {});
    let message = Fixture::new().refused(&layout);
    assert!(message.starts_with(&format!("cannot import layer {}: ", Digest::of(&tars[1]))), "{message}");
    assert!(message.contains("Files/../x") && message.ends_with("its name has .. in it"), "{message}");
}

#[test]
fn a_blob_that_is_longer_or_shorter_than_its_descriptor_says() {
    let message = with(|layout, config, tars| {
        layout.image(&config, &tars, |manifest| manifest["layers"][0]["size"] = json!(5));
    });
    assert!(message.contains("bytes, expected 5"), "{message}");
    let message = with(|layout, config, tars| {
        layout.image(&config, &tars, |manifest| manifest["config"]["size"] = json!(5));
    });
    assert!(message.contains("bytes, expected 5"), "{message}");
}

#[test]
fn a_layer_that_is_not_the_one_of_the_config() {
    let message = with(|layout, config, mut tars| {
        tars[1] = layer(&[("other", b"x")]);
        layout.image(&config, &tars, |_| {});
    });
    assert!(message.contains(&Digest::of(&layer(&[("other", b"x")])).to_string()), "{message}");
}

#[test]
fn missing_blobs_and_foreign_layers_that_were_left_out() {
    let message = with(|layout, config, tars| {
        layout.image(&config, &tars, |_| {});
        layout.files.remove(&blob_name(&tars[0]));
    });
    assert!(message.starts_with("layer blobs/sha256/") && message.ends_with("is missing"), "{message}");
    let message = with(|layout, config, tars| {
        layout.image(&config, &tars, |manifest| {
            manifest["layers"][0]["mediaType"] =
                json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
            manifest["layers"][0]["urls"] = json!(["https://example.test/base"]);
        });
        layout.files.remove(&blob_name(&tars[0]));
    });
    assert!(
        message.starts_with("foreign layer") && message.ends_with("https://example.test/base"),
        "{message}"
    );
}

#[test]
fn as_many_diff_ids_as_layers() {
    let message = with(|layout, config, tars| {
        layout.image(&config, &tars[..1], |_| {});
    });
    assert_eq!(message, "the config names 2 layers, the manifest has 1");
    let message = with(|layout, _, _| {
        layout.image(&config("windows", "1", &[]), &[], |_| {});
    });
    assert_eq!(message, "the image: it has no layers");
}

#[test]
fn more_layers_than_any_image_has() {
    let tars = vec![layer(&[("a", b"x")]); 1001];
    let message = with(|layout, _, _| {
        layout.image(&config("windows", "1", &tars), &tars, |_| {});
    });
    assert_eq!(message, "the image: it has 1001 layers; at most 1000 are supported (docs/limits.md)");
}

#[test]
fn a_linux_image_unless_forced() {
    let (_, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config("linux", "", &tars), &tars, |_| {});
    let fixture = Fixture::new();
    assert!(fixture.refused(&layout).starts_with("the image is for linux, not for windows"));
    let archive = std::io::Cursor::new(layout.archive());
    fixture.import_from(Source::Stream(Box::new(archive)), Some("forced"), None, true).unwrap();
}

#[test]
fn several_images_of_different_names_but_not_several_platforms_of_one() {
    let (_, tars) = sample();
    let mut layout = Layout::default();
    let nested = |layout: &mut Layout, os: &str, version: &str| {
        let descriptor = layout.image(&config(os, version, &tars), &tars, |_| {});
        descriptor["platform"] = json!({ "os": os, "architecture": "amd64", "os.version": version });
    };
    nested(&mut layout, "linux", "");
    nested(&mut layout, "windows", "10.0.17763.5");
    nested(&mut layout, "windows", "10.0.20348.7");
    let index = json!({ "schemaVersion": 2, "manifests": std::mem::take(&mut layout.manifests) }).to_string();
    let index = layout.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
    layout.manifests.push(index);
    let fixture = Fixture::new();
    let stream = |layout: &Layout| Source::Stream(Box::new(std::io::Cursor::new(layout.archive())));
    let version = |name: &str| fixture.images().inspect(name).unwrap().os_version.unwrap();
    fixture.import_from(stream(&layout), Some("first"), None, false).unwrap();
    assert_eq!(version("first"), "10.0.17763.5");
    fixture.import_from(stream(&layout), Some("chosen"), Some("windows/amd64:10.0.20348"), false).unwrap();
    assert_eq!(version("chosen"), "10.0.20348.7");
    let error = fixture.import_from(stream(&layout), Some("x"), Some("windows/arm64"), false).unwrap_err();
    assert!(matches!(error, Error::NoSuchPlatform { ref available, .. } if available.len() == 3), "{error}");

    let message = with(|layout, config, tars| {
        for name in ["a:1", "b:1"] {
            layout.image(&config, &tars, |manifest| manifest["annotations"] = json!({ "n": name }))["annotations"] =
                json!({ "org.opencontainers.image.ref.name": name });
        }
    });
    assert!(message.contains("several images: a:1, b:1"), "{message}");
}

#[test]
fn an_archive_that_is_cut_off_anywhere() {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &[gzip(&tars[0]), tars[1].clone()], |_| {});
    let archive = layout.archive();
    // The archive ends with two blocks of zeros and padding, which may be missing.
    for length in (0..archive.len() - 2048).step_by(971) {
        let fixture = Fixture::new();
        fs::write(fixture.path("cut"), &archive[..length]).unwrap();
        fixture.refused_at(&fixture.path("cut"));
        fs::write(fixture.path("cut.gz"), &gzip(&archive)[..length / 40]).unwrap();
        fixture.refused_at(&fixture.path("cut.gz"));
    }
}

#[test]
fn what_is_no_image_or_has_no_name() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("empty")).unwrap();
    assert!(fixture.refused_at(&fixture.path("empty")).contains("is not an image"));
    assert_eq!(fixture.import(&fixture.path("none"), None).unwrap_err().kind(), ErrorKind::NotFound);
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    layout.write(&fixture.path("oci"));
    let error = fixture.import(&fixture.path("oci"), None).unwrap_err();
    assert!(matches!(error, Error::NoName { .. }), "{error}");
    fixture.assert_empty();
}

#[test]
fn an_index_that_names_another_by_a_thousand_names_is_not_followed_a_billion_times() {
    let mut layout = Layout::default();
    let mut inner = layout.blob("application/vnd.oci.image.index.v1+json", br#"{"manifests":[]}"#);
    for _ in 0..3 {
        let many: Vec<_> = (0..1000)
            .map(|i| {
                let mut named = inner.clone();
                named["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("n:{i}") });
                named
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "manifests": many }).to_string();
        inner = layout.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
    }
    layout.manifests.push(inner);
    assert!(Fixture::new().refused(&layout).contains("too many manifests"));
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_blob_is_a_missing_blob_and_not_waited_for() {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    let fixture = Fixture::new();
    layout.write(&fixture.path("oci"));
    let blob = fixture.path("oci").join(blob_name(&tars[1]));
    fs::remove_file(&blob).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&blob).status().unwrap().success());
    assert!(fixture.refused_at(&fixture.path("oci")).ends_with("is missing"));
}

#[test]
fn indexes_in_indexes_without_end_and_documents_that_lead_out_of_the_directory() {
    let mut layout = Layout::default();
    let mut inner = layout.blob(OCI_LAYER, b"{}");
    for _ in 0..8 {
        let index = json!({ "schemaVersion": 2, "manifests": [inner] }).to_string();
        inner = layout.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
    }
    layout.manifests.push(inner);
    let fixture = Fixture::new();
    assert!(fixture.refused(&layout).contains("indexes in indexes"));
    fs::create_dir(fixture.path("saved")).unwrap();
    fs::write(fixture.path("outside.json"), sample().0).unwrap();
    fs::write(fixture.path("saved/manifest.json"), r#"[{"Config":"../outside.json","Layers":[]}]"#).unwrap();
    assert!(fixture.refused_at(&fixture.path("saved")).contains("is missing"));
}
