//! `cargo xtask windows-host-check` under Wine: tests the check itself before users run it on a Windows
//! host.
//!
//! Once with a stand-in for Microsoft's side, where every row holds except those that neither Wine nor the
//! stand-in can show; and once without, where each row has a verdict, and the first says what is missing.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::chroot::Chroot;
use super::{PROFILE, built, cargo, empty_area, target_dir, wine_path};
use crate::product::{HOST_CHECK, Profile};
use programs::error::{Error, IoContext, Result};
use programs::process::{output, run as run_command};

/// Rows that do not hold under Wine, which renames directories with open files, does not replace open
/// files, has no alternate streams and keeps no access lists.
const NOT_SHOWN: [&str; 4] = ["streams by name", "exposed store", "open file", "replace"];
/// Rows for machines with Docker.
const NOT_ASKED: [&str; 2] = ["docker layer", "docker container"];
/// The report's name.
const REPORT: &str = "report.json";

/// Builds the check for Windows, and runs it twice.
///
/// # Errors
/// If it does not build or run, or a row has an unexpected verdict.
pub(super) fn check(chroot: &Chroot) -> Result<()> {
    run_command(&mut cargo(
        chroot,
        &["build", "--locked", "--profile", PROFILE, "-p", HOST_CHECK, "-p", "hcs-standin"],
    ))?;
    let area = empty_area("host-check")?;
    let base = area.join("base.tar");
    Profile::Dev.build(&[HOST_CHECK])?;
    let rows = output(Command::new(Profile::Dev.program(HOST_CHECK)).arg("rows"))?;
    let rows: Vec<&str> = rows.lines().collect();
    output(Command::new(Profile::Dev.program(HOST_CHECK)).arg("base").arg(&base))?;
    let stand_in = verdicts(chroot, &area, &base, true)?;
    for row in &rows {
        let verdict = if NOT_SHOWN.contains(row) {
            "DOES NOT "
        } else if NOT_ASKED.contains(row) {
            "not asked"
        } else {
            "holds    "
        };
        expect(row, &stand_in, verdict)?;
    }
    check_report(&area.join(REPORT), &rows)?;
    let without = verdicts(chroot, &area, &base, false)?;
    for row in ["functions", "base layer", "sandbox", "mount"] {
        expect(row, &without, "DOES NOT ")?;
    }
    Ok(())
}

/// The check's output.
fn verdicts(chroot: &Chroot, area: &Path, base: &Path, stand_in: bool) -> Result<String> {
    let mut command: Command = chroot.command("wine");
    command.arg(built(PROFILE, "windows-host-check.exe"));
    command.arg("--base").arg(wine_path(base));
    command.arg("--dir").arg(wine_path(&area.join("work")));
    command.arg("--program").arg(wine_path(&built(PROFILE, "windowsfilter.exe")));
    command.arg("--report").arg(wine_path(&area.join(REPORT)));
    if stand_in {
        // Its state is beside it.
        let library = area.join("hcs_standin.dll");
        std::fs::copy(built(PROFILE, "hcs_standin.dll"), &library).at(&library)?;
        command.arg("--hcs-library").arg(wine_path(&library));
    }
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|source| Error::Start { program: "unshare".into(), source })?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    println!("{}", text.trim_end());
    Ok(text)
}

fn expect(row: &str, verdicts: &str, verdict: &str) -> Result<()> {
    let line = format!("{verdict}  {row}: ");
    if verdicts.lines().any(|other| other.starts_with(&line)) {
        return Ok(());
    }
    Err(Error::Unexpected(format!("windows-host-check under Wine: no line {line:?}")))
}

/// Checks that the report has every row with its time, the calls of this process and its children, and
/// nothing private.
fn check_report(path: &Path, wanted: &[&str]) -> Result<()> {
    let text = std::fs::read_to_string(path).at(path)?;
    let wrong = |what: &str| Err(Error::Unexpected(format!("{}: {what}", path.display())));
    let report: Value = serde_json::from_str(&text)
        .map_err(|source| Error::Json { what: path.display().to_string(), source })?;
    let rows = report["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = rows.iter().filter_map(|row| row["row"].as_str()).collect();
    if names != wanted {
        return wrong("it has other rows");
    }
    let has_call = |row: &str, call: &str| {
        let row = rows.iter().find(|other| other["row"] == row);
        let calls = row.and_then(|row| row["calls"].as_array()).map_or(&[][..], Vec::as_slice);
        calls.iter().any(|line| line.as_str().is_some_and(|line| line.starts_with(call)))
    };
    for (row, call) in [
        ("base layer", "child: called ProcessBaseImage("),
        ("delta", "child: called ImportLayer("),
        ("mount", "called PrepareLayer("),
        ("mount", "answer of GetLayerMountPath: "),
    ] {
        if !has_call(row, call) {
            return wrong(&format!("row {row} has no line {call:?}"));
        }
    }
    let area = wine_path(&target_dir()).replace('\\', r"\\");
    if text.to_lowercase().contains(&area.to_lowercase()) {
        return wrong("it says where it was made");
    }
    Ok(())
}
