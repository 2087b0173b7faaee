//! From a compressed layer to a durable mount or readable files.
//!
//! For peers the time includes their writes and a sync of the file system. All read the blob from the page
//! cache. The floor is the slower of inflating and hashing alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::measure::{
    Contestant, Measured, Sample, in_turns, page_cache, settle, sha256, timed_with_memory, warm,
};
use super::report::{Row, Suite};
use super::store::Store;
use super::{Area, Args};
use programs::error::{Error, IoContext, Result};
use programs::mounts::unmount_below;
use programs::process::shown;
use sample_images::Spec;

const REF: &str = "bench:base";
/// Fixed part of an import's memory limit, bytes.
const MEMORY: u64 = 64 << 20;
/// Memory limit per entry, bytes.
const MEMORY_PER_ENTRY: u64 = 400;

/// Runs the suite.
pub(super) fn run(args: &Args, area: &Area) -> Result<Suite> {
    let layout = area.path("import-image");
    let spec = Spec {
        entries: args.entries,
        bytes: args.bytes,
        layers: 1,
        reference: REF.into(),
        ..Spec::default()
    };
    let summary = sample_images::write(&spec, &layout)?;
    let layer = &summary.layers[0];
    let blob = sample_images::image::blob_path(&layout, &layer.digests.digest);
    let tar = area.path("import-layer.tar");
    inflate(&blob, &tar)?;
    let measured = in_turns(args.rounds, contestants(args, area, &layout, &blob, &tar)?)?;
    fs::remove_file(&tar).at(&tar)?;
    let mut suite = Suite::new("import", measured);
    suite.note("entries", layer.entries as u64);
    suite.note("tar_bytes", layer.digests.tar_size);
    suite.note("blob_bytes", layer.digests.size);
    rows(&mut suite, layer.entries as u64);
    Ok(suite)
}

fn inflate(blob: &Path, tar: &Path) -> Result<()> {
    let source = fs::File::open(blob).at(blob)?;
    let mut target = fs::File::create(tar).at(tar)?;
    std::io::copy(&mut flate2::read::MultiGzDecoder::new(source), &mut target).at(tar)?;
    settle()
}

fn contestants<'a>(
    args: &Args,
    area: &'a Area,
    layout: &'a Path,
    blob: &'a Path,
    tar: &'a Path,
) -> Result<Vec<Contestant<'a>>> {
    let shell = move |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", script, "sh"]).arg(blob).current_dir(area.root());
        command
    };
    let unpack = move |script: &'static str| {
        move || {
            warm(blob)?;
            fs::create_dir(area.path("unpacked")).at("unpacked")?;
            settle()?;
            let sample = timed_with_memory(&shell(script));
            fs::remove_dir_all(area.path("unpacked")).at("unpacked")?;
            settle()?;
            sample
        }
    };
    let bundle =
        format!("umoci raw unpack --image import-image:{REF} unpacked/root >/dev/null && sync -f unpacked");
    let bundle: &'static str = bundle.leak();
    let mut contestants = vec![
        Contestant::new("windowsfilter import, mount", || ours(area, layout, blob)),
        Contestant::new("bsdtar -xzf", unpack("bsdtar -xzf \"$1\" -C unpacked && sync -f unpacked")),
        Contestant::new("igzip -dc", move || {
            warm(blob)?;
            timed_with_memory(&shell("igzip -dc \"$1\" > /dev/null"))
        }),
        Contestant::new("sha256 of the tar", move || {
            warm(tar)?;
            timed_with_memory(&sha256(tar))
        }),
    ];
    if !args.quick {
        let gnu = "tar --warning=no-unknown-keyword -xzf \"$1\" -C unpacked && sync -f unpacked";
        contestants.push(Contestant::new("GNU tar -xzf", unpack(gnu)));
        contestants.push(Contestant::new("umoci unpack", unpack(bundle)));
    }
    Ok(contestants)
}

/// Imports into a new store and mounts, so that no work is left for later. Also measures the page cache
/// that is left.
fn ours(area: &Area, layout: &Path, blob: &Path) -> Result<Sample> {
    let store = Store::new(&area.binary, area.path("import-store"));
    warm(blob)?;
    settle()?;
    let mut import = Command::new(&area.binary);
    import.arg("--verbose").arg("--root").arg(store.root()).args(["image", "import"]).arg(layout);
    import.args(["--ref", REF]);
    let mount = store.command(&["mount", REF]);
    let log = area.path("import-log");
    let mut both = Command::new("sh");
    both.args(["-euc", &format!("{} 2>{} && {}", shown(&import), log.display(), shown(&mount))]);
    let mut sample = timed_with_memory(&both)?;
    unmount_below(store.root());
    let mut files = Vec::new();
    for layer in fs::read_dir(store.root().join("layers")).at(store.root())? {
        let layer = layer.at(store.root())?.path();
        files.extend(
            ["layer.tar", "layer.erofs", "chain.erofs"]
                .map(|name| layer.join(name))
                .into_iter()
                .filter(|file| file.exists()),
        );
    }
    sample.page_cache = Some(page_cache(&files)?);
    sample.index = Some(index_seconds(&fs::read_to_string(&log).at(&log)?)?);
    store.delete()?;
    settle()?;
    Ok(sample)
}

/// Parses the tool's message about the index: `index of 70000 entries: 61.5 ms`.
fn index_seconds(log: &str) -> Result<f64> {
    let line = log.lines().find_map(|line| line.split_once("index of ")?.1.strip_suffix(" ms"));
    let milliseconds: Option<f64> = line.and_then(|line| line.rsplit_once(": ")?.1.parse().ok());
    let seconds = milliseconds.map(|milliseconds| milliseconds / 1000.0);
    seconds.ok_or_else(|| Error::Unexpected(format!("no time for the index in {log:?}")))
}

fn rows(suite: &mut Suite, entries: u64) {
    let ours = "windowsfilter import, mount";
    suite.ratio_row("import and mount, durable", ours, "bsdtar -xzf", 0.35);
    suite.ratio_row("import and mount, durable", ours, "igzip -dc", 1.5);
    suite.compare_row("import and mount, durable", ours, "GNU tar -xzf");
    suite.compare_row("import and mount, durable", ours, "umoci unpack");
    let floor = if suite.seconds("igzip -dc") > suite.seconds("sha256 of the tar") {
        "igzip -dc"
    } else {
        "sha256 of the tar"
    };
    suite.compare_row("import against the floor", ours, floor);
    if let Some(index) = suite.find(ours).and_then(Measured::index) {
        suite.push(Row::time("index of the layer, of the import", index, 0.2));
    }
    let Some(ours) = suite.find(ours).map(|ours: &Measured| (ours.peak_rss(), ours.page_cache())) else {
        return;
    };
    if let Some(rss) = ours.0 {
        suite.push(Row::bytes("import, peak memory", rss, MEMORY + MEMORY_PER_ENTRY * entries));
    }
    if let Some(cache) = ours.1 {
        suite.push(Row::bytes("import, page cache left", cache, 64 << 20));
    }
}
