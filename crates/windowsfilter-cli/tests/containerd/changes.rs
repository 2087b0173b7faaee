//! A sandbox is changed with ordinary programs, and what comes out of containerd is what our own `commit`
//! gives.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use testbed::containerd::{PLATFORM, SNAPSHOTTER};

use super::compare::{assert_same, entries};
use super::images::{GZIP, Image, TAR, ZSTD, digest};
use super::process::run;
use super::pull::seen_through_containerd;
use super::registry::Registry;
use super::rig::{Mode, Rig, ask, tool};
use super::tools::Version;

with_each_containerd!(
    a_diff_is_entry_by_entry_what_our_own_commit_gives,
    a_diff_of_a_committed_layer_is_the_layer,
    a_committed_change_is_pushed_and_pulled_again,
    our_own_command_makes_an_image_of_a_sandbox,
    a_read_only_mount_refuses_writes_and_a_writable_one_keeps_them_to_itself,
);

/// What a person does to an image. Covers what becomes of an entry: new, changed, renamed, deleted, replaced
/// by another kind, and a directory that is deleted and made again. The inner quotes keep `setfattr` from
/// taking the text for bytes in hexadecimal.
const CHANGES: &str = r#"
cp /etc/os-release Users/Public/os-release.txt
echo '10.0.0.5 registry.local' >> Windows/System32/drivers/etc/hosts
mv License.txt Licence.txt
rm Windows/explorer.exe
mkdir 'Program Files/New'
cp Windows/notepad.exe 'Program Files/New/editor.exe'
ln 'Program Files/New/editor.exe' 'Program Files/New/second name.exe'
touch -d '2019-05-06 07:08:09.123456700 UTC' Windows/notepad.exe
setfattr -n user.DOSATTRIB -v '"0x23"' Windows/notepad.exe
rm -r Users/Default
mkdir Users/Default
echo again > Users/Default/again.txt
"#;

/// Does `CHANGES` in a mounted sandbox.
pub fn change(dir: &Path) {
    run(Command::new("sh").args(["-euc", CHANGES]).current_dir(dir)).success();
    rustix::fs::sync();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The layer that our own command makes of the same changes, in a store of its own.
fn committed_without_containerd(rig: &Rig, image: &Image) -> Vec<u8> {
    let store = rig.path("reference");
    ask(&store, &["image", "import", &image.archive.to_string_lossy(), "--ref", "reference:1"]);
    ask(&store, &["create", "reference:1", "--name", "box"]);
    let view = ask(&store, &["mount", "box"]);
    change(Path::new(view["path"].as_str().unwrap()));
    let committed = ask(&store, &["commit", "box", "--ref", "reference:2"]);
    let layer = run(&mut tool(&store, &["layer", "diff", committed["top"].as_str().unwrap()])).success();
    run(&mut tool(&store, &["umount", "box"])).success();
    layer
}

fn a_diff_is_entry_by_entry_what_our_own_commit_gives(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 600, 3);
    rig.import(&image.archive, Mode::Client).end().success();
    let began = now();
    let expected = committed_without_containerd(&rig, &image);
    let mnt = rig.path("mnt");
    rig.prepare("box", &image.top(), &mnt);
    change(&mnt);
    let plain = diff(&rig, "box", TAR);
    let changed = entries(&plain, began);
    assert_same(&entries(&expected, began), &changed, "diff of the sandbox");
    assert_eq!(changed["Files/Windows/notepad.exe"].record("MSWINDOWS.fileattr"), Some(&b"35"[..]));
    // The same store, the same sandbox: here not even a time may differ.
    let sandbox = rig.ask(&["layer", "ls"]);
    let sandbox = sandbox.as_array().unwrap().iter().find(|layer| layer["kind"] == "sandbox").unwrap();
    let ours = run(&mut rig.tool(&["layer", "diff", sandbox["id"].as_str().unwrap()])).success();
    assert!(ours == plain, "our own diff of the same sandbox is other bytes");
    assert!(inflate(&["gzip", "-dc"], &diff(&rig, "box", GZIP)) == plain, "gzip");
    assert!(inflate(&["zstd", "-dc"], &diff(&rig, "box", ZSTD)) == plain, "zstd");
    let error = run(&mut rig.ctr_snapshots(&["diff", "--media-type", "application/x-own", "box"])).failure();
    assert!(error.contains("application/x-own"), "{error}");
    rig.unmount(&mnt);
    rig.snapshots(&["rm", "box"]);
    rig.remove_everything();
}

/// `ctr snapshots diff`, kept in the content store or not.
fn diff(rig: &Rig, key: &str, media_type: &str) -> Vec<u8> {
    run(&mut rig.ctr_snapshots(&["diff", "--media-type", media_type, key])).success()
}

fn inflate(command: &[&str], blob: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), blob).unwrap();
    let mut inflate = Command::new(command[0]);
    let input = fs::File::open(file.path()).unwrap();
    let output = inflate.args(&command[1..]).stdin(input).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What came in goes out: the same bytes, because they were never taken apart.
