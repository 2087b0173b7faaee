//! Records calls, and makes calls fail on request.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::code::Code;
use crate::state::{self, control, fatal, parse_code};

/// The result of a function.
pub(crate) type Outcome = Result<(), Code>;

/// The state of the record. Locked while the record is read or written.
#[derive(Default)]
struct Known {
    /// Calls that have begun and are not recorded yet.
    running: Vec<String>,
    /// The number of calls of each function in the first [`Self::length`] bytes.
    counts: BTreeMap<String, u64>,
    length: u64,
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// Runs a call, unless a test wants it to fail, and records it. Returns its `HRESULT`.
pub(crate) fn call(name: &str, args: Value, work: impl FnOnce() -> Outcome) -> i32 {
    let result = record(name, args, work);
    result.map_or_else(Code::hresult, |()| 0)
}

/// Like [`call`], for functions that return a Win32 error.
pub(crate) fn call_win32(name: &str, args: Value, work: impl FnOnce() -> Outcome) -> u32 {
    record(name, args, work).map_or_else(Code::to_win32, |()| 0)
}

fn record(name: &str, args: Value, work: impl FnOnce() -> Outcome) -> Outcome {
    let nth = begin(name);
    let failure =
        control().fail.into_iter().find(|f| f.call == name && f.nth.is_none_or(|wanted| wanted == nth));
    let result = match failure {
        Some(failure) => Err(Code(parse_code(&failure.code))),
        // A panic must not unwind through a foreign frame.
        None => catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| fatal(&format!("panic in {name}"))),
    };
    let code = result.map_or_else(|code| code.0, |()| 0);
    append(name, &json!({"call": name, "nth": nth, "args": args, "result": format!("{code:#010x}")}));
    result
}

fn calls_path() -> PathBuf {
    std::env::var_os("HCS_STANDIN_CALLS").map_or_else(|| state::dir().join("calls.jsonl"), PathBuf::from)
}

/// The number of this call of the function.
fn begin(name: &str) -> u64 {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Err(e) = known.read_on() {
        fatal(&format!("{}: {e}", calls_path().display()));
    }
    known.running.push(name.to_owned());
    let running = known.running.iter().filter(|other| *other == name).count() as u64;
    known.counts.get(name).copied().unwrap_or_default() + running
}

impl Known {
    /// Reads the calls that this and other processes have recorded since; from the beginning, if the record
    /// was removed.
    fn read_on(&mut self) -> io::Result<()> {
        let mut file = match File::open(calls_path()) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (self.counts, self.length) = Default::default();
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        if file.metadata()?.len() < self.length {
            (self.counts, self.length) = Default::default();
        }
        file.seek(SeekFrom::Start(self.length))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that is just being written counts once it is complete.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.length += whole as u64;
        let calls = text[..whole].lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for name in calls.filter_map(|call| Some(call["call"].as_str()?.to_owned())) {
            *self.counts.entry(name).or_default() += 1;
        }
        Ok(())
    }
}

fn append(name: &str, record: &Value) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let running = &mut known.get_or_insert_default().running;
    if let Some(at) = running.iter().position(|other| other == name) {
        running.swap_remove(at);
    }
    let path = calls_path();
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{record}\n").as_bytes()));
    if let Err(e) = written {
        fatal(&format!("{}: {e}", path.display()));
    }
}
