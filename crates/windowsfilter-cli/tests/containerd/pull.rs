//! Images come in, from archives and from a registry, unpacked by the daemon and by the client.

use std::collections::BTreeMap;
use std::path::Path;

use testbed::containerd::SNAPSHOTTER;

use super::compare::{Seen, assert_same, tree};
use super::images::{Image, TAR, digest, one_file_layer};
use super::process::run;
use super::registry::Registry;
use super::rig::{Mode, Rig, ask, tool};
use super::tools::Version;

with_each_containerd!(
    an_imported_image_is_seen_as_our_own_command_shows_it,
    a_pulled_image_is_seen_as_our_own_command_shows_it,
    images_share_the_layers_they_have_in_common,
    linux_images_are_still_unpacked_by_containerds_own_snapshotter,
);

/// What our command shows of an image from a store of its own, without containerd.
pub fn seen_without_containerd(rig: &Rig, image: &Image) -> BTreeMap<String, Seen> {
    let store = rig.path("reference");
    ask(&store, &["image", "import", &image.archive.to_string_lossy(), "--ref", "reference:1"]);
    let view = ask(&store, &["mount", "reference:1"]);
    let seen = tree(Path::new(view["path"].as_str().unwrap()));
    run(&mut tool(&store, &["umount", "reference:1"])).success();
    std::fs::remove_dir_all(store).unwrap();
    seen
}

/// What containerd shows of an image.
pub fn seen_through_containerd(rig: &Rig, reference: &str) -> BTreeMap<String, Seen> {
    let mnt = rig.path("mnt");
    rig.mount_image(reference, &mnt);
    let seen = tree(&mnt);
    rig.unmount_image(&mnt);
    seen
}

fn an_imported_image_is_seen_as_our_own_command_shows_it(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 600, 3);
    let expected = seen_without_containerd(&rig, &image);
    for mode in Mode::BOTH {
        rig.import(&image.archive, mode).end().success();
        let mut chain = image.chain_ids();
        chain.sort();
        assert_eq!(rig.snapshot_names(), chain, "{mode:?}: one snapshot for each layer");
        assert_same(&expected, &seen_through_containerd(&rig, &image.reference), &format!("{mode:?}"));
        rig.remove_everything();
    }
}

fn a_pulled_image_is_seen_as_our_own_command_shows_it(version: Version) {
    let rig = Rig::start(version);
    let registry = Registry::start(&rig.path(""));
    let image = Image::sample(&rig.path("images"), "win", 600, 3);
    let expected = seen_without_containerd(&rig, &image);
    let name = registry.put(&image, "win");
    // The transfer service of 1.7 ignores `--plain-http`.
    let modes = if version == Version::V1 { &[Mode::Client][..] } else { &Mode::BOTH };
    for &mode in modes {
        let pull = ["images", "pull", mode.flag(), "--plain-http", "--platform", "windows(10.0.20348)/amd64"];
        rig.ok(&[&pull[..], &["--snapshotter", SNAPSHOTTER, &name]].concat());
        assert_same(&expected, &seen_through_containerd(&rig, &name), &format!("{mode:?}"));
        rig.remove_everything();
    }
}

/// The second image's two lower layers are the first one's: they are there already, and stay when the first
/// goes.
fn images_share_the_layers_they_have_in_common(version: Version) {
    let rig = Rig::start(version);
    let small = Image::sample(&rig.path("images"), "small", 400, 2);
    let diff = one_file_layer("Files/added.txt", b"added");
    let large = small.with_layer("large", &diff, TAR, &digest(&diff));
    for mode in Mode::BOTH {
        rig.import(&small.archive, mode).end().success();
        let before = rig.layers();
        rig.import(&large.archive, mode).end().success();
        assert_eq!(rig.layers().len(), before.len() + 1, "{mode:?}: one layer more, not three");
        rig.ok(&["images", "rm", "--sync", &small.reference]);
        let seen = seen_through_containerd(&rig, &large.reference);
        assert!(seen.contains_key("added.txt") && seen.contains_key("Windows"), "{mode:?}");
        rig.remove_everything();
    }
}

/// The diff service asks our differ first, for Linux images too: it must say that they are none of its
/// business.
fn linux_images_are_still_unpacked_by_containerds_own_snapshotter(version: Version) {
    let rig = Rig::start(version);
    let image = Image::linux(&rig.path("images"), "linux");
    for mode in Mode::BOTH {
        let import =
            ["images", "import", mode.flag(), "--platform", "linux/amd64", "--snapshotter", "overlayfs"];
        rig.ok(&[&import[..], &[&*image.archive.to_string_lossy()]].concat());
        let names = rig.ok(&["snapshots", "--snapshotter", "overlayfs", "ls"]);
        assert!(names.contains(&image.top()), "{mode:?}: {names}");
        rig.ok(&["images", "rm", "--sync", &image.reference]);
    }
    assert!(rig.layers().is_empty());
}
