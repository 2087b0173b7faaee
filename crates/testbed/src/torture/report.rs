//! The table of faults and results.

use std::fmt;
use std::time::{Duration, Instant};

use super::check::Outcome;
use super::tracer::Fault;

/// One operation.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    /// Calls to strike.
    pub points: usize,
    runs: [u64; Fault::ALL.len()],
    missed: u64,
    before: u64,
    between: u64,
    after: u64,
    failed: u64,
}

impl Row {
    /// An operation with this number of calls to strike.
    #[must_use]
    pub fn new(name: &str, points: usize) -> Self {
        Self {
            name: name.to_owned(),
            points,
            runs: [0; Fault::ALL.len()],
            missed: 0,
            before: 0,
            between: 0,
            after: 0,
            failed: 0,
        }
    }

    fn run(&mut self, fault: Fault) {
        let column = Fault::ALL.iter().position(|&other| other == fault).unwrap_or_default();
        self.runs[column] += 1;
    }

    /// Counts a run without findings.
    pub fn count(&mut self, fault: Fault, struck: bool, outcome: Outcome) {
        self.run(fault);
        self.missed += u64::from(!struck);
        match outcome {
            Outcome::Before => self.before += 1,
            Outcome::Between => self.between += 1,
            Outcome::After => self.after += 1,
        }
    }

    /// Counts a run with a finding.
    pub fn fail(&mut self, fault: Fault) {
        self.run(fault);
        self.failed += 1;
    }

    fn total(&self) -> u64 {
        self.runs.iter().sum()
    }
}

/// All operations.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Row>,
    reported: Instant,
}

/// Interval between progress lines.
const INTERVAL: Duration = Duration::from_secs(30);

impl Table {
    /// A table of these operations.
    pub fn new(rows: impl Iterator<Item = Row>) -> Self {
        Self { rows: rows.collect(), reported: Instant::now() }
    }

    /// A row by its place.
    pub fn row(&mut self, number: usize) -> &mut Row {
        &mut self.rows[number]
    }

    /// Number of runs with findings.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.rows.iter().map(|row| row.failed).sum()
    }

    /// Number of runs in which the fault struck a call.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.rows.iter().map(|row| row.total() - row.missed).sum()
    }

    /// Whether the interval has passed since this last returned true.
    pub fn is_time_to_report(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.reported) > INTERVAL;
        if due {
            self.reported = now;
        }
        due
    }

    /// The progress, as text.
    #[must_use]
    pub fn progress(&self) -> String {
        let runs: u64 = self.rows.iter().map(Row::total).sum();
        format!("{runs} runs, {} failed", self.failures())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<26} {:>6}", "operation", "calls")?;
        for fault in Fault::ALL {
            write!(f, " {:>8}", fault.name())?;
        }
        writeln!(f, " | {:>7} {:>7} {:>7} {:>7} | {:>6}", "nothing", "part", "all", "unmet", "FAILED")?;
        for row in &self.rows {
            write!(f, "{:<26} {:>6}", row.name, row.points)?;
            for runs in row.runs {
                write!(f, " {runs:>8}")?;
            }
            let Row { before, between, after, missed, failed, .. } = row;
            writeln!(f, " | {before:>7} {between:>7} {after:>7} {missed:>7} | {failed:>6}")?;
        }
        write!(f, "{} faults struck a call, {} inconsistencies", self.struck(), self.failures())
    }
}
