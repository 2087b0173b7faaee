//! The report: one file with all answers of a Windows, for users to read and send.
//!
//! ```json
//! {
//!   "report": 1,
//!   "program": "0.1.0",
//!   "machine": { "windows": "Microsoft Windows [Version 10.0.20348.2322]", "build": 20348, … },
//!   "rows": [
//!     { "row": "mount", "confirms": ["volume name"], "verdict": "holds", "answer": "…", "seconds": 1.25,
//!       "calls": ["called PrepareLayer(…): 0x00000000", …] }
//!   ]
//! }
//! ```
//!
//! `verdict` is `holds`, `does not hold`, `not asked` (the machine lacks something) or `unfinished`: the
//! check ended during the row. `calls` are the calls of Microsoft's functions in the order that `hcs` logs
//! them, including those of child processes: name, arguments, result.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::private::Private;
use programs::error::{Error, IoContext, Result};

/// Most calls of one row in the report: enough for every row, and a bound for loops.
const MAXIMUM_CALLS: usize = 2_000;

/// A row's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Outcome {
    #[serde(rename = "holds")]
    Holds,
    #[serde(rename = "does not hold")]
    DoesNot,
    #[serde(rename = "not asked")]
    NotAsked,
    #[serde(rename = "unfinished")]
    Unfinished,
}

/// The machine in the report.
#[derive(Debug, Default, Serialize)]
pub(super) struct Machine {
    /// The output of `ver`: the version with its update.
    pub(super) windows: String,
    /// The build.
    pub(super) build: u32,
    pub(super) architecture: &'static str,
    pub(super) processors: usize,
    /// Whether the programs used a stand-in for Microsoft's side.
    pub(super) stand_in: bool,
    /// Whether an administrator runs the check.
    pub(super) administrator: bool,
    /// Whether Windows' own scanner runs.
    pub(super) defender: String,
    /// How the engine distinguishes starts of the machine: `boot` (Windows' count), `started` (a time), or
    /// not at all.
    pub(super) starts: String,
}

/// A row and its answer.
#[derive(Debug, Serialize)]
struct Row {
    row: &'static str,
    confirms: &'static [&'static str],
    verdict: Outcome,
    answer: String,
    seconds: f64,
    calls: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Content {
    report: u32,
    program: &'static str,
    machine: Machine,
    rows: Vec<Row>,
}

/// The report; written to its file after every row, in case Windows ends the check.
#[derive(Debug)]
pub(super) struct Report {
    path: PathBuf,
    private: Private,
    content: Content,
}

impl Report {
    pub(super) fn new(path: &Path, private: Private, mut machine: Machine) -> Result<Self> {
        machine.windows = private.hide(&machine.windows);
        let program = env!("CARGO_PKG_VERSION");
        let content = Content { report: 1, program, machine, rows: Vec::new() };
        let report = Self { path: path.to_owned(), private, content };
        report.save()?;
        Ok(report)
    }

    /// Begins a row; if the check ends in it, the report shows that.
    pub(super) fn begin(&mut self, row: &super::Row) -> Result<()> {
        self.content.rows.push(Row {
            row: row.name,
            confirms: row.confirms,
            verdict: Outcome::Unfinished,
            answer: String::new(),
            seconds: 0.0,
            calls: Vec::new(),
        });
        self.save()
    }

    /// Ends the current row.
    pub(super) fn end(
        &mut self,
        verdict: Outcome,
        answer: &str,
        took: Duration,
        calls: &[String],
    ) -> Result<()> {
        let Some(row) = self.content.rows.last_mut() else { return Ok(()) };
        row.verdict = verdict;
        row.answer = self.private.hide(answer);
        row.seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        row.calls = calls.iter().take(MAXIMUM_CALLS).map(|call| self.private.hide(call)).collect();
        if let more @ 1.. = calls.len().saturating_sub(MAXIMUM_CALLS) {
            row.calls.push(format!("and {more} more"));
        }
        self.save()
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.content)
            .map_err(|source| Error::Json { what: "the report".into(), source })?;
        fs::write(&self.path, text + "\n").at(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::ROWS;

    #[test]
    fn a_report_has_rows_with_answers_times_and_calls_and_nobodys_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let private = Private::new([("jane".to_owned(), "<user>")]);
        let machine = Machine { windows: "Windows of jane".into(), ..Machine::default() };
        let mut report = Report::new(&path, private, machine).unwrap();
        let read = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
        report.begin(&ROWS[0]).unwrap();
        assert_eq!(read()["rows"][0]["verdict"], "unfinished");
        let calls: Vec<String> = (0..MAXIMUM_CALLS + 2).map(|n| format!("called F(jane, {n}): 0")).collect();
        report.end(Outcome::DoesNot, "no: jane", Duration::from_millis(1250), &calls).unwrap();
        let (written, row) = (read(), read()["rows"][0].clone());
        assert_eq!(written["machine"]["windows"], "Windows of <user>");
        assert_eq!(row["row"], ROWS[0].name);
        assert_eq!(row["verdict"], "does not hold");
        assert_eq!(row["answer"], "no: <user>");
        assert_eq!(row["seconds"], 1.25);
        assert_eq!(row["calls"][1], "called F(<user>, 1): 0");
        assert_eq!(row["calls"][MAXIMUM_CALLS], "and 2 more");
        assert!(!row["confirms"].as_array().unwrap().is_empty());
    }
}
