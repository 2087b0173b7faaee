//! `cargo xtask windows-host-check` under Wine: what it would do on a Windows host, so that nobody has to
//! find out there that it does not run.
//!
//! Once with a stand-in for Microsoft's side, where every row holds but those that neither Wine nor it can
//! show; and once without, where each row has a verdict, and the first says what is missing.

use std::path::Path;
use std::process::{Command, Stdio};

use super::chroot::Chroot;
use super::{PROFILE, built, cargo, empty_area, wine_path};
use crate::error::{Error, IoContext, Result};
use crate::process::run as run_command;
use crate::windows_host_check::{ROWS, layers};

/// Rows that do not hold under Wine, which renames directories in which files are open and replaces no file
/// that is, or with the stand-in, whose ImportLayer puts nothing of the parents into a layer, so that a
/// deletion in it has nothing to delete.
const NOT_SHOWN: [&str; 4] = ["delta mount", "stuck disk", "open file", "replace"];

/// Builds the check for Windows, and runs it twice.
///
/// # Errors
/// When it does not build or run, or a row has another verdict than it should.
pub(super) fn check(chroot: &Chroot) -> Result<()> {
    run_command(&mut cargo(
        chroot,
        &["build", "--locked", "--profile", PROFILE, "-p", "xtask", "-p", "hcs-standin"],
    ))?;
    let area = empty_area("host-check")?;
    let base = area.join("base.tar");
    std::fs::write(&base, layers::base()?).at(&base)?;
    let stand_in = verdicts(chroot, &area, &base, true)?;
    for row in ROWS {
        expect(row, &stand_in, !NOT_SHOWN.contains(&row))?;
    }
    let without = verdicts(chroot, &area, &base, false)?;
    for row in ["functions", "base layer", "sandbox", "mount"] {
        expect(row, &without, false)?;
    }
    Ok(())
}

/// What the check prints.
fn verdicts(chroot: &Chroot, area: &Path, base: &Path, stand_in: bool) -> Result<String> {
    let mut command: Command = chroot.command("wine");
    command.arg(built(PROFILE, "xtask.exe")).arg("windows-host-check");
    command.arg("--base").arg(wine_path(base));
    command.arg("--dir").arg(wine_path(&area.join("work")));
    command.arg("--program").arg(wine_path(&built(PROFILE, "windowsfilter.exe")));
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

fn expect(row: &str, verdicts: &str, holds: bool) -> Result<()> {
    let verdict = if holds { "holds      " } else { "DOES NOT   " };
    if verdicts.lines().any(|line| line.starts_with(&format!("{verdict}{row}: "))) {
        return Ok(());
    }
    Err(Error::Unexpected(format!("windows-host-check under Wine: no line {:?}", format!("{verdict}{row}"))))
}
