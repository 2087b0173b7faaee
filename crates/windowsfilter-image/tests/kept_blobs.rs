//! Exports equal imports: kept blobs, manifests, and foreign layers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::Path;

use common::{Fixture, Layout, config, gzip, sample};
#[cfg(not(windows))]
use common::{layer, tar_of};
use serde_json::{Value, json};
use windowsfilter::Digest;
use windowsfilter::fsck::Invariant;
use windowsfilter_image::{
    Compression, Error, ExportOptions, Exported, Format, ImportOptions, Imported, Source,
};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const URL: &str = "https://example.test/base";

/// A layout of the sample with the given blobs and an edited manifest.
fn layout(blobs: &[Vec<u8>], edit: impl FnOnce(&mut Value)) -> (Layout, Digest) {
    let mut layout = Layout::default();
    let descriptor = layout.image(&sample().0, blobs, edit);
    let digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
    (layout, digest)
}

/// Blobs that this tool would not write: gzip of another level, zstd in two frames.
fn blobs() -> Vec<Vec<u8>> {
    let tars = sample().1;
    let (head, tail) = tars[1].split_at(tars[1].len() / 2);
    vec![gzip(&tars[0]), [zstd::encode_all(head, 19).unwrap(), zstd::encode_all(tail, 1).unwrap()].concat()]
}

fn media_types(manifest: &mut Value) {
    manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
    manifest["layers"][1]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+zstd");
    manifest["layers"][1]["x-vendor"] = json!({ "deep": [1] });
}

fn keep(fixture: &Fixture, layout: &Layout, name: &str) -> Result<Imported, Error> {
    let path = fixture.path(&name.replace(':', "-"));
    layout.write(&path);
    fixture.images().import(ImportOptions {
        reference: Some(name.parse().unwrap()),
        keep_blobs: true,
        ..ImportOptions::new(Source::Path(path))
    })
}

fn export(fixture: &Fixture, name: &str, options: &ExportOptions<'_>) -> Exported {
    let out = fixture.path("out");
    let _ = fs::remove_dir_all(&out);
    let _ = fs::remove_file(&out);
    fixture.images().export(name, &out, options).unwrap()
}

fn blob(dir: &Path, digest: &Digest) -> std::path::PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn kept(fixture: &Fixture) -> usize {
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
    assert_eq!(fixture.images().verify_layer_blobs(false).unwrap(), []);
    assert_eq!(fs::read_dir(fixture.store.root().join("tmp")).unwrap().count(), 0);
    fixture.images().layer_blobs().unwrap().len()
}

#[test]
fn an_unchanged_image_goes_out_byte_for_byte() {
    for media_type in [json!(DOCKER), json!("application/vnd.oci.image.manifest.v1+json"), Value::Null] {
        let (layout, digest) = layout(&blobs(), |manifest| {
            media_types(manifest);
            manifest["mediaType"] = media_type.clone();
        });
        let fixture = Fixture::new();
        keep(&fixture, &layout, "win:1").unwrap();
        assert_eq!(kept(&fixture), 2);
        let told = fixture.images().inspect("win:1").unwrap().layers;
        let told: Vec<_> = told.iter().map(|layer| (layer.blob, layer.blob_kept)).collect();
        assert_eq!(told, [0, 1].map(|i| (Some(Digest::of(&blobs()[i])), true)));
        for format in [Format::Oci, Format::OciArchive, Format::DockerArchive] {
            let options = ExportOptions { format, ..ExportOptions::default() };
            let exported = export(&fixture, "win:1", &options);
            assert_eq!((exported.digest, exported.recompressed, exported.left_out), (digest, vec![], vec![]));
            if format == Format::Oci {
                for (name, data) in &layout.files {
                    assert_eq!(&fs::read(exported.path.join(name)).unwrap(), data, "{name}");
                }
            }
            let again = Fixture::new();
            again.import(&exported.path, None).unwrap();
            assert_eq!(again.images().records().unwrap()[0].manifest, Some(digest), "{format:?}");
        }
    }
}

#[test]
fn what_is_compressed_anew_is_told_and_says_the_same_otherwise() {
    let (layout, digest) = layout(&blobs(), media_types);
    let fixture = Fixture::new();
    layout.write(&fixture.path("in"));
    let imported = fixture.import(&fixture.path("in"), Some("win:1")).unwrap();
    assert_eq!(kept(&fixture), 0);
    let exported = export(&fixture, "win:1", &ExportOptions::default());
    assert_eq!(exported.recompressed, imported.layers);
    assert_ne!(exported.digest, digest);
    let manifest: Value =
        serde_json::from_slice(&fs::read(blob(&exported.path, &exported.digest)).unwrap()).unwrap();
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    // With the blobs added later, the same export has the same bytes; another compression gives another
    // image.
    keep(&fixture, &layout, "win:2").unwrap();
    assert_eq!(export(&fixture, "win:1", &ExportOptions::default()).digest, digest);
    let options = ExportOptions { compression: Some(Compression::Gzip), ..ExportOptions::default() };
    assert_eq!(export(&fixture, "win:1", &options).recompressed, imported.layers[1..]);
}

