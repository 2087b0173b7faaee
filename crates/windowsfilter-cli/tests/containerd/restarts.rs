//! Daemons are restarted and machines reboot: what was committed, mounted and written is there afterwards.

use std::fs;

use programs::mounts::unmount_below;

use super::images::Image;
use super::rig::{Mode, Rig};
use super::tools::Version;
use super::wait;

with_each_containerd!(
    a_mounted_sandbox_outlives_restarts_of_both_daemons,
    after_a_reboot_sandboxes_and_views_are_mounted_again,
);

fn a_mounted_sandbox_outlives_restarts_of_both_daemons(version: Version) {
    let mut rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.import(&image.archive, Mode::Transfer).end().success();
    let mnt = rig.path("mnt");
    rig.prepare("box", &image.top(), &mnt);
    fs::write(mnt.join("before.txt"), "1").unwrap();
    rig.stop_server();
    fs::write(mnt.join("while down.txt"), "2").unwrap();
    rig.start_server();
    rig.stop_containerd();
    fs::write(mnt.join("without containerd.txt"), "3").unwrap();
    rig.start_containerd();
    reconnect(&rig);
    let other = rig.path("other");
    rig.mount_key("box", &other);
    for name in ["before.txt", "while down.txt", "without containerd.txt", "Windows"] {
        assert!(other.join(name).exists() && mnt.join(name).exists(), "{name}");
    }
    rig.unmount(&other);
    rig.unmount(&mnt);
    rig.snapshots(&["commit", "committed", "box"]);
    rig.snapshots(&["rm", "committed"]);
    rig.remove_everything();
}

/// Waits until containerd has found the server again: it tries at growing intervals. Most calls containerd
/// answers by itself where it knows of no snapshot; making one always reaches the server.
pub fn reconnect(rig: &Rig) {
    wait::until("containerd to find the server again", || {
        let ended = super::process::run(&mut rig.ctr_snapshots(&["prepare", "reconnect", ""]));
        if ended.status.success() { Ok(()) } else { Err(ended.stderr) }
    });
    rig.snapshots(&["rm", "reconnect"]);
}

/// A reboot takes all mounts and all of `/run`; disks stay.
fn after_a_reboot_sandboxes_and_views_are_mounted_again(version: Version) {
    let mut rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.import(&image.archive, Mode::Transfer).end().success();
    let mnt = rig.path("mnt");
    rig.prepare("box", &image.top(), &mnt);
    fs::write(mnt.join("kept.txt"), "1").unwrap();
    rig.unmount(&mnt);
    rig.kill_containerd();
    rig.kill_server();
    unmount_below(&rig.path(""));
    fs::remove_dir_all(rig.path("state")).unwrap();
    rig.start_server();
    rig.start_containerd();
    rig.mount_key("box", &mnt);
    assert_eq!(fs::read_to_string(mnt.join("kept.txt")).unwrap(), "1");
    assert!(mnt.join("Windows").is_dir());
    rig.unmount(&mnt);
    rig.mount_image(&image.reference, &mnt);
    assert!(mnt.join("Windows").is_dir());
    rig.unmount_image(&mnt);
    rig.snapshots(&["rm", "box"]);
    rig.remove_everything();
}
