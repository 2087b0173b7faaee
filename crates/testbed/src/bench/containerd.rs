//! containerd with our snapshotter and differ against its own snapshotters, on the Linux image with the
//! same files.
//!
//! All in one containerd 2, so that only the snapshotter differs. Every import starts with an empty content
//! store and ends when everything is on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::measure::{Contestant, Sample, in_turns, settle, timed, warm};
use super::report::{Row, Suite};
use super::{Area, Args};
use crate::containerd::daemon::Daemon;
use crate::containerd::{Installation, PLATFORM, SNAPSHOTTER};
use programs::error::{Error, IoContext, Result};
use programs::process::{output, shown};
use sample_images::{Spec, archive, linux};

/// Files changed before a diff.
const CHANGES: usize = 100;

const STORE_OURS: &str = "store blobs, Windows image";
const STORE_THEIRS: &str = "store blobs, Linux image";

/// An image and the snapshotter that unpacks it.
#[derive(Clone)]
struct Side {
    snapshotter: &'static str,
    platform: &'static str,
    reference: &'static str,
    archive: PathBuf,
}

/// Runs the suite.
pub(super) fn run(args: &Args, area: &Area) -> Result<Suite> {
    let entries = if args.quick { 3000 } else { 60_000 };
    let (ours, overlayfs, entries) = images(area, entries)?;
    let erofs = Side { snapshotter: "erofs", ..overlayfs.clone() };
    let running = Running::start(area)?;
    let mut contestants = Vec::new();
    for (name, side) in
        [("import, windowsfilter", &ours), ("import, overlayfs", &overlayfs), ("import, erofs", &erofs)]
    {
        contestants.push(Contestant::new(name, || running.import(side)));
    }
    // The time that containerd takes before it calls a snapshotter, a part of every import.
    for (name, side) in [(STORE_OURS, &ours), (STORE_THEIRS, &overlayfs)] {
        contestants.push(Contestant::new(name, || running.store(side)));
    }
    let mut measured = in_turns(args.rounds, contestants)?;
    running.load(&ours)?;
    running.load(&overlayfs)?;
    let contestants = vec![
        Contestant::new("start ctr", || timed(running.installation.ctr().arg("--version"))),
        Contestant::new("prepare and mount, windowsfilter", || running.prepare_and_mount(&ours)),
        Contestant::new("prepare and mount, overlayfs", || running.prepare_and_mount(&overlayfs)),
        Contestant::new("diff, windowsfilter", || running.diff(&ours)),
        Contestant::new("diff, overlayfs", || running.diff(&overlayfs)),
    ];
    measured.extend(in_turns(args.rounds.max(5), contestants)?);
    let mut suite = Suite::new("containerd", measured);
    suite.note("containerd_entries", entries);
    rows(&mut suite);
    Ok(suite)
}

/// Both images as archives, ours and the Linux one, and the number of entries in each.
fn images(area: &Area, entries: usize) -> Result<(Side, Side, u64)> {
    let (windows, plain) = (area.path("containerd-windows"), area.path("containerd-linux"));
    let ours = Side {
        snapshotter: SNAPSHOTTER,
        platform: PLATFORM,
        reference: "bench.example/windows:1",
        archive: windows.with_extension("tar"),
    };
    let theirs = Side {
        snapshotter: "overlayfs",
        platform: "linux/amd64",
        reference: "bench.example/linux:1",
        archive: plain.with_extension("tar"),
    };
    let spec = Spec {
        entries,
        bytes: entries as u64 * 20_000,
        layers: 1,
        reference: ours.reference.into(),
        ..Spec::default()
    };
    let summary = sample_images::write(&spec, &windows)?;
    let blob = sample_images::image::blob_path(&windows, &summary.layers[0].digests.digest);
    let entries = linux::write(&blob, theirs.reference, &plain)?;
    for layout in [&windows, &plain] {
        archive::directory(layout, &layout.with_extension("tar"))?;
        fs::remove_dir_all(layout).at(layout)?;
    }
    Ok((ours, theirs, entries))
}

/// Directory with containerd 2, provided by `cargo xtask`.
fn containerd_2() -> Result<PathBuf> {
    let variable = "WINDOWSFILTER_CONTAINERD_2";
    std::env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| Error::Missing(format!("{variable} is not set: run cargo xtask bench, which sets it")))
}

/// Both running daemons.
struct Running {
    installation: Installation,
    mnt: PathBuf,
    _containerd: Daemon,
    _server: Daemon,
}

impl Running {
    fn start(area: &Area) -> Result<Self> {
        let (dir, mnt) = (area.path("c"), area.path("containerd-mnt"));
        fs::create_dir(&mnt).at(&mnt)?;
        let programs = containerd_2()?;
        let installation = Installation { dir, programs, windowsfilter: area.binary.clone() };
        fs::create_dir(&installation.dir).at(&installation.dir)?;
        let erofs = "[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n  platform = \"linux/amd64\"\n  \
                     snapshotter = \"erofs\"\n  differ = \"erofs\"\n";
        installation.configure(&format!("{}\n{erofs}", installation.our_plugins()?))?;
        let server = installation.start_server(&[])?;
        let containerd = installation.start_containerd()?;
        Ok(Self { installation, mnt, _containerd: containerd, _server: server })
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut command = self.installation.ctr();
        command.args(args);
        command
    }