#[test]
fn images_share_blobs_and_the_last_one_takes_them_along() {
    let fixture = Fixture::new();
    let tars = sample().1;
    keep(&fixture, &layout(&blobs(), media_types).0, "win:1").unwrap();
    let mut other = Layout::default();
    let base = config("windows", "10.0.1.1", &tars[..1]);
    other.image(&base, &blobs()[..1], |_| {});
    keep(&fixture, &other, "base:1").unwrap();
    assert_eq!(kept(&fixture), 2);
    fixture.images().remove("win:1").unwrap();
    assert_eq!(kept(&fixture), 1);
    fixture.images().remove("base:1").unwrap();
    assert_eq!(kept(&fixture), 0);
    // `prune` removes what a crash between blobs and record leaves.
    let stray = fixture.store.files().images_dir().join("layer-blobs").join(Digest::of(b"stray").hex());
    fs::write(&stray, b"stray").unwrap();
    let pruned = fixture.images().prune(true).unwrap();
    assert_eq!((pruned.layer_blobs, pruned.bytes), (vec![Digest::of(b"stray")], 5));
    assert!(stray.exists());
    fixture.images().prune(false).unwrap();
    assert_eq!(kept(&fixture), 0);
}

#[test]
fn an_uncompressed_blob_is_the_tar_and_is_not_kept_twice() {
    let (layout, digest) = layout(&sample().1, |_| {});
    let fixture = Fixture::new();
    keep(&fixture, &layout, "win:1").unwrap();
    assert_eq!(kept(&fixture), 0);
    let exported = export(&fixture, "win:1", &ExportOptions::default());
    assert_eq!((exported.digest, exported.recompressed), (digest, vec![]));
}

