//! A suite's results: JSON to keep, a table to read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::measure::{Measured, seconds};
use programs::error::{Error, IoContext, Result};

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The operation.
    pub what: String,
    /// Our cost.
    pub ours: String,
    /// The peer and its cost; empty if there is only a bound.
    pub peer: String,
    /// Our cost divided by the peer's; for rates, the peer's time divided by ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The target, in words.
    pub target: String,
    /// Whether it is met; `None` without a target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
}

impl Row {
    /// A time that must stay below a bound.
    #[must_use]
    pub fn time(what: &str, ours: f64, bound: f64) -> Self {
        Self {
            what: what.into(),
            ours: seconds(ours),
            peer: String::new(),
            ratio: None,
            target: format!("< {}", seconds(bound)),
            met: Some(ours < bound),
        }
    }

    /// A number of bytes that must not exceed a bound.
    #[must_use]
    pub fn bytes(what: &str, ours: u64, bound: u64) -> Self {
        let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        Self {
            what: what.into(),
            ours: mb(ours),
            peer: String::new(),
            ratio: None,
            target: format!("<= {}", mb(bound)),
            met: Some(ours <= bound),
        }
    }
}

/// A suite's measurements and conclusions.
#[derive(Clone, Debug, Serialize)]
pub struct Suite {
    /// Its name, and that of its file.
    pub name: &'static str,
    /// Sizes of the input.
    pub input: BTreeMap<&'static str, u64>,
    /// Every run of every contestant.
    pub measured: Vec<Measured>,
    /// The table.
    pub rows: Vec<Row>,
}

impl Suite {
    /// A suite without conclusions.
    #[must_use]
    pub fn new(name: &'static str, measured: Vec<Measured>) -> Self {
        Self { name, input: BTreeMap::new(), measured, rows: Vec::new() }
    }

    /// Records a size of the input.
    pub fn note(&mut self, name: &'static str, value: u64) {
        self.input.insert(name, value);
    }

    /// A contestant's runs.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Measured> {
        self.measured.iter().find(|one| one.name == name)
    }

    /// A contestant's median; 0 if it did not take part.
    #[must_use]
    pub fn seconds(&self, name: &str) -> f64 {
        self.find(name).map_or(0.0, Measured::seconds)
    }

    /// Adds a line.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a line whose time divided by the peer's must be at most `bound`.
    pub fn ratio_row(&mut self, what: &str, ours: &str, peer: &str, bound: f64) {
        self.compare(what, ours, peer, Some((format!("<= {bound:.2}"), &|ratio| ratio <= bound)));
    }

    /// Adds a line whose speed relative to the peer's must be at least `bound`: the ratio is the peer's
    /// time divided by ours.
    pub fn speed_row(&mut self, what: &str, ours: &str, peer: &str, bound: f64) {
        self.compare(
            what,
            peer,
            ours,
            Some((format!(">= {bound:.2} of its speed"), &|ratio| ratio >= bound)),
        );
        if let Some(row) = self.rows.last_mut() {
            (row.ours, row.peer) =
                (seconds_of(&self.measured, ours), format!("{peer}: {}", seconds_of(&self.measured, peer)));
        }
    }

    /// Adds a line without a target.
    pub fn compare_row(&mut self, what: &str, ours: &str, peer: &str) {
        self.compare(what, ours, peer, None);
    }

    /// Adds a line that compares two contestants' times without a part that others cause; each comes with
    /// the contestant for that part. The ratio must be at most `bound`.
    pub fn rest_row(&mut self, what: &str, ours: [&str; 2], peer: [&str; 2], bound: f64) {
        let rest = |[whole, part]: [&str; 2]| Some(self.find(whole)?.seconds() - self.find(part)?.seconds());
        let (Some(a), Some(b)) = (rest(ours), rest(peer)) else { return };
        self.judge(what, a, (peer[0], b), Some((format!("<= {bound:.2}"), &|ratio| ratio <= bound)));
    }

    fn compare(&mut self, what: &str, ours: &str, peer: &str, target: Option<Target<'_>>) {
        let (Some(a), Some(b)) = (self.find(ours), self.find(peer)) else { return };
        let (a, b) = (a.seconds(), b.seconds());
        self.judge(what, a, (peer, b), target);
    }

    fn judge(&mut self, what: &str, ours: f64, (peer, theirs): (&str, f64), target: Option<Target<'_>>) {
        let ratio = ours / theirs.max(1e-9);
        self.rows.push(Row {
            what: what.into(),
            ours: seconds(ours),
            peer: format!("{peer}: {}", seconds(theirs)),
            ratio: Some(ratio),
            met: target.as_ref().map(|(_, met)| met(ratio)),
            target: target.map_or_else(String::new, |(text, _)| text),
        });
    }
}

