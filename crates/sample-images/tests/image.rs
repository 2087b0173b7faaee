//! All other tests and benchmarks rely on sample images: the same seed gives the same image, and our own
//! reader finds the planned layers in it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufReader;
use std::path::Path;

use sample_images::image::blob_path;
use sample_images::{Compression, Format, Spec, Summary};
use sha2::{Digest, Sha256};
use wclayer::layer_tar::{EntryKind, LayerEntry, attached_stream};
use wclayer::security::SecurityDescriptor;

fn small(seed: u64) -> Spec {
    Spec { seed, entries: 400, bytes: 4_000_000, ..Spec::default() }
}

fn made(spec: &Spec) -> (tempfile::TempDir, Summary) {
    let dir = tempfile::tempdir().unwrap();
    let summary = sample_images::write(spec, &dir.path().join("image")).unwrap();
    (dir, summary)
}

/// Every file below `dir` with its digest.
fn digests(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(digests(&path));
        } else {
            let digest = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
            found.insert(path.file_name().unwrap().to_string_lossy().into_owned(), digest);
        }
    }
    found
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    for format in [Format::Oci, Format::OciArchive, Format::DockerArchive, Format::DockerArchiveOci] {
        let made = |seed| {
            let (dir, summary) = made(&Spec { format, ..small(seed) });
            (digests(dir.path()), summary.config)
        };
        let first = made(7);
        assert_eq!(first, made(7), "{format:?}");
        assert_ne!(first.1, made(8).1, "{format:?}");
    }
}

#[test]
fn every_blob_is_what_its_descriptor_says() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (dir, summary) = made(&Spec { compression, foreign: true, ..small(1) });
        let layout = dir.path().join("image");
        for layer in &summary.layers {
            let blob = fs::read(blob_path(&layout, &layer.digests.digest)).unwrap();
            assert_eq!(blob.len() as u64, layer.digests.size);
            assert_eq!(format!("sha256:{}", hex::encode(Sha256::digest(&blob))), layer.digests.digest);
            let tar = decompressed(&blob, compression);
            assert_eq!(tar.len() as u64, layer.digests.tar_size);
            assert_eq!(format!("sha256:{}", hex::encode(Sha256::digest(&tar))), layer.digests.diff_id);
        }
    }
}

fn decompressed(blob: &[u8], compression: Compression) -> Vec<u8> {
    let mut tar = Vec::new();
    let copied = match compression {
        Compression::None => std::io::copy(&mut &*blob, &mut tar),
        Compression::Gzip => std::io::copy(&mut flate2::read::MultiGzDecoder::new(blob), &mut tar),
        Compression::Zstd => return zstd::decode_all(blob).unwrap(),
    };
    copied.unwrap();
    tar
}

/// Entries and streams of a layer, according to our reader.
fn read_layer(tar: &[u8]) -> (Vec<LayerEntry>, usize) {
    let mut reader = wclayer::tar::Reader::new(BufReader::new(tar));
    let (mut entries, mut streams) = (Vec::<LayerEntry>::new(), 0);
    while let Some(header) = reader.next().unwrap() {
        if entries.last().is_some_and(|host| attached_stream(host, &header).is_some()) {
            streams += 1;
        } else {
            entries.push(LayerEntry::from_header(&header).unwrap());
        }
    }
    (entries, streams)
}

fn layers(spec: &Spec) -> Vec<(Vec<LayerEntry>, usize)> {
    let (dir, summary) = made(&Spec { compression: Compression::None, ..spec.clone() });
    let layout = dir.path().join("image");
    let read = |layer: &sample_images::LayerSummary| {
        let read = read_layer(&fs::read(blob_path(&layout, &layer.digests.digest)).unwrap());
        assert_eq!(read.0.len(), layer.entries);
        read
    };
    summary.layers.iter().map(read).collect()
}

#[test]
fn our_reader_finds_everything_in_a_base_layer_that_windows_images_have() {
    let (entries, streams) = layers(&Spec { layers: 1, entries: 2000, ..small(1) }).remove(0);
    let count = |test: &dyn Fn(&LayerEntry) -> bool| entries.iter().filter(|entry| test(entry)).count();
    assert!(count(&|entry| matches!(entry.kind, EntryKind::Link { .. })) > 100);
    assert!(count(&|entry| matches!(entry.kind, EntryKind::Symlink { mount_point: true, .. })) >= 3);
    assert!(count(&|entry| matches!(entry.kind, EntryKind::Symlink { mount_point: false, .. })) >= 1);
    assert!(count(&|entry| !entry.eas.is_empty()) > 20);
    assert!(count(&|entry| entry.name.len() > 100) > 300);
    assert!(streams >= 3, "{streams}");
    let descriptors: BTreeSet<&[u8]> = entries.iter().filter_map(|entry| entry.security.as_deref()).collect();
    assert!((20..60).contains(&descriptors.len()), "{}", descriptors.len());
    for descriptor in descriptors {
        assert!(SecurityDescriptor::parse(descriptor).unwrap().owner.is_some());
    }
    assert!(count(&|entry| entry.name == b"UtilityVM/Files/EFI/Microsoft/Boot/BCD") == 1);
}

#[test]
fn our_reader_finds_changes_of_every_kind_in_a_diff_layer() {
    let layers = layers(&Spec { layers: 3, entries: 3000, ..small(1) });
    let count = |layer: usize, test: &dyn Fn(&LayerEntry) -> bool| {
        layers[layer].0.iter().filter(|entry| test(entry)).count()
    };
    for layer in [1, 2] {
        assert!(count(layer, &|entry| matches!(entry.kind, EntryKind::Whiteout { .. })) > 3);
        assert!(count(layer, &|entry| matches!(entry.kind, EntryKind::Link { .. })) == 1);
        assert!(count(layer, &|entry| entry.name.ends_with(b"_Delta")) == 5);
        assert!(layers[layer].1 >= 1);
    }
}

#[test]
fn an_image_has_as_many_entries_and_layers_as_asked_for() {
    for (entries, layers) in [(200, 1), (400, 3), (5000, 125)] {
        let (_dir, summary) = made(&Spec { entries, layers, bytes: 2_000_000, ..small(1) });
        assert_eq!(summary.layers.len(), layers);
        assert_eq!(summary.layers.iter().map(|layer| layer.entries).sum::<usize>(), entries);
    }
}

#[test]
fn an_image_is_never_written_over_something() {
    let dir = tempfile::tempdir().unwrap();
    assert!(sample_images::write(&small(1), dir.path()).is_err());
}
