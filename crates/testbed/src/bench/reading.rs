//! Walking and reading a mounted layer against the same layer unpacked to ext4, from the page cache and
//! from the disk; and verifying a layer against the least work for that, hashing its tar.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::measure::{Contestant, Sample, drop_caches, in_turns, settle, sha256, timed};
use super::report::Suite;
use super::store::Store;
use super::{Area, Args};
use programs::error::{Error, IoContext, Result};
use programs::process::output;
use sample_images::Spec;

const REF: &str = "bench:reading";

/// Runs the suite.
pub(super) fn run(args: &Args, area: &Area) -> Result<Suite> {
    let layout = area.path("reading-image");
    let spec = Spec {
        entries: args.entries,
        bytes: args.bytes,
        layers: 1,
        reference: REF.into(),
        ..Spec::default()
    };
    let spec = Spec { compression: sample_images::Compression::Zstd, ..spec };
    sample_images::write(&spec, &layout)?;
    let store = Store::new(&area.binary, area.path("reading-store"));
    let top = store.import(&layout, REF)?;
    fs::remove_dir_all(&layout).at(&layout)?;
    let unpacked = area.path("reading-unpacked");
    fs::create_dir(&unpacked).at(&unpacked)?;
    output(
        Command::new("bsdtar").arg("-xf").arg(store.layer(&top).join("layer.tar")).arg("-C").arg(&unpacked),
    )?;
    settle()?;
    let (view, plain) = (store.mount(REF)?, unpacked.join("Files"));
    same(&view, &plain)?;
    let mut contestants = contestants(&view, &plain);
    contestants.extend(verifiers(&store, &top));
    let measured = in_turns(args.rounds, contestants)?;
    store.run(&["umount", REF])?;
    store.delete()?;
    fs::remove_dir_all(&unpacked).at(&unpacked)?;
    let mut suite = Suite::new("reading", measured);
    suite.note("entries", args.entries as u64);
    suite.note("bytes", args.bytes);
    suite.speed_row("walk the mount, warm", "walk the mount, warm", "walk ext4, warm", 0.9);
    suite.speed_row("walk the mount, cold", "walk the mount, cold", "walk ext4, cold", 1.0);
    suite.speed_row("read the mount, warm", "read the mount, warm", "read ext4, warm", 0.9);
    suite.speed_row("read the mount, cold", "read the mount, cold", "read ext4, cold", 1.0);
    suite.ratio_row("layer verify, cold", "layer verify", "openssl dgst", 1.15);
    Ok(suite)
}

fn verifiers<'a>(store: &'a Store, top: &'a str) -> [Contestant<'a>; 2] {
    let tar = store.layer(top).join("layer.tar");
    let cold = |mut command: Command| {
        drop_caches()?;
        timed(&mut command)
    };
    [
        Contestant::new("layer verify", move || cold(store.command(&["layer", "verify", top]))),
        Contestant::new("openssl dgst", move || cold(sha256(&tar))),
    ]
}

fn contestants<'a>(view: &'a Path, plain: &'a Path) -> Vec<Contestant<'a>> {
    let walk = |dir: &'a Path, cold| move || visit(dir, false, cold);
    let read = |dir: &'a Path, cold| move || visit(dir, true, cold);
    vec![
        Contestant::new("walk the mount, cold", walk(view, true)),
        Contestant::new("walk ext4, cold", walk(plain, true)),
        Contestant::new("walk the mount, warm", walk(view, false)),
        Contestant::new("walk ext4, warm", walk(plain, false)),
        Contestant::new("read the mount, cold", read(view, true)),
        Contestant::new("read ext4, cold", read(plain, true)),
        Contestant::new("read the mount, warm", read(view, false)),
        Contestant::new("read ext4, warm", read(plain, false)),
    ]
}

/// Visits everything once; for a warm run, once more before.
fn visit(dir: &Path, read: bool, cold: bool) -> Result<Sample> {
    let mut seen = Seen { read, buffer: vec![0; 256 * 1024], ..Seen::default() };
    if cold {
        drop_caches()?;
    } else {
        seen.below(dir)?;
    }
    let start = Instant::now();
    seen.below(dir)?;
    Ok(Sample { seconds: start.elapsed().as_secs_f64(), ..Sample::default() })
}

/// The totals of a visit.
#[derive(Default)]
struct Seen {
    read: bool,
    buffer: Vec<u8>,
    entries: u64,
    bytes: u64,
}

impl Seen {
    /// Reads the metadata of everything below `dir`, and files if requested.
    fn below(&mut self, dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir).at(dir)? {
            let entry = entry.at(dir)?;
            let metadata = entry.metadata().at(dir)?;
            self.entries += 1;
            if metadata.is_dir() {
                self.below(&entry.path())?;
            } else if metadata.is_file() {
                self.bytes += metadata.len();
                if self.read {
                    self.drain(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    fn drain(&mut self, path: &Path) -> Result<()> {
        let mut file = fs::File::open(path).at(path)?;
        while file.read(&mut self.buffer).at(path)? > 0 {}
        Ok(())
    }
}

/// Checks that both trees have the same size, since the comparison is worthless otherwise. bsdtar unpacks
/// streams as separate files.
fn same(view: &Path, plain: &Path) -> Result<()> {
    let count = |dir: &Path| {
        let mut seen = Seen::default();
        seen.below(dir).map(|()| (seen.entries, seen.bytes))
    };
    let ((a, x), (b, y)) = (count(view)?, count(plain)?);
    if a.abs_diff(b) * 20 > b || x.abs_diff(y) * 20 > y {
        return Err(Error::Unexpected(format!(
            "the view has {a} entries, {x} bytes; unpacked it has {b}, {y}"
        )));
    }
    Ok(())
}
