//! Many clients at once.

use super::images::Image;
use super::process::Running;
use super::rig::{Mode, Rig};
use super::tools::Version;

with_each_containerd!(fifty_sandboxes_are_prepared_and_removed_at_once, two_images_are_imported_at_once);

fn fifty_sandboxes_are_prepared_and_removed_at_once(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.import(&image.archive, Mode::Transfer).end().success();
    let layers = rig.layers().len();
    let keys: Vec<String> = (0..50).map(|n| format!("box {n}")).collect();
    let at_once = |args: &[&str]| {
        let start = |key: &String| {
            let words: Vec<&str> = args.iter().map(|word| if *word == "KEY" { key } else { *word }).collect();
            Running::start(&mut rig.ctr_snapshots(&words))
        };
        let running: Vec<Running> = keys.iter().map(start).collect();
        for one in running {
            one.end().success();
        }
    };
    let top = image.top();
    at_once(&["prepare", "KEY", &top]);
    assert_eq!(rig.layers().len(), layers + keys.len());
    at_once(&["mounts", "/target", "KEY"]);
    at_once(&["rm", "KEY"]);
    rig.remove_everything();
}

/// They have layers in common, so both want to put the same ones into the store.
fn two_images_are_imported_at_once(version: Version) {
    let rig = Rig::start(version);
    let images = rig.path("images");
    let first = Image::sample(&images, "first", 1500, 3);
    let layer = super::images::one_file_layer("Files/second.txt", b"second");
    let second = first.with_layer("second", &layer, super::images::TAR, &super::images::digest(&layer));
    for mode in Mode::BOTH {
        let running = [&first, &second].map(|image| rig.import(&image.archive, mode));
        for one in running {
            one.end().success();
        }
        let seen = super::pull::seen_through_containerd(&rig, &second.reference);
        assert!(seen.contains_key("second.txt") && seen.contains_key("Windows"), "{mode:?}");
        rig.remove_everything();
    }
}
