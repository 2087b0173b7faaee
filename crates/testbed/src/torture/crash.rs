//! Part 1: every operation, struck at every call that changes something.
//!
//! Each operation runs once undisturbed, to list its calls, and then once for each call and fault. Threads
//! and processes may interleave differently each time, so a point may strike another call, or none; the
//! checks do not depend on it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use super::Budget;
use super::check::{self, Outcome, Reference};
use super::depot::{Bench, Depot};
use super::operations::Operation;
use super::report::{Row, Table};
use super::tracer::{self, Fault};
use programs::error::{Error, Result, chain};
use sample_images::prng::Prng;

/// One run: the operation, the point and the fault.
#[derive(Clone, Copy, Debug)]
struct Strike {
    operation: usize,
    point: usize,
    fault: Fault,
}

/// The runs to make.
pub struct Selection<'a> {
    /// The operations.
    pub operations: Vec<&'static Operation>,
    /// Only this point.
    pub point: Option<usize>,
    /// Only these faults.
    pub faults: Vec<Fault>,
    /// The seed of their order.
    pub seed: u64,
    /// Runs at the same time.
    pub jobs: usize,
    /// The time limit.
    pub budget: &'a Budget,
}

/// Runs them and counts the results.
///
/// # Errors
/// If an undisturbed run fails, or nothing can be run at all. Findings of struck runs are in the table.
pub fn run(depot: &Depot, selection: &Selection<'_>) -> Result<Table> {
    let bench = Bench::new(depot)?;
    let mut references = Vec::new();
    for operation in &selection.operations {
        references.push(bench.reference(operation)?);
    }
    bench.clear()?;
    let strikes = plan(selection, &references);
    println!(
        "{} operations, {} calls that change something, {} runs planned",
        references.len(),
        references.iter().map(|reference| reference.calls.len()).sum::<usize>(),
        strikes.len()
    );
    let rows = selection.operations.iter().zip(&references);
    let table = Mutex::new(Table::new(rows.map(|(operation, r)| Row::new(operation.name, r.calls.len()))));
    let queue = Mutex::new(VecDeque::from(strikes));
    let worker = || -> Result<()> {
        let bench = Bench::new(depot)?;
        while let Some(strike) = next(&queue, selection.budget) {
            let operation = selection.operations[strike.operation];
            let result = strike_once(&bench, operation, &references[strike.operation], strike);
            record(&table, operation, strike, result, selection);
        }
        bench.clear()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..selection.jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(table.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// All runs, in an order that follows from the seed, so that a run that ends early has covered some of
/// everything.
fn plan(selection: &Selection<'_>, references: &[Reference]) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for (operation, reference) in references.iter().enumerate() {
        let several = reference.calls.iter().any(|call| call.program != reference.calls[0].program);
        for point in 0..reference.calls.len() {
            if selection.point.is_some_and(|only| only != point) {
                continue;
            }
            // With a single process, `kill` does the same.
            let faults = selection.faults.iter().filter(|&&fault| fault != Fault::KillOne || several);
            strikes.extend(faults.map(|&fault| Strike { operation, point, fault }));
        }
    }
    let mut random = Prng::named(selection.seed, b"crash");
    for i in (1..strikes.len()).rev() {
        strikes.swap(i, random.below(i as u64 + 1) as usize);
    }
    strikes
}

fn next(queue: &Mutex<VecDeque<Strike>>, budget: &Budget) -> Option<Strike> {
    if budget.is_over() {
        return None;
    }
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
}

/// The struck call, if any, and how much had been done by then.
type Struck = Result<(Option<String>, Outcome), (Option<String>, Error)>;

fn strike_once(bench: &Bench<'_>, operation: &Operation, reference: &Reference, strike: Strike) -> Struck {
    let early = |error| (None, error);
    bench.reset(operation).map_err(early)?;
    let command = (operation.command)(&bench.place);
    let traced =
        tracer::run(&command, &bench.log, Some((strike.point, strike.fault)), None).map_err(early)?;
    let call = traced.struck.as_ref().map(|call| format!("{} of {}", call.name, call.program));
    match check::after_fault(&bench.place, operation, reference, (&traced, strike.fault), &bench.log) {
        Ok(outcome) => Ok((call, outcome)),
        Err(error) => Err((call, error)),
    }
}

fn record(
    table: &Mutex<Table>,
    operation: &Operation,
    strike: Strike,
    result: Struck,
    selection: &Selection<'_>,
) {
    let mut table = table.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let row = table.row(strike.operation);
    match result {
        Ok((call, outcome)) => row.count(strike.fault, call.is_some(), outcome),
        Err((call, error)) => {
            row.fail(strike.fault);
            let call = call.unwrap_or_else(|| "no call: the run was shorter".into());
            println!(
                "FAILED {} at {} ({call}), {}: {}\n  repeat: cargo xtask torture --only crash --operation '{}' --point {} --fault {} --seed {}",
                operation.name,
                strike.point,
                strike.fault.name(),
                chain(&error),
                operation.name,
                strike.point,
                strike.fault.name(),
                selection.seed,
            );
        }
    }
    if table.is_time_to_report(Instant::now()) {
        println!("{}", table.progress());
    }
}
