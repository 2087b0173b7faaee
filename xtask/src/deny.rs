//! `cargo deny`: always checks licences, bans and sources; advisories if their database is available.
//!
//! The advisory database is a git repository on the network. A machine that cannot reach it still checks
//! everything else, and says that it did not check advisories.

use std::process::Command;

use crate::tools::cargo_deny;
use programs::error::Result;
use programs::process::{output, run};
use programs::workspace;

/// Runs the checks.
///
/// # Errors
/// If a check fails, or `cargo deny` can be neither found nor built.
pub(crate) fn run_checks() -> Result<()> {
    let program = cargo_deny()?;
    let deny = || {
        let mut command = Command::new(&program);
        command.current_dir(workspace::root());
        command
    };
    run(deny().args(["check", "bans", "licenses", "sources"]))?;
    match output(deny().args(["fetch", "db"])) {
        Ok(_) => run(deny().args(["check", "--disable-fetch", "advisories"])),
        Err(_) => {
            println!("advisories were not checked: their database cannot be reached from here");
            Ok(())
        }
    }
}
