//! Measuring one command, and many in turns.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use programs::error::{Error, IoContext, Result};
use programs::process::{output, shown};

/// What one run of a contestant cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Largest resident memory of the command's processes, bytes; the kernel's memory not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss: Option<u64>,
    /// Page cache that holds the result afterwards, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_cache: Option<u64>,
    /// Seconds that writing the index took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<f64>,
}

/// Times a command.
///
/// # Errors
/// When it fails; its output is in the error.
pub fn timed(command: &mut Command) -> Result<Sample> {
    let start = Instant::now();
    output(command)?;
    Ok(Sample { seconds: start.elapsed().as_secs_f64(), ..Sample::default() })
}

/// Times a command and takes its peak memory. Adds about a millisecond: for commands that take many.
///
/// # Errors
/// When it fails, or `time` does not say what it measured.
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

/// Hashes a file as fast as the machine can.
pub fn sha256(file: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.args(["dgst", "-sha256"]).arg(file);
    command
}

/// Bytes of these files that are in the page cache.
///
/// # Errors
/// When fincore fails.
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

/// Reads a file so that it is in the page cache.
///
/// # Errors
/// When it cannot be read.
pub fn warm(file: &Path) -> Result<()> {
    let mut source = fs::File::open(file).at(file)?;
    std::io::copy(&mut source, &mut std::io::sink()).at(file).map(drop)
}

/// Waits until everything written so far is on the disk, so that nobody pays for somebody else's writes.
///
/// # Errors
/// When `sync` fails.
pub fn settle() -> Result<()> {
    output(Command::new("sync").stdin(Stdio::null())).map(drop)
}

/// One that takes part: what is not measured, what is, what puts things back.
pub struct Contestant<'a> {
    /// Name in the report.
    pub name: &'static str,
    /// Runs once and says what it cost. Preparing and cleaning up are its own business, outside of what it
    /// measures.
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
    /// The middle of its times, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.seconds).collect())
    }

    /// The largest memory of any run, bytes.
    #[must_use]
    pub fn peak_rss(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| sample.peak_rss).max()
    }

    /// The middle of the times that writing the index took, seconds.
    #[must_use]
    pub fn index(&self) -> Option<f64> {
        let times: Vec<f64> = self.samples.iter().filter_map(|sample| sample.index).collect();
        (!times.is_empty()).then(|| median(times))
    }

    /// The most page cache any run left, bytes.
    #[must_use]
    pub fn page_cache(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| sample.page_cache).max()
    }
}

/// The middle value, the mean of both middle ones for an even number; 0 of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Lets all contestants run in turns, `rounds` times: what disturbs the machine for a while disturbs all of
/// them. Each round starts with another one.
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

/// Seconds or milliseconds, as is easier to read.
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