#[test]
fn a_damaged_blob_is_neither_kept_nor_exported() {
    let (mut bad, _) = layout(&blobs(), media_types);
    let good = bad.clone();
    let digest = Digest::of(&blobs()[0]);
    let name = format!("blobs/sha256/{}", digest.hex());
    let fixture = Fixture::new();
    layout(&blobs(), media_types).0.write(&fixture.path("in"));
    fixture.import(&fixture.path("in"), Some("win:0")).unwrap();
    // The layers exist, so only the copy reads the blob.
    let middle = bad.files[&name].len() / 2;
    bad.files.get_mut(&name).unwrap()[middle] ^= 1;
    let error = keep(&fixture, &bad, "win:1").unwrap_err();
    assert!(matches!(error, Error::DamagedBlob { digest: named, .. } if named == digest), "{error}");
    assert_eq!((kept(&fixture), fixture.images().list().unwrap().len()), (0, 1));
    keep(&fixture, &good, "win:2").unwrap();
    let path = fixture.store.files().images_dir().join("layer-blobs").join(digest.hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error =
        fixture.images().export("win:2", &fixture.path("none"), &ExportOptions::default()).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(!fixture.path("none").exists());
    // Importing it again repairs it.
    keep(&fixture, &good, "win:3").unwrap();
    assert_eq!(kept(&fixture), 2);
    fs::write(&path, &bytes[1..]).unwrap();
    let found = fixture.images().fsck(true).unwrap();
    assert_eq!(
        found.iter().map(|f| (f.invariant, f.repaired)).collect::<Vec<_>>(),
        [(Invariant::LayerBlob, true)]
    );
    assert_eq!(kept(&fixture), 1);
    let path = fixture.images().layer_blobs().unwrap()[0].0;
    let path = fixture.store.files().images_dir().join("layer-blobs").join(path.hex());
    let length = fs::read(&path).unwrap().len();
    fs::write(&path, vec![0; length]).unwrap();
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
    let found = fixture.images().verify_layer_blobs(true).unwrap();
    assert_eq!(
        found.iter().map(|f| (f.invariant, f.repaired)).collect::<Vec<_>>(),
        [(Invariant::LayerBlob, true)]
    );
}

#[test]
fn a_foreign_layer_stays_foreign() {
    let foreign = |manifest: &mut Value| {
        media_types(manifest);
        manifest["layers"][0]["mediaType"] = json!(FOREIGN);
        manifest["layers"][0]["urls"] = json!([URL]);
    };
    let (layout, digest) = layout(&blobs(), foreign);
    let fixture = Fixture::new();
    layout.write(&fixture.path("in"));
    let imported = fixture.import(&fixture.path("in"), Some("win:1")).unwrap();
    let exported = export(&fixture, "win:1", &ExportOptions::default());
    assert_eq!(
        (&exported.left_out[..], &exported.recompressed[..]),
        (&imported.layers[..1], &imported.layers[1..])
    );
    let manifest: Value =
        serde_json::from_slice(&fs::read(blob(&exported.path, &exported.digest)).unwrap()).unwrap();
    let came = json!({ "mediaType": FOREIGN, "digest": Digest::of(&blobs()[0]), "size": blobs()[0].len(), "urls": [URL] });
    assert_eq!(manifest["layers"][0], came);
    let error = Fixture::new().import(&exported.path, None).unwrap_err();
    assert!(matches!(error, Error::ForeignLayer { .. }), "{error}");
    // A store with the layer needs no blob.
    fixture.import(&exported.path, Some("win:again")).unwrap();

    // Docker gets the layer and its source.
    let options = ExportOptions { format: Format::DockerArchive, ..ExportOptions::default() };
    let exported = export(&fixture, "win:1", &options);
    assert_eq!(exported.left_out, []);
    let mut archive = tar::Archive::new(fs::File::open(&exported.path).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let saved = entries.find(|entry| entry.path().unwrap().ends_with("manifest.json")).unwrap();
    let saved: Value = serde_json::from_reader(saved).unwrap();
    let base = Digest::of(&sample().1[0]).to_string();
    assert_eq!(saved[0]["LayerSources"], json!({ base: came }));
    let again = Fixture::new();
    again.import(&exported.path, None).unwrap();
    assert_eq!(again.images().inspect("win:1").unwrap().layers[0].urls, [URL]);

    let kept_one = Fixture::new();
    keep(&kept_one, &layout, "win:1").unwrap();
    let exported = export(&kept_one, "win:1", &ExportOptions::default());
    assert_eq!((exported.digest, exported.left_out), (digest, vec![]));
    Fixture::new().import(&exported.path, None).unwrap();
    let options = ExportOptions { include_nondistributable: true, ..ExportOptions::default() };
    let exported = export(&kept_one, "win:1", &options);
    assert_eq!(exported.recompressed, imported.layers[..1]);
    Fixture::new().import(&exported.path, None).unwrap();
}

#[test]
fn archives_that_others_have_compressed_are_named_with_the_way_out() {
    let said = |bytes: &[u8]| {
        let fixture = Fixture::new();
        fs::write(fixture.path("file"), bytes).unwrap();
        fixture.refused_at(&fixture.path("file"))
    };
    for (bytes, name, command) in [
        (&b"\xfd7zXZ\0\0\x04abcdef"[..], "xz", "xz -d"),
        (b"BZh91AY&SYabcdef", "bzip2", "bzip2 -d"),
        (b"PK\x03\x04abcdefghij", "zip", "unzip"),
        (b"\x04\x22\x4d\x18abcdefgh", "lz4", "lz4 -d"),
    ] {
        let message = said(bytes);
        assert!(
            message.ends_with(&format!("is {name} data, which are not read: unpack it first (`{command}`)")),
            "{message}"
        );
    }
    let message = said(&b"root:x:0:0:root:/root:/bin/bash\n".repeat(40));
    assert!(message.contains("is not a tar, plain or compressed with gzip or zstd"), "{message}");
    // A frame whose window is 128 MiB, as of `zstd --long=27`.
    let archive = layout(&sample().1, |_| {}).0.archive();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &archive).unwrap();
    let message = said(&encoder.finish().unwrap());
    assert!(message.contains("larger than 32 MiB") && message.contains("zstd -d --long=31"), "{message}");
    // Skippable frames, as parallel compressors write them first.
    let skipped =
        [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"head", &zstd::encode_all(&archive[..], 1).unwrap()]
            .concat();
    let fixture = Fixture::new();
    fs::write(fixture.path("skippable"), skipped).unwrap();
    fixture.import(&fixture.path("skippable"), Some("win:1")).unwrap();
}

#[test]
fn a_layer_that_is_compressed_as_none_is_read_says_so() {
    let tars = sample().1;
    let mut layout = Layout::default();
    layout.image(&sample().0, &[tars[0].clone(), b"\xfd7zXZ\0\0\x04abcdef".to_vec()], |_| {});
    let message = Fixture::new().refused(&layout);
    assert!(message.contains("it is xz data, which are not read: unpack it first (`xz -d`)"), "{message}");
}

/// On Windows the crate that writes this archive turns them into slashes.
#[cfg(not(windows))]
#[test]
fn names_in_archives_may_have_backslashes() {
    let (config, tars) = sample();
    let hex = Digest::of(&config).hex();
    let saved = json!([{ "Config": format!("{hex}.json"), "RepoTags": ["win:1"], "Layers": ["a/layer.tar", r"b\layer.tar"] }]);
    let mut files = vec![
        (format!("{hex}.json"), config),
        (r"a\layer.tar".to_owned(), tars[0].clone()),
        (r".\b\layer.tar".to_owned(), tars[1].clone()),
        ("manifest.json".to_owned(), saved.to_string().into_bytes()),
    ];
    let fixture = Fixture::new();
    for number in 0..2 {
        fs::write(fixture.path("saved.tar"), tar_of(&files.iter().cloned().collect())).unwrap();
        fixture.import(&fixture.path("saved.tar"), None).unwrap();
        // A file with the exact name takes precedence.
        if number == 0 {
            fixture.images().remove("win:1").unwrap();
            files.push((r"b\layer.tar".to_owned(), layer(&[("other", b"x")])));
            files.push(("b/layer.tar".to_owned(), tars[1].clone()));
        }
    }
}
