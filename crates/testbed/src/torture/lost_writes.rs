//! Part 1, lost writes: the state after a power cut that loses everything that was not synced.
//!
//! Stores are on an ext4 in a file, and that ext4 writes only when told to. So a copy of the file, taken
//! when `fsync` or a similar call returns, is the disk after a power cut at any moment up to the next sync;
//! the last copy, taken when the command has ended, shows whether its success was durable. Each copy is
//! mounted as after a reboot, which replays the journal, and checked like a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Budget;
use super::area::{self, Area};
use super::check::{self, Reference};
use super::depot::{Bench, Depot};
use super::operations::Operation;
use super::report::{Row, Table};
use super::tracer::{self, Call, Fault, Traced};
use programs::error::{Error, IoContext, Result, chain};
use programs::process::output;

/// Runs the operations and checks the state after each sync.
///
/// # Errors
/// If an undisturbed run fails. Findings are in the table.
pub fn run(depot: &Depot, operations: &[&'static Operation], budget: &Budget) -> Result<Table> {
    // A program that writes in a sandbox does its own syncs.
    let operations: Vec<_> =
        operations.iter().filter(|operation| operation.name != "write in a sandbox").collect();
    let bench = Bench::new(depot)?;
    let mut table = Table::new(operations.iter().map(|operation| Row::new(operation.name, 0)));
    for (number, operation) in operations.iter().enumerate() {
        if budget.is_over() {
            break;
        }
        let reference = bench.reference(operation)?.rebooted();
        let copies = Copies::take(&bench, operation)?;
        table.row(number).points = copies.list.len();
        for (point, (copy, traced)) in copies.list.iter().enumerate() {
            match check_copy(depot, operation, &reference, (copy, traced), &bench.log) {
                Ok(outcome) => table.row(number).count(Fault::Kill, true, outcome),
                Err(error) => {
                    table.row(number).fail(Fault::Kill);
                    let after = traced.calls.last().map_or("nothing", |call| call.name);
                    println!(
                        "FAILED {}: power cut after sync {point} of {} ({after}): {}\n  repeat: cargo xtask torture --only lost-writes --operation '{}'",
                        operation.name,
                        copies.list.len(),
                        chain(&error),
                        operation.name
                    );
                }
            }
        }
        bench.clear()?;
    }
    Ok(table)
}

/// Copies of the disk, each with how much the command had done by then.
struct Copies {
    _dir: tempfile::TempDir,
    list: Vec<(PathBuf, Traced)>,
}

impl Copies {
    fn take(bench: &Bench<'_>, operation: &Operation) -> Result<Self> {
        bench.reset(operation)?;
        // Makes the initial state durable.
        output(Command::new("sync").arg("--file-system").arg(bench.area().path()))?;
        let dir = area::scratch()?;
        let mut list: Vec<(PathBuf, Traced)> = Vec::new();
        let mut calls = Vec::new();
        let copy = |number: usize| {
            let path = dir.path().join(format!("copy-{number}"));
            area::copy(&bench.area().image(), &path).map(|()| path)
        };
        let mut observer = |call: &Call, succeeded: bool| {
            calls.push(call.clone());
            if super::calls::is_sync(call.name) && succeeded {
                let so_far = Traced { code: None, calls: calls.clone(), struck: Some(call.clone()) };
                list.push((copy(list.len())?, so_far));
            }
            Ok(())
        };
        let traced = tracer::run(&(operation.command)(&bench.place), &bench.log, None, Some(&mut observer))?;
        if traced.code != Some(0) {
            return Err(Error::Unexpected(format!("{} fails undisturbed", operation.name)));
        }
        list.push((copy(list.len())?, traced));
        Ok(Self { _dir: dir, list })
    }
}

fn check_copy(
    depot: &Depot,
    operation: &Operation,
    reference: &Reference,
    (copy, traced): (&Path, &Traced),
    log: &Path,
) -> Result<check::Outcome> {
    let area = Area::of_copy(copy)?;
    let place = depot.place(&area.path());
    fs::create_dir_all(&place.aside).at(&place.aside)?;
    forget_boot(&place.root)?;
    let outcome = check::after_fault(&place, operation, reference, (traced, Fault::Kill), log);
    super::depot::clear(&place)?;
    outcome
}

/// Simulates a reboot, after which the records of mounts are from another boot. Here this also breaks their
/// seals; either way they count as none.
fn forget_boot(root: &Path) -> Result<()> {
    let mounts = root.join("mounts");
    for entry in fs::read_dir(&mounts).at(&mounts)? {
        let record = entry.at(&mounts)?.path().join("state.json");
        if let Ok(text) = fs::read_to_string(&record) {
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").at(&record)?;
            fs::write(&record, text.replace(boot.trim(), "another")).at(&record)?;
        }
    }
    Ok(())
}
