//! Bad images and bad set-ups: a clear error for the client, and nothing left behind.

use super::images::{GZIP, Image, TAR, digest, one_file_layer};
use super::process::run;
use super::rig::{Mode, Rig};
use super::tools::Version;

with_each_containerd!(
    a_layer_that_is_not_what_the_image_says_leaves_nothing_behind,
    without_our_differ_unpacking_fails_and_says_what_to_set,
    while_the_server_is_down_an_import_fails_and_later_it_succeeds,
    a_full_disk_fails_the_import_and_leaves_nothing_behind,
);

fn a_layer_that_is_not_what_the_image_says_leaves_nothing_behind(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 1);
    let layer = one_file_layer("Files/a.txt", b"content");
    let wrong_digest = image.with_layer("wrong-digest", &layer, TAR, &digest(b"another layer"));
    // In the middle of the file's bytes.
    let cut = &layer[..515];
    let cut_off = image.with_layer("cut-off", cut, TAR, &digest(cut));
    let not_gzip = [&[0x1f, 0x8b, 8][..], &[7; 500]].concat();
    let damaged = image.with_layer("damaged", &not_gzip, GZIP, &digest(&layer));
    for image in [wrong_digest, cut_off, damaged] {
        for mode in Mode::BOTH {
            let error = rig.import(&image.archive, mode).end().failure();
            eprintln!("{} {mode:?}: {error}", image.reference);
            _ = run(&mut rig.ctr(&["images", "rm", "--sync", &image.reference]));
            rig.remove_everything();
        }
    }
}

/// The client's unpack with containerd's own differ would look like success and drop all that only Windows
/// knows of.
fn without_our_differ_unpacking_fails_and_says_what_to_set(version: Version) {
    let rig = Rig::start_without_differ(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 1);
    let error = rig.import(&image.archive, Mode::Client).end().failure();
    assert!(error.contains("no such device") || error.contains("windowsfilter-diff"), "{error}");
    rig.remove_everything();
}

fn while_the_server_is_down_an_import_fails_and_later_it_succeeds(version: Version) {
    let mut rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.stop_server();
    let error = rig.import(&image.archive, Mode::Client).end().failure();
    assert!(error.to_lowercase().contains("unavailable") || error.contains("connect"), "{error}");
    rig.start_server();
    super::wait::until("import after the server is back", || {
        // containerd's connection waits before it tries again.
        let ended = rig.import(&image.archive, Mode::Client).end();
        if ended.status.success() { Ok(()) } else { Err(ended.failure()) }
    });
    rig.remove_everything();
}

/// The store is on a file system that is too small for the second layer's tar.
fn a_full_disk_fails_the_import_and_leaves_nothing_behind(version: Version) {
    let rig = Rig::start_on_a_small_disk(version, 48 << 20);
    let image = Image::sample(&rig.path("images"), "win", 400, 1);
    let large = one_file_layer("Files/large.bin", &vec![1; 64 << 20]);
    let large = image.with_layer("large", &large, TAR, &digest(&large));
    let error = rig.import(&large.archive, Mode::Client).end().failure();
    assert!(error.contains("No space left on device") || error.contains("no space left"), "{error}");
    _ = run(&mut rig.ctr(&["images", "rm", "--sync", &large.reference]));
    rig.remove_everything();
    rig.import(&image.archive, Mode::Client).end().success();
    rig.remove_everything();
}
