//! Imports and exports images in all formats; skopeo checks the exports.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::io::Cursor;
#[cfg(unix)]
use std::path::Path;
#[cfg(unix)]
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Fixture, Layout, config, gzip, layer, sample, tar_of};
#[cfg(unix)]
use serde_json::Value;
use serde_json::json;
use windowsfilter::import::Progress;
use windowsfilter::{DiffId, Digest, LayerId};
use windowsfilter_image::{Compression, ExportOptions, Format, ImageProgress, Source};

fn options(format: Format, compression: Compression) -> ExportOptions<'static> {
    ExportOptions { format, compression: Some(compression), ..ExportOptions::default() }
}

fn layout() -> Layout {
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {})["annotations"] =
        json!({ "org.opencontainers.image.ref.name": "win:1" });
    layout
}

fn assert_is_sample(fixture: &Fixture, name: &str) {
    assert_eq!(fixture.images().inspect(name).unwrap().image_id, Digest::of(&sample().0));
    assert_has_sample_layers(fixture, name);
}

fn assert_has_sample_layers(fixture: &Fixture, name: &str) {
    let (_, tars) = sample();
    let info = fixture.images().inspect(name).unwrap();
    assert_eq!(info.os_version.as_deref(), Some("10.0.20348.1"));
    assert_eq!(info.history[0].created_by.as_deref(), Some("Apply image"));
    let diff_ids: Vec<DiffId> = tars.iter().map(|tar| DiffId(Digest::of(tar))).collect();
    assert_eq!(info.layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>(), diff_ids);
    for (layer, tar) in info.layers.iter().zip(&tars) {
        let (digest, size) = Digest::of_reader(fixture.store.open_tar(&layer.id).unwrap()).unwrap();
        assert_eq!((digest, size), (Digest::of(tar), tar.len() as u64));
    }
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
}

#[test]
fn a_layout_directory_is_imported_under_its_own_name() {
    let fixture = Fixture::new();
    layout().write(&fixture.path("oci"));
    let imported = fixture.import(&fixture.path("oci"), None).unwrap();
    assert_eq!((imported.reference.as_str(), imported.layers.len()), ("win:1", 2));
    assert_eq!(Some(&imported.top), imported.layers.last());
    assert_eq!(fixture.images().resolve("win:1").unwrap(), imported.top);
    assert_eq!(fixture.images().resolve(&imported.image_id.hex()[..6]).unwrap(), imported.top);
    assert_is_sample(&fixture, "win:1");
}

#[test]
fn archives_come_plain_gzip_or_zstd_from_files_and_streams() {
    let plain = layout().archive();
    let zstd = zstd::encode_all(&*plain, 1).unwrap();
    for bytes in [plain.clone(), gzip(&plain), zstd] {
        let fixture = Fixture::new();
        fs::write(fixture.path("image"), &bytes).unwrap();
        fixture.import(&fixture.path("image"), Some("file")).unwrap();
        assert_is_sample(&fixture, "file");
        let fixture = Fixture::new();
        fixture
            .import_from(Source::Stream(Box::new(Cursor::new(bytes))), Some("stream"), None, false)
            .unwrap();
        assert_is_sample(&fixture, "stream");
    }
}

#[test]
fn layers_are_compressed_in_any_way_and_their_media_types_may_be_foreign() {
    let (config, tars) = sample();
    let blobs = [gzip(&tars[0]), zstd::encode_all(&*tars[1], 1).unwrap()];
    let fixture = Fixture::new();
    let mut layout = Layout::default();
    layout.image(&config, &blobs, |manifest| {
        manifest["layers"][0]["mediaType"] =
            json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        manifest["layers"][0]["urls"] = json!(["https://example.test/base"]);
    });
    layout.write(&fixture.path("oci"));
    fixture.import(&fixture.path("oci"), Some("win")).unwrap();
    assert_is_sample(&fixture, "win");
    let info = fixture.images().inspect("win").unwrap();
    assert_eq!(info.layers[0].urls, ["https://example.test/base"]);
}

#[test]
fn docker_save_of_old_is_imported_with_links_for_repeated_layers() {
    let (config, tars) = sample();
    let hex = Digest::of(&config).hex();
    let saved = json!([{
        "Config": format!("{hex}.json"), "RepoTags": ["win:old"], "Layers": ["aa/layer.tar", "bb/layer.tar"]
    }]);
    let files = [
        (format!("{hex}.json"), config),
        ("aa/layer.tar".into(), tars[0].clone()),
        ("cc/layer.tar".into(), tars[1].clone()),
        ("manifest.json".into(), saved.to_string().into_bytes()),
    ];
    let mut tar = tar_of(&files.into());
    // Two blocks of zeros end the archive: the link goes before them.
    tar.truncate(tar.len() - 1024);
    let mut builder = tar::Builder::new(tar);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "bb/layer.tar", "../cc/layer.tar").unwrap();
    let fixture = Fixture::new();
    fs::write(fixture.path("saved.tar"), builder.into_inner().unwrap()).unwrap();
    assert_eq!(fixture.import(&fixture.path("saved.tar"), None).unwrap().reference, "win:old");
    assert_is_sample(&fixture, "win:old");
}

