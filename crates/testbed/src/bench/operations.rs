//! Operations on existing layers: mount, create, remove, commit. None may depend on the image's number of
//! files.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::measure::{Contestant, Sample, in_turns, settle, timed, timed_with_memory};
use super::report::{Row, Suite};
use super::store::Store;
use super::{Area, Args};
use programs::error::{IoContext, Result};
use sample_images::Spec;

const LARGE: &str = "bench:large";
const SMALL: &str = "bench:small";
const DEEP: &str = "bench:deep";
const WIDE: &str = "bench:wide";

/// Layers of the deep chain: as many as Docker allows.
const DEPTH: usize = 125;
/// Files changed before a commit.
const CHANGES: usize = 100;

/// Runs the suite.
pub(super) fn run(args: &Args, area: &Area) -> Result<Suite> {
    let store = Store::new(&area.binary, area.path("operations-store"));
    let (large, wide) = if args.quick { (3000, 5000) } else { (60_000, 100_000) };
    import(area, &store, LARGE, large, 3)?;
    import(area, &store, SMALL, 200, 1)?;
    import(area, &store, DEEP, 10_000, DEPTH)?;
    let wide_top = import(area, &store, WIDE, wide, 2)?;
    // Write files that are written on first use now, except for the wide image, where that is measured.
    for reference in [LARGE, SMALL, DEEP] {
        store.mount(reference)?;
        store.run(&["umount", reference])?;
    }
    settle()?;
    let measured = in_turns(args.rounds.max(5), contestants(&store, &wide_top))?;
    let mut suite = Suite::new("operations", measured);
    suite.note("large_entries", large as u64);
    suite.note("wide_entries", wide as u64);
    rows(&mut suite);
    store.delete()?;
    Ok(suite)
}

/// Imports an image of `entries` small files.
fn import(area: &Area, store: &Store, reference: &str, entries: usize, layers: usize) -> Result<String> {
    let layout = area.path("operations-image");
    let spec = Spec {
        seed: entries as u64,
        entries,
        bytes: entries as u64 * 1500,
        layers,
        compression: sample_images::Compression::Zstd,
        reference: reference.into(),
        ..Spec::default()
    };
    sample_images::write(&spec, &layout)?;
    let top = store.import(&layout, reference)?;
    fs::remove_dir_all(&layout).at(&layout)?;
    Ok(top)
}

fn contestants<'a>(store: &'a Store, wide_top: &'a str) -> Vec<Contestant<'a>> {
    vec![
        Contestant::new("start the tool", move || timed(&mut store.command(&["--version"]))),
        Contestant::new("create a sandbox", move || create(store)),
        Contestant::new("mount a sandbox", move || mount_sandbox(store)),
        Contestant::new("remove a sandbox", move || remove_sandbox(store)),
        Contestant::new("mount 125 layers", move || mount_ready(store, DEEP)),
        Contestant::new("remove a large layer", move || remove_copy(store)),
        Contestant::new("first mount, merging", move || first_mount(store, wide_top)),
        Contestant::new("commit 100 changes, large", move || commit(store, LARGE)),
        Contestant::new("commit 100 changes, small", move || commit(store, SMALL)),
        Contestant::new("mkfs.ext4 and mount", move || plain_ext4(store.root())),
    ]
}

fn create(store: &Store) -> Result<Sample> {
    let sample = timed(&mut store.command(&["create", LARGE, "--name", "bench-box"]))?;
    store.run(&["layer", "rm", "bench-box"])?;
    Ok(sample)
}

fn mount_sandbox(store: &Store) -> Result<Sample> {
    store.run(&["create", LARGE, "--name", "bench-box"])?;
    let sample = timed(&mut store.command(&["mount", "bench-box"]))?;
    store.run(&["umount", "bench-box"])?;
    store.run(&["layer", "rm", "bench-box"])?;
    Ok(sample)
}

fn remove_sandbox(store: &Store) -> Result<Sample> {
    store.run(&["create", LARGE, "--name", "bench-box"])?;
    timed(&mut store.command(&["layer", "rm", "bench-box"]))
}

fn mount_ready(store: &Store, reference: &str) -> Result<Sample> {
    let sample = timed(&mut store.command(&["mount", reference]))?;
    store.run(&["umount", reference])?;
    Ok(sample)
}

/// Copies the large image's base layer to another ID and times its removal.
fn remove_copy(store: &Store) -> Result<Sample> {
    let layers = store.ask(&["image", "inspect", LARGE])?;
    let base = layers["layers"][0]
        .as_str()
        .or_else(|| layers["layers"][0]["id"].as_str())
        .unwrap_or_default()
        .to_owned();
    let tar = store.layer(&base).join("layer.tar");
    store.run(&["layer", "apply", "bench-copy", &tar.to_string_lossy()])?;
    settle()?;
    timed(&mut store.command(&["layer", "rm", "bench-copy"]))
}

/// Deletes the merged index first, so that the mount rebuilds it.
fn first_mount(store: &Store, top: &str) -> Result<Sample> {
    let index = store.layer(top).join("chain.erofs");
    if index.exists() {
        fs::remove_file(&index).at(&index)?;
    }
    let sample = timed_with_memory(&store.command(&["mount", WIDE]))?;
    store.run(&["umount", WIDE])?;
    Ok(sample)
}

fn commit(store: &Store, reference: &str) -> Result<Sample> {
    store.run(&["create", reference, "--name", "bench-box"])?;
    let view = store.mount("bench-box")?;
    let dir = view.join("bench");
    fs::create_dir(&dir).at(&dir)?;
    for n in 0..CHANGES {
        let file = dir.join(format!("file{n}.txt"));
        fs::write(&file, format!("change {n}\n").repeat(100)).at(&file)?;
    }
    settle()?;
    let sample = timed(&mut store.command(&["commit", "bench-box", "--ref", "bench:committed"]))?;
    store.run(&["umount", "bench-box"])?;
    store.run(&["layer", "rm", "bench-box"])?;
    store.run(&["image", "rm", "bench:committed"])?;
    Ok(sample)
}

/// The cost of a sandbox without us: a sparse file of the same size, formatted and mounted.
fn plain_ext4(dir: &Path) -> Result<Sample> {
    let (image, point) = (dir.join("plain.img"), dir.join("plain"));
    fs::create_dir_all(&point).at(&point)?;
    let start = Instant::now();
    let file = fs::File::create(&image).at(&image)?;
    file.set_len(127 << 30).at(&image)?;
    programs::process::output(Command::new("mkfs.ext4").args(["-q", "-O", "ea_inode"]).arg(&image))?;
    programs::process::output(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point))?;
    let seconds = start.elapsed().as_secs_f64();
    programs::process::output(Command::new("umount").arg(&point))?;
    fs::remove_file(&image).at(&image)?;
    Ok(Sample { seconds, ..Sample::default() })
}

fn rows(suite: &mut Suite) {
    let bounds = [
        ("mount 125 layers", 0.010),
        ("create a sandbox", 0.060),
        ("remove a sandbox", 0.030),
        ("remove a large layer", 0.030),
        ("first mount, merging", 1.0),
    ];
    for (name, bound) in bounds {
        let seconds = suite.seconds(name);
        suite.push(Row::time(name, seconds, bound));
    }
    suite.compare_row("mount a sandbox", "mount a sandbox", "mkfs.ext4 and mount");
    suite.ratio_row(
        "commit 100 changes, large image",
        "commit 100 changes, large",
        "commit 100 changes, small",
        1.25,
    );
}
