//! The record of calls, and the calls that are to fail.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::code::Code;
use crate::state::{self, control, fatal, parse_code};

/// What a function comes to.
pub(crate) type Outcome = Result<(), Code>;

/// Calls that have begun and are not recorded yet. Held while the record is read or written.
static RUNNING: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs a call, unless it is to fail, and records it. Returns its `HRESULT`.
pub(crate) fn call(name: &str, args: Value, work: impl FnOnce() -> Outcome) -> i32 {
    let result = record(name, args, work);
    result.map_or_else(Code::hresult, |()| 0)
}

/// As [`call`], for functions that return a Win32 error.
pub(crate) fn call_win32(name: &str, args: Value, work: impl FnOnce() -> Outcome) -> u32 {
    record(name, args, work).map_or_else(Code::to_win32, |()| 0)
}

fn record(name: &str, args: Value, work: impl FnOnce() -> Outcome) -> Outcome {
    let nth = begin(name);
    let failure =
        control().fail.into_iter().find(|f| f.call == name && f.nth.is_none_or(|wanted| wanted == nth));
    let result = match failure {
        Some(failure) => Err(Code(parse_code(&failure.code))),
        // A panic must not pass a foreign frame.
        None => catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| fatal(&format!("panic in {name}"))),
    };
    let code = result.map_or_else(|code| code.0, |()| 0);
    append(name, &json!({"call": name, "nth": nth, "args": args, "result": format!("{code:#010x}")}));
    result
}

fn calls_path() -> PathBuf {
    std::env::var_os("HCS_STANDIN_CALLS").map_or_else(|| state::dir().join("calls.jsonl"), PathBuf::from)
}

/// Which call of the function this is.
fn begin(name: &str) -> u64 {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(calls_path()).unwrap_or_default();
    let calls = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let recorded = calls.filter(|call| call["call"] == name).count();
    running.push(name.to_owned());
    (recorded + running.iter().filter(|other| *other == name).count()) as u64
}

fn append(name: &str, record: &Value) {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
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