#[test]
fn every_export_comes_back_the_same_and_is_reproducible() {
    let fixture = Fixture::new();
    layout().write(&fixture.path("oci"));
    fixture.import(&fixture.path("oci"), None).unwrap();
    for format in [Format::Oci, Format::OciArchive, Format::DockerArchive] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let (one, two) = (fixture.path("one"), fixture.path("two"));
            let first = fixture.images().export("win:1", &one, &options(format, compression)).unwrap();
            let second = fixture.images().export("win:1", &two, &options(format, compression)).unwrap();
            assert_eq!(first.digest, second.digest);
            let other = Fixture::new();
            assert_eq!(other.import(&one, None).unwrap().reference, "win:1", "{format:?} {compression:?}");
            assert_is_sample(&other, "win:1");
            if format == Format::Oci {
                fs::remove_dir_all(&one).unwrap();
                fs::remove_dir_all(&two).unwrap();
            } else {
                assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
                fs::remove_file(&one).unwrap();
                fs::remove_file(&two).unwrap();
            }
        }
    }
}

#[test]
fn an_export_replaces_nothing() {
    let fixture = Fixture::new();
    layout().write(&fixture.path("oci"));
    fixture.import(&fixture.path("oci"), None).unwrap();
    let error = fixture
        .images()
        .export("win:1", &fixture.path("oci"), &options(Format::Oci, Compression::None))
        .unwrap_err();
    assert!(error.to_string().ends_with("exists already"), "{error}");
}

// skopeo does not exist for Windows; `cargo xtask windows` shows that exports are the same there, byte for
// byte.
#[cfg(unix)]
fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--override-os", "windows", "--override-arch", "amd64"])
        .args(arguments)
        .output()
        .expect("these tests need skopeo (Debian package skopeo)");
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[cfg(unix)]
fn address(transport: &str, path: &Path) -> String {
    format!("{transport}:{}", path.display())
}

#[cfg(unix)]
#[test]
fn skopeo_reads_every_export_and_what_it_copies_comes_back_the_same() {
    let fixture = Fixture::new();
    layout().write(&fixture.path("oci"));
    fixture.import(&fixture.path("oci"), None).unwrap();
    for (format, transport) in
        [(Format::Oci, "oci"), (Format::OciArchive, "oci-archive"), (Format::DockerArchive, "docker-archive")]
    {
        for compression in [Compression::None, Compression::Gzip] {
            let name = format!("{transport}-{compression:?}");
            let path = fixture.path(&name);
            fixture.images().export("win:1", &path, &options(format, compression)).unwrap();
            let from = address(transport, &path);
            let seen: Value = serde_json::from_slice(&skopeo(&["inspect", &from])).unwrap();
            assert_eq!((&seen["Os"], seen["Layers"].as_array().unwrap().len()), (&json!("windows"), 2));
            for back in ["oci", "oci-archive", "docker-archive"] {
                let copy = fixture.path(&format!("{name}.{back}"));
                skopeo(&["copy", &from, &format!("{}:win:copy", address(back, &copy))]);
                let other = Fixture::new();
                other.import(&copy, Some("win:copy")).unwrap();
                // Between OCI and Docker, skopeo rewrites the config, without the fields it does not know.
                if (back == "docker-archive") == (format == Format::DockerArchive) {
                    assert_is_sample(&other, "win:copy");
                } else {
                    assert_has_sample_layers(&other, "win:copy");
                }
            }
        }
    }
}

/// Adds up the progress.
#[derive(Default)]
struct Sums {
    promised: AtomicU64,
    done: AtomicU64,
}

impl ImageProgress for Sums {
    fn begin<'s>(&'s self, _: &LayerId, bytes: u64) -> Box<dyn Progress + 's> {
        self.promised.fetch_add(bytes, Ordering::Relaxed);
        Box::new(Done(self))
    }
}

struct Done<'s>(&'s Sums);

impl Progress for Done<'_> {
    fn blob_bytes(&self, n: u64) {
        self.0.done.fetch_add(n, Ordering::Relaxed);
    }
}

#[test]
fn an_export_tells_of_every_byte_of_every_layer() {
    let fixture = Fixture::new();
    layout().write(&fixture.path("oci"));
    fixture.import(&fixture.path("oci"), None).unwrap();
    let sums = Sums::default();
    let options = ExportOptions { progress: &sums, ..options(Format::OciArchive, Compression::Gzip) };
    fixture.images().export("win:1", &fixture.path("out.tar"), &options).unwrap();
    let total: usize = sample().1.iter().map(Vec::len).sum();
    assert_eq!(sums.promised.into_inner(), total as u64);
    assert_eq!(sums.done.into_inner(), total as u64);
}

#[test]
fn what_a_view_does_not_show_of_a_layer_is_said_of_its_image() {
    let fixture = Fixture::new();
    let mut tar = layer(&[("a.txt", b"a")]);
    // Before the two blocks that end it.
    let outside = tar_of(&[("etc/passwd".to_owned(), b"root".to_vec())].into());
    tar.truncate(tar.len() - 1024);
    tar.extend(outside);
    let tars = vec![tar];
    let mut layout = Layout::default();
    layout.image(&config("windows", "10.0.20348.1", &tars), &tars, |_| {});
    layout.write(&fixture.path("oci"));
    let imported = fixture.import(&fixture.path("oci"), Some("win:1")).unwrap();
    let [note] = &imported.notes[..] else { panic!("{:?}", imported.notes) };
    assert!(note.starts_with("layer sha256:") && note.contains("not shown"), "{note}");
    // It is already in the store.
    assert!(fixture.import(&fixture.path("oci"), Some("win:2")).unwrap().notes.is_empty());
}
