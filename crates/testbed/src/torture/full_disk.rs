//! Part 2: full and read-only disks, on every kind of file system.
//!
//! Nothing is injected: the file system really is nearly full. While it is full, the operation must report
//! it and leave nothing behind, and `fsck` and `cleanup` must work; then space is freed and everything is
//! checked as after a crash.

use std::fs;
use std::process::Command;

use super::Budget;
use super::area::{Area, Kind};
use super::check::{self, Outcome, Reference};
use super::depot::{Bench, Depot};
use super::operations::Operation;
use super::report::{Row, Table};
use super::tracer::{Fault, Traced};
use programs::error::{Error, IoContext, Result, chain};
use programs::process::output;
use sample_images::prng::Prng;

/// Upper bounds of the free space, KiB; the exact amount is random.
const LEFT: &[u64] = &[0, 8, 32, 128, 256, 512, 768, 1024, 1536, 2048, 3072];
/// Space for stores on each file system, bytes.
const ROOM: u64 = 48 << 20;

/// A small file system; kinds that have a minimum size are mostly filled for good.
fn bench(depot: &Depot, kind: Kind) -> Result<Bench<'_>> {
    let size = match kind {
        Kind::Ext4 | Kind::Tmpfs => 64 << 20,
        Kind::Btrfs => 128 << 20,
        Kind::Xfs => 320 << 20,
    };
    let bench = Bench::on(depot, kind, size)?;
    let ballast = bench.area().path().join("filled");
    fs::create_dir(&ballast).at(&ballast)?;
    let block = vec![1; 4 << 20];
    let mut count = 0;
    while available(bench.area())? > ROOM {
        let path = ballast.join(count.to_string());
        fs::write(&path, &block).at(&path)?;
        count += 1;
    }
    Ok(bench)
}

fn available(area: &Area) -> Result<u64> {
    let text = output(Command::new("df").args(["--block-size=1", "--output=avail"]).arg(area.path()))?;
    let bytes = text.lines().last().and_then(|line| line.trim().parse().ok());
    bytes.ok_or_else(|| Error::Unexpected(format!("df says {text:?}")))
}

/// Runs every operation on nearly full disks.
///
/// # Errors
/// If an undisturbed run fails. Findings are in the table.
pub fn run(depot: &Depot, operations: &[&'static Operation], seed: u64, budget: &Budget) -> Result<Table> {
    let kinds = Kind::ALL
        .iter()
        .flat_map(|kind| [format!("{} full", kind.name()), format!("{} read-only", kind.name())]);
    let mut table = Table::new(kinds.map(|name| Row::new(&name, operations.len())));
    let benches = Kind::ALL.iter().map(|&kind| bench(depot, kind)).collect::<Result<Vec<_>>>()?;
    let mut random = Prng::named(seed, b"full disk");
    let left = || LEFT.iter().copied().map(Some).chain([None]);
    let mut rounds: Vec<_> =
        (0..operations.len()).flat_map(|operation| left().map(move |left| (operation, left))).collect();
    for i in (1..rounds.len()).rev() {
        rounds.swap(i, random.below(i as u64 + 1) as usize);
    }
    let references =
        operations.iter().map(|operation| reference(&benches[0], operation)).collect::<Result<Vec<_>>>()?;
    for (operation, left) in rounds {
        let left = left.map(|most| random.between(most * 3 / 4, most));
        for (number, bench) in benches.iter().enumerate() {
            if budget.is_over() {
                return Ok(table);
            }
            let row = table.row(2 * number + usize::from(left.is_none()));
            let operation_ = operations[operation];
            match once(bench, operation_, &references[operation], left) {
                Ok(Some(outcome)) => row.count(Fault::Enospc, true, outcome),
                Ok(None) => {}
                Err(error) => {
                    row.fail(Fault::Enospc);
                    let how = left.map_or_else(|| "read-only".to_owned(), |left| format!("{left} KiB left"));
                    println!(
                        "FAILED {} on {} with {how}: {}\n  repeat: cargo xtask torture --only full-disk --operation '{}' --seed {seed}",
                        operation_.name,
                        Kind::ALL[number].name(),
                        chain(&error),
                        operation_.name
                    );
                }
            }
        }
    }
    benches.iter().try_for_each(Bench::clear)?;
    Ok(table)
}

/// Without mounts, which are undone before the comparison.
fn reference(bench: &Bench<'_>, operation: &Operation) -> Result<Reference> {
    let reference = bench.reference(operation)?;
    Ok(if operation.writes { reference } else { reference.rebooted() })
}

/// One run; `None` if the file system cannot be made read-only because a mounted sandbox writes to it.
fn once(
    bench: &Bench<'_>,
    operation: &Operation,
    reference: &Reference,
    left: Option<u64>,
) -> Result<Option<Outcome>> {
    bench.reset(operation)?;
    let starved = match left {
        Some(left) => Starved::full(bench.area(), left)?,
        None if bench.area().remount(false).is_ok() => Starved::ReadOnly(bench.area()),
        None => return Ok(None),
    };
    let (code, said) = check::tool(&(operation.command)(&bench.place))?;
    fs::write(&bench.log, &said).at(&bench.log)?;
    let traced = Traced { code: Some(code), calls: Vec::new(), struck: None };
    if left.is_none() {
        if code != 0 && !said.contains("ead-only") {
            return Err(Error::Unexpected(format!("it does not say that the store is read-only: {said}")));
        }
    } else {
        if code != 0 {
            check::what_it_said(&bench.place, operation, reference, (&traced, Fault::Enospc), &bench.log)?;
        }
        check::must(&bench.place, &["cleanup"])?;
    }
    drop(starved);
    // A sandbox that could not write stays read-only until its next mount, as after any disk error.
    if !operation.writes {
        check::unmount_all_with_losses(&bench.place)?;
    }
    check::after_fault(&bench.place, operation, reference, (&traced, Fault::Enospc), &bench.log).map(Some)
}

/// A full file system. Dropping this frees the space.
enum Starved<'a> {
    Full(&'a Area),
    ReadOnly(&'a Area),
}

impl<'a> Starved<'a> {
    /// Fills the file system up to `left` KiB.
    fn full(area: &'a Area, left: u64) -> Result<Self> {
        let full = Self::Full(area);
        let (spare, ballast) = (area.path().join("spare"), area.path().join("ballast"));
        fs::create_dir(&ballast).at(&ballast)?;
        if left > 0 {
            fs::write(&spare, vec![1; left as usize * 1024]).at(&spare)?;
        }
        // Real writes, not `fallocate`: some file systems satisfy reservations from reserves.
        for (number, size) in [16 << 20, 1 << 20, 64 << 10, 4 << 10].into_iter().enumerate() {
            let block = vec![1; size];
            let mut count = 0;
            while fs::write(ballast.join(format!("{number}-{count}")), &block).is_ok() {
                count += 1;
            }
        }
        output(Command::new("sync").arg("--file-system").arg(area.path()))?;
        if left > 0 {
            fs::remove_file(&spare).at(&spare)?;
            output(Command::new("sync").arg("--file-system").arg(area.path()))?;
        }
        Ok(full)
    }
}

impl Drop for Starved<'_> {
    fn drop(&mut self) {
        let result = match self {
            Self::Full(area) => output(
                Command::new("rm").arg("-rf").args(["spare", "ballast"].map(|name| area.path().join(name))),
            )
            .map(drop),
            Self::ReadOnly(area) => area.remount(true),
        };
        if let Err(error) = result {
            eprintln!("{error}");
        }
    }
}
