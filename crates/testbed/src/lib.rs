//! The test bed of the command.
//!
//! * [`containerd`]: a containerd with our server, for tests and benchmarks;
//! * [`torture`]: kills, starves and races the command, `docs/torture.md`;
//! * [`mod@bench`]: measures it against other tools;
//! * [`corpus`]: the seeds of the fuzz targets.
//!
//! `cargo xtask` runs the program `testbed`. It expects the command in its own directory, built by the same
//! profile.

#[cfg(unix)]
pub mod bench;
#[cfg(unix)]
pub mod containerd;
pub mod corpus;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod torture;

use std::path::PathBuf;

use programs::error::{Error, IoContext as _, Result};

/// The command in this program's directory.
///
/// # Errors
/// If it is missing.
pub fn command_beside() -> Result<PathBuf> {
    let program = std::env::current_exe().at("this program")?;
    let command = program.with_file_name(format!("windowsfilter{}", std::env::consts::EXE_SUFFIX));
    if command.is_file() {
        return Ok(command);
    }
    Err(Error::Missing(format!("{} is not built; give --binary, or run cargo xtask", command.display())))
}
