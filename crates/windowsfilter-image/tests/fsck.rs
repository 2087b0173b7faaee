//! Breaks every invariant of images alone, and checks that fsck finds it by name; `docs/fsck.md` lists the
//! tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Fixture, Layout, sample};
use windowsfilter::fsck::Invariant;
use windowsfilter::{Digest, Driver};
use windowsfilter_image::{Finding, ImageRecord};

/// A store with the image `one`.
fn with_image() -> Fixture {
    let fixture = Fixture::new();
    let (config, tars) = sample();
    let mut layout = Layout::default();
    layout.image(&config, &tars, |_| {});
    let path = fixture.path("image.tar");
    fs::write(&path, layout.archive()).unwrap();
    fixture.import(&path, Some("one")).unwrap();
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
    fixture
}

fn record(fixture: &Fixture) -> ImageRecord {
    fixture.images().records().unwrap().remove(0)
}

fn record_path(fixture: &Fixture) -> PathBuf {
    fixture.store.files().images_dir().join("refs/docker.io%2Flibrary%2Fone%3Alatest.json")
}

fn blob(fixture: &Fixture, digest: &Digest) -> PathBuf {
    fixture.store.files().images_dir().join("blobs/sha256").join(digest.hex())
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

/// Checks that `fsck` finds only this, and that `fsck --repair` changes nothing.
fn left_alone(fixture: &Fixture, invariant: Invariant) -> Finding {
    let before = contents(&fixture.store.files().images_dir());
    let found = fixture.images().fsck(false).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].invariant, found[0].repaired), (invariant, false), "{found:?}");
    assert_eq!(fixture.images().fsck(true).unwrap(), found);
    assert!(contents(&fixture.store.files().images_dir()) == before, "fsck has changed something");
    found.into_iter().next().unwrap()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 1 << (offset % 8);
    fs::write(path, bytes).unwrap();
}

/// Breaks a file, runs `check`, and restores the file.
fn while_broken(path: &Path, check: impl Fn()) {
    let good = fs::read(path).unwrap();
    flip(path, good.len() / 2);
    check();
    fs::remove_file(path).unwrap();
    check();
    fs::write(path, good).unwrap();
}

#[test]
fn a_damaged_record_is_found_and_left() {
    let fixture = with_image();
    let path = record_path(&fixture);
    let good = fs::read_to_string(&path).unwrap();
    for bad in
        [good.replace("\"version\": 2", "\"version\": 1"), good.replace("sources", "sourcez"), String::new()]
    {
        fs::write(&path, bad).unwrap();
        let found = left_alone(&fixture, Invariant::ImageRecord);
        assert!(found.problem.contains("one%3Alatest.json"), "{found:?}");
    }
    fs::write(&path, good).unwrap();
    let other = path.with_file_name("docker.io%2Flibrary%2Ftwo%3Alatest.json");
    fs::rename(&path, &other).unwrap();
    let found = left_alone(&fixture, Invariant::ImageRecord);
    assert!(found.problem.contains("another image's"), "{found:?}");
    fs::rename(&other, &path).unwrap();
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
}

#[test]
fn a_damaged_or_missing_config_is_found() {
    let fixture = with_image();
    let image_id = record(&fixture).image_id;
    while_broken(&blob(&fixture, &image_id), || {
        let found = left_alone(&fixture, Invariant::ImageConfig);
        assert_eq!(found.reference.as_deref(), Some("one"));
        assert!(found.problem.contains(&image_id.hex()), "{found:?}");
    });
}