    fn snapshots(&self, side: &Side, args: &[&str]) -> Command {
        self.ctr(&[&["snapshots", "--snapshotter", side.snapshotter], args].concat())
    }

    fn import_command(&self, side: &Side) -> Command {
        let import = ["images", "import", "--platform", side.platform, "--snapshotter", side.snapshotter];
        let mut command = self.ctr(&import);
        command.arg(&side.archive);
        command
    }

    /// Times an import, then removes the image.
    fn import(&self, side: &Side) -> Result<Sample> {
        self.bring(side, &self.import_command(side))
    }

    /// Times an import without unpacking, then removes the image.
    fn store(&self, side: &Side) -> Result<Sample> {
        let mut command = self.ctr(&["images", "import", "--no-unpack", "--platform", side.platform]);
        command.arg(&side.archive);
        self.bring(side, &command)
    }

    /// Times `command`, which adds the image, until everything is on disk. Removes the image afterwards.
    fn bring(&self, side: &Side, command: &Command) -> Result<Sample> {
        warm(&side.archive)?;
        settle()?;
        let script = format!("{} && sync -f {}", shown(command), self.installation.dir.display());
        let sample = timed(Command::new("sh").args(["-euc", &script]))?;
        output(&mut self.ctr(&["images", "rm", "--sync", side.reference]))?;
        settle()?;
        Ok(sample)
    }

    /// Imports the image and keeps it.
    fn load(&self, side: &Side) -> Result<()> {
        output(&mut self.import_command(side)).map(drop)
    }

    /// The image's snapshot: it has one layer.
    fn top(&self, side: &Side) -> Result<String> {
        let list = output(&mut self.snapshots(side, &["ls"]))?;
        Ok(list.lines().nth(1).and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned())
    }

    fn prepare_and_mount(&self, side: &Side) -> Result<Sample> {
        let prepare = self.snapshots(side, &["prepare", "bench", &self.top(side)?]);
        let mounts = self.snapshots(side, &["mounts", &self.mnt.to_string_lossy(), "bench"]);
        let script = format!("{} && {} | sh", shown(&prepare), shown(&mounts));
        let sample = timed(Command::new("sh").args(["-euc", &script]))?;
        self.drop_sandbox(side)?;
        Ok(sample)
    }

    /// Changes files of a sandbox and times the diff.
    fn diff(&self, side: &Side) -> Result<Sample> {
        self.prepare_without_time(side)?;
        change(&self.mnt)?;
        settle()?;
        let blob = tempfile::NamedTempFile::new().at("temporary file")?;
        let script =
            format!("{} > {}", shown(&self.snapshots(side, &["diff", "bench"])), blob.path().display());
        let sample = timed(Command::new("sh").args(["-euc", &script]))?;
        self.drop_sandbox(side)?;
        Ok(sample)
    }

    fn prepare_without_time(&self, side: &Side) -> Result<()> {
        output(&mut self.snapshots(side, &["prepare", "bench", &self.top(side)?]))?;
        let mount = output(&mut self.snapshots(side, &["mounts", &self.mnt.to_string_lossy(), "bench"]))?;
        output(Command::new("sh").args(["-euc", &mount])).map(drop)
    }

    fn drop_sandbox(&self, side: &Side) -> Result<()> {
        output(Command::new("umount").arg(&self.mnt))?;
        output(&mut self.snapshots(side, &["rm", "bench"])).map(drop)
    }
}

fn change(view: &Path) -> Result<()> {
    let dir = view.join("bench");
    fs::create_dir(&dir).at(&dir)?;
    for n in 0..CHANGES {
        let file = dir.join(format!("file{n}.txt"));
        fs::write(&file, format!("change {n}\n").repeat(100)).at(&file)?;
    }
    Ok(())
}

fn rows(suite: &mut Suite) {
    let ours = "import, windowsfilter";
    suite.ratio_row("containerd: import, durable", ours, "import, overlayfs", 0.5);
    suite.ratio_row("containerd: import, durable", ours, "import, erofs", 0.5);
    for peer in ["import, overlayfs", "import, erofs"] {
        suite.rest_row(
            "containerd: import without storing blobs",
            [ours, STORE_OURS],
            [peer, STORE_THEIRS],
            0.5,
        );
    }
    let prepare = "prepare and mount, windowsfilter";
    suite.push(Row::time("containerd: prepare and mount", suite.seconds(prepare), 0.1));
    suite.compare_row("containerd: prepare and mount", prepare, "prepare and mount, overlayfs");
    suite.ratio_row("containerd: diff of 100 changes", "diff, windowsfilter", "diff, overlayfs", 0.05);
}
