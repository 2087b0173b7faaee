//! containerd's garbage collection removes every snapshot it lists and does not know: it must see its own and
//! no other.

use testbed::containerd::{PLATFORM, SNAPSHOTTER};

use super::images::Image;
use super::rig::{Mode, Rig};
use super::tools::Version;
use super::wait;

with_each_containerd!(
    garbage_collection_leaves_what_our_command_imported,
    a_sandbox_and_a_view_go_when_nobody_needs_them,
);

fn garbage_collection_leaves_what_our_command_imported(version: Version) {
    let rig = Rig::start(version);
    let images = rig.path("images");
    let (theirs, ours) = (Image::sample(&images, "theirs", 400, 2), Image::sample(&images, "ours", 500, 2));
    rig.ask(&["image", "import", &ours.archive.to_string_lossy(), "--ref", "ours:1"]);
    rig.ask(&["create", "ours:1", "--name", "own-box"]);
    let own = rig.layers();
    rig.import(&theirs.archive, Mode::Transfer).end().success();
    rig.ok(&["images", "rm", "--sync", &theirs.reference]);
    wait::until("removal of containerd's layers", || {
        let layers = rig.layers();
        if layers == own { Ok(()) } else { Err(format!("{layers:?}, wanted {own:?}")) }
    });
    // An image of both, from both sides: neither's removal takes it from the other.
    rig.import(&ours.archive, Mode::Transfer).end().success();
    rig.ok(&["images", "rm", "--sync", &ours.reference]);
    wait::until("removal of containerd's snapshots", || {
        let names = rig.snapshot_names();
        if names.is_empty() { Ok(()) } else { Err(format!("{names:?}")) }
    });
    rig.ask(&["image", "inspect", "ours:1"]);
    rig.check_store();
}

fn a_sandbox_and_a_view_go_when_nobody_needs_them(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.import(&image.archive, Mode::Client).end().success();
    let layers = rig.layers();
    let mnt = rig.path("mnt");
    rig.prepare("box", &image.top(), &mnt);
    rig.unmount(&mnt);
    assert_eq!(rig.layers().len(), layers.len() + 1);
    rig.snapshots(&["rm", "box"]);
    wait::until("removal of the sandbox", || {
        let now = rig.layers();
        if now == layers { Ok(()) } else { Err(format!("{now:?}")) }
    });
    // The view's lease goes with the unmount.
    rig.mount_image(&image.reference, &mnt);
    let names = rig.snapshot_names().len();
    rig.unmount_image(&mnt);
    wait::until("removal of the view", || {
        let now = rig.snapshot_names().len();
        if now + 1 == names { Ok(()) } else { Err(format!("{now} snapshots, had {names}")) }
    });
    let usage = rig.ok(&["images", "usage", "--snapshotter", SNAPSHOTTER, &image.reference]);
    assert!(!usage.is_empty(), "{PLATFORM}");
    rig.remove_everything();
}
