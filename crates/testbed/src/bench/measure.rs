//! Measures commands, alone and in turns.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use programs::error::{Error, IoContext, Result};
use programs::process::{output, shown};

/// The cost of one run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Largest resident memory of the command's processes, bytes, without kernel memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss: Option<u64>,
    /// Page cache of the result afterwards, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_cache: Option<u64>,
    /// Seconds to write the index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<f64>,
}

/// Times a command.
///
/// # Errors
/// If it fails; the error has its output.
pub fn timed(command: &mut Command) -> Result<Sample> {
    let start = Instant::now();
    output(command)?;
    Ok(Sample { seconds: start.elapsed().as_secs_f64(), ..Sample::default() })
}

/// Times a command and its peak memory. Adds about a millisecond: for commands that take many.
///
/// # Errors
/// If it fails, or `time` does not print its measurements.
pub fn timed_with_memory(command: &Command) -> Result<Sample> {
    let report = tempfile::NamedTempFile::new().at("temporary file")?;
    let mut wrapped = Command::new("time");
    wrapped.args(["--quiet", "--format", "%M", "--output"]).arg(report.path());
    wrapped.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    let mut sample = timed(&mut wrapped)?;
    let text = fs::read_to_string(report.path()).at(report.path())?;
    let kib: u64 = text.trim().parse().map_err(|_| {
        Error::Unexpected(format!("time reported {:?} for {}, not kilobytes", text.trim(), shown(command)))
    })?;
    sample.peak_rss = Some(kib * 1024);
    Ok(sample)
}

/// A command that hashes a file as fast as the machine can.
pub fn sha256(file: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256"]).arg(file);
    command
}

/// Bytes of these files that are in the page cache.
///
/// # Errors
/// If fincore fails.
pub fn page_cache(files: &[impl AsRef<Path>]) -> Result<u64> {
    let mut command = Command::new("fincore");
    command.args(["--bytes", "--noheadings", "--output", "RES"]).args(files.iter().map(AsRef::as_ref));
    Ok(output(&mut command)?.lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum())
}

/// Writes everything back and empties the kernel's caches.
///
/// # Errors
/// Without root.
pub fn drop_caches() -> Result<()> {
    output(&mut Command::new("sync"))?;
    let knob = "/proc/sys/vm/drop_caches";
    fs::write(knob, "3").at(knob)
}

/// Reads a file into the page cache.
///
/// # Errors
/// If it cannot be read.
pub fn warm(file: &Path) -> Result<()> {
    let mut source = fs::File::open(file).at(file)?;
    std::io::copy(&mut source, &mut std::io::sink()).at(file).map(drop)
}

/// Waits until all earlier writes are on disk, so that they do not count against the next contestant.
///
/// # Errors
/// If `sync` fails.
pub fn settle() -> Result<()> {
    output(Command::new("sync").stdin(Stdio::null())).map(drop)
}

/// A contestant: preparation, the measured part, and clean-up.
pub struct Contestant<'a> {
    /// Name in the report.
    pub name: &'static str,
    /// Runs once and returns the cost. Preparation and clean-up are not measured.
    pub run: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

impl<'a> Contestant<'a> {
    /// A contestant.
    pub fn new(name: &'static str, run: impl FnMut() -> Result<Sample> + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// All runs of one contestant.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Its runs, in order.
    pub samples: Vec<Sample>,
}

impl Measured {
    /// The median time, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.seconds).collect())
    }

    /// The largest memory of any run, bytes.
    #[must_use]
    pub fn peak_rss(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| sample.peak_rss).max()
    }

    /// The median time to write the index, seconds.
    #[must_use]
    pub fn index(&self) -> Option<f64> {
        let times: Vec<f64> = self.samples.iter().filter_map(|sample| sample.index).collect();
        (!times.is_empty()).then(|| median(times))
    }

    /// The largest page cache that any run left, bytes.
    #[must_use]
    pub fn page_cache(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| sample.page_cache).max()
    }
}

/// The median, the mean of the two middle values for an even number; 0 for none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Runs all contestants in turns, `rounds` times: a disturbance of the machine affects all of them. Each
/// round starts with another one.
///
/// # Errors
/// The first failure of a run.
pub fn in_turns(rounds: usize, contestants: Vec<Contestant<'_>>) -> Result<Vec<Measured>> {
    let mut contestants = contestants;
    let mut measured: Vec<Measured> =
        contestants.iter().map(|one| Measured { name: one.name, samples: Vec::new() }).collect();
    let count = contestants.len();
    for round in 0..rounds {
        for turn in 0..count {
            let at = (round + turn) % count;
            let sample = (contestants[at].run)()?;
            eprintln!(
                "  round {}/{rounds} {:<28} {}",
                round + 1,
                contestants[at].name,
                seconds(sample.seconds)
            );
            measured[at].samples.push(sample);
        }
    }
    Ok(measured)
}

/// Seconds or milliseconds, whichever reads better.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    if seconds < 0.9995 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }

    #[test]
    fn contestants_run_in_turns_and_nobody_is_always_first() {
        let order = std::cell::RefCell::new(Vec::new());
        let run = |name: &'static str| {
            let order = &order;
            Contestant::new(name, move || {
                order.borrow_mut().push(name);
                Ok(Sample::default())
            })
        };
        let measured = in_turns(2, vec![run("a"), run("b")]).unwrap();
        assert_eq!(*order.borrow(), ["a", "b", "b", "a"]);
        assert!(measured.iter().all(|one| one.samples.len() == 2));
    }

    #[test]
    fn a_failing_command_is_no_sample() {
        assert!(timed(&mut Command::new("false")).is_err());
    }
}