/// A bound in words, and a check for ratios.
type Target<'a> = (String, &'a dyn Fn(f64) -> bool);

fn seconds_of(measured: &[Measured], name: &str) -> String {
    seconds(measured.iter().find(|one| one.name == name).map_or(0.0, Measured::seconds))
}

/// The machine of the measurements.
#[derive(Debug, Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    memory_bytes: u64,
    kernel: String,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let first = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let kib: u64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            processor: first("/proc/cpuinfo", "model name"),
            memory_bytes: kib * 1024,
            // The version, without the build's host.
            kernel: release.trim().split('-').next().unwrap_or_default().to_owned(),
        }
    }

    fn text(&self) -> String {
        let gb = self.memory_bytes as f64 / f64::from(1 << 30);
        format!("{} cores ({}), {gb:.0} GiB, Linux {}", self.cores, self.processor, self.kernel)
    }
}

/// Writes `<dir>/<suite>.json`.
///
/// # Errors
/// If it cannot be written.
pub fn write_json(dir: &Path, suite: &Suite, machine: &Machine) -> Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        machine: &'a Machine,
        #[serde(flatten)]
        suite: &'a Suite,
    }
    fs::create_dir_all(dir).at(dir)?;
    let path = dir.join(format!("{}.json", suite.name));
    let json = serde_json::to_vec_pretty(&Document { machine, suite })
        .map_err(|source| Error::Json { what: path.display().to_string(), source })?;
    fs::write(&path, json).at(&path)
}

/// The table in Markdown.
#[must_use]
pub fn table(suites: &[Suite], machine: &Machine) -> String {
    let mut text = String::from(
        "| what | here | compared with | ratio | target | |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for row in suites.iter().flat_map(|suite| &suite.rows) {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let met = row.met.map_or("", |met| if met { "met" } else { "**missed**" });
        text.push_str(&format!(
            "| {} | {} | {} | {ratio} | {} | {met} |\n",
            row.what, row.ours, row.peer, row.target
        ));
    }
    let sizes = suites.iter().find(|suite| suite.name == "import").map_or_else(String::new, |suite| {
        let number = |name| suite.input.get(name).copied().unwrap_or_default();
        format!(
            " Import: one layer of {} entries, {:.2} GB of tar in {:.2} GB of gzip.",
            number("entries"),
            number("tar_bytes") as f64 / 1e9,
            number("blob_bytes") as f64 / 1e9
        )
    });
    text.push_str(&format!(
        "\nMedians of interleaved runs by `cargo xtask bench` on {}.{sizes}\n",
        machine.text()
    ));
    text
}

const START: &str = "<!-- bench:start -->";
const END: &str = "<!-- bench:end -->";

/// Puts the table between the markers of a document.
///
/// # Errors
/// [`Error::Unexpected`] if the document has no markers.
pub fn into_document(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).at(path)?;
    let missing = || Error::Unexpected(format!("{}: no lines {START} and {END}", path.display()));
    let (before, rest) = text.split_once(START).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    fs::write(path, format!("{before}{START}\n{table}{END}{after}")).at(path)
}

#[cfg(test)]
mod tests {
    use super::super::measure::Sample;
    use super::*;

    fn suite() -> Suite {
        let one = |name, seconds| Measured { name, samples: vec![Sample { seconds, ..Sample::default() }] };
        Suite::new("import", vec![one("ours", 1.0), one("theirs", 4.0)])
    }

    #[test]
    fn a_ratio_is_judged_by_its_bound() {
        let mut suite = suite();
        suite.ratio_row("import", "ours", "theirs", 0.35);
        suite.ratio_row("import", "ours", "theirs", 0.2);
        suite.ratio_row("import", "ours", "nobody", 0.2);
        assert_eq!(suite.rows.iter().map(|row| row.met).collect::<Vec<_>>(), [Some(true), Some(false)]);
    }

    #[test]
    fn a_speed_is_judged_the_other_way_round() {
        let mut suite = suite();
        suite.speed_row("read", "ours", "theirs", 0.9);
        assert_eq!((suite.rows[0].met, suite.rows[0].ours.as_str()), (Some(true), "1.00 s"));
        assert_eq!(suite.rows[0].peer, "theirs: 4.00 s");
    }

    #[test]
    fn the_table_replaces_what_is_between_the_markers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("a\n{START}\nold\n{END}\nz\n")).unwrap();
        into_document(file.path(), "new\n").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), format!("a\n{START}\nnew\n{END}\nz\n"));
        fs::write(file.path(), "nothing").unwrap();
        assert!(into_document(file.path(), "new\n").is_err());
    }
}