#[test]
fn a_damaged_or_missing_manifest_is_found() {
    let fixture = with_image();
    let manifest = record(&fixture).manifest.unwrap();
    while_broken(&blob(&fixture, &manifest), || {
        let found = left_alone(&fixture, Invariant::ImageManifest);
        assert!(found.problem.contains(&manifest.hex()), "{found:?}");
    });
    // Another image's intact record.
    let record = record(&fixture);
    let config = fs::read_to_string(blob(&fixture, &record.image_id)).unwrap().replace("cmd", "ps");
    let other = fs::read_to_string(blob(&fixture, &manifest)).unwrap();
    let other = other.replace(&record.image_id.hex(), &Digest::of(config.as_bytes()).hex());
    let digest = Digest::of(other.as_bytes());
    fs::write(blob(&fixture, &digest), other).unwrap();
    let forged = ImageRecord { manifest: Some(digest), ..record };
    fs::write(record_path(&fixture), windowsfilter::support::sealed::seal(2, &forged).unwrap()).unwrap();
    assert!(left_alone(&fixture, Invariant::ImageManifest).problem.contains("another image's"));
}

#[test]
fn a_layer_that_is_gone_or_another_is_found() {
    let fixture = with_image();
    let layers = record(&fixture).layers;
    let dir = |number: usize| fixture.store.root().join("layers").join(layers[number].as_str());
    let aside = fixture.path("aside");
    fs::rename(dir(1), &aside).unwrap();
    let found = left_alone(&fixture, Invariant::ImageLayers);
    assert!(found.problem.contains(layers[1].as_str()), "{found:?}");
    // On top of nothing instead of the base.
    let tar = fs::read(aside.join("layer.tar")).unwrap();
    fixture.store.apply_diff(&layers[1], None, &mut &*tar).unwrap();
    let found = left_alone(&fixture, Invariant::ImageLayers);
    assert!(found.problem.contains("stands on other layers"), "{found:?}");
    fixture.store.remove(&layers[1]).unwrap();
    // With other content.
    fixture.store.apply_diff(&layers[1], Some(&layers[0]), &mut &*common::layer(&[])).unwrap();
    let found = left_alone(&fixture, Invariant::ImageLayers);
    assert!(found.problem.contains("is not sha256:"), "{found:?}");
}

#[test]
fn a_damaged_document_of_no_image_is_removed() {
    let fixture = with_image();
    let digest = Digest::of(b"a config whose import was interrupted");
    let path = blob(&fixture, &digest);
    fs::write(&path, "a config whose import was interrupted").unwrap();
    assert_eq!(fixture.images().fsck(true).unwrap(), [], "prune removes it");
    flip(&path, 3);
    // An unreadable record may belong to that image.
    let record = record_path(&fixture);
    flip(&record, 30);
    let names =
        |found: Vec<Finding>| found.iter().map(|found| (found.invariant, found.repaired)).collect::<Vec<_>>();
    let both = names(fixture.images().fsck(true).unwrap());
    assert_eq!(both, [(Invariant::ImageRecord, false), (Invariant::SpareDocument, false)]);
    assert!(path.exists());
    flip(&record, 30);
    assert_eq!(names(fixture.images().fsck(true).unwrap()), [(Invariant::SpareDocument, true)]);
    assert!(!path.exists());
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
}

/// Tries every file in the store, so that a new kind of unguarded file fails this test.
#[test]
fn one_flipped_bit_of_any_file_is_found_and_the_file_is_named() {
    let fixture = with_image();
    fs::write(blob(&fixture, &Digest::of(b"spare")), "spare").unwrap();
    let mut tried = 0;
    for (path, good) in contents(&fixture.store.files().images_dir()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        for offset in (0..good.len()).step_by(7).chain(good.len().checked_sub(1)) {
            flip(&path, offset);
            let found = fixture.images().fsck(false).unwrap();
            assert!(
                found.iter().any(|finding| finding.problem.contains(name)),
                "{name} at {offset}: {found:?}"
            );
            flip(&path, offset);
        }
        tried += usize::from(!good.is_empty());
    }
    assert_eq!(tried, 4, "a record, a config, a manifest, and a document of no image");
    assert_eq!(fixture.images().fsck(false).unwrap(), []);
}