fn a_diff_of_a_committed_layer_is_the_layer(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 3);
    rig.import(&image.archive, Mode::Transfer).end().success();
    for (name, diff_id) in image.chain_ids().iter().zip(&image.diff_ids) {
        assert_eq!(digest(&diff(&rig, name, TAR)), *diff_id);
    }
    // The last one's blob is still there from the first time.
    assert_eq!(digest(&diff(&rig, &image.top(), TAR)), *image.diff_ids.last().unwrap());
    rig.remove_everything();
}

fn a_committed_change_is_pushed_and_pulled_again(version: Version) {
    let rig = Rig::start(version);
    let registry = Registry::start(&rig.path(""));
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.import(&image.archive, Mode::Client).end().success();
    let mnt = rig.path("mnt");
    rig.prepare("box", &image.top(), &mnt);
    change(&mnt);
    rig.unmount(&mnt);
    // As a client commits a container: the diff becomes a layer of a new image, and of a snapshot of its own.
    let blob = diff(&rig, "box", GZIP);
    let changed = image.with_layer("changed", &blob, GZIP, &digest(&inflate(&["gzip", "-dc"], &blob)));
    rig.snapshots(&["commit", "committed", "box"]);
    let view = rig.path("view");
    rig.prepare("look", "committed", &view);
    let expected = super::compare::tree(&view);
    rig.unmount(&view);
    rig.import(&changed.archive, Mode::Client).end().success();
    let name = registry.name("changed");
    rig.ok(&["images", "tag", &changed.reference, &name]);
    rig.ok(&["images", "push", "--local", "--plain-http", "--platform", PLATFORM, &name]);
    rig.snapshots(&["rm", "look"]);
    rig.snapshots(&["rm", "committed"]);
    rig.remove_everything();
    let pull = ["images", "pull", "--local", "--plain-http", "--platform", PLATFORM, "--snapshotter"];
    rig.ok(&[&pull[..], &[SNAPSHOTTER, &name]].concat());
    assert_same(&expected, &seen_through_containerd(&rig, &name), "pulled again");
    rig.remove_everything();
}

fn our_own_command_makes_an_image_of_a_sandbox(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.import(&image.archive, Mode::Client).end().success();
    let mnt = rig.path("mnt");
    rig.prepare("box", &image.top(), &mnt);
    change(&mnt);
    let layers = rig.ask(&["layer", "ls"]);
    let sandbox = layers.as_array().unwrap().iter().find(|layer| layer["kind"] == "sandbox").unwrap();
    let (sandbox, changed) = (sandbox["id"].as_str().unwrap(), "registry.example/changed:1");
    rig.ask(&["image", "import", &image.archive.to_string_lossy()]);
    rig.ask(&["commit", sandbox, "--ref", changed]);
    let view = rig.ask(&["mount", changed]);
    let expected = super::compare::tree(Path::new(view["path"].as_str().unwrap()));
    rig.ask(&["umount", changed]);
    let archive = rig.path("changed.tar");
    rig.ask(&["image", "export", changed, &archive.to_string_lossy(), "--format", "oci-archive"]);
    // What is containerd's stays, and who wants it gone is told whom to ask.
    let refused = run(&mut rig.tool(&["layer", "rm", sandbox])).failure();
    assert!(
        refused.contains("containerd uses it") && refused.contains("snapshots --snapshotter"),
        "{refused}"
    );
    let top = image.top().replace("sha256:", "");
    rig.ask(&["image", "rm", &image.reference]);
    rig.ask(&["image", "rm", changed]);
    let refused = run(&mut rig.tool(&["layer", "rm", &top])).failure();
    assert!(refused.contains("of set default"), "{refused}");
    rig.unmount(&mnt);
    rig.snapshots(&["rm", "box"]);
    rig.import(&archive, Mode::Client).end().success();
    assert_same(&expected, &seen_through_containerd(&rig, changed), "imported again");
    rig.remove_everything();
}

fn a_read_only_mount_refuses_writes_and_a_writable_one_keeps_them_to_itself(version: Version) {
    let rig = Rig::start(version);
    let image = Image::sample(&rig.path("images"), "win", 400, 2);
    rig.import(&image.archive, Mode::Transfer).end().success();
    let (ro, rw) = (rig.path("ro"), rig.path("rw"));
    rig.mount_image(&image.reference, &ro);
    let refused = fs::write(ro.join("Users/Public/new.txt"), "no").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    fs::create_dir(&rw).unwrap();
    let mount = ["images", "mount", "--rw", "--platform", PLATFORM, "--snapshotter", SNAPSHOTTER];
    rig.ok(&[&mount[..], &[&image.reference, &*rw.to_string_lossy()]].concat());
    fs::write(rw.join("Users/Public/new.txt"), "yes").unwrap();
    assert!(!ro.join("Users/Public/new.txt").exists());
    rig.unmount_image(&rw);
    rig.unmount_image(&ro);
    rig.remove_everything();
}
