//! What the command is tried on.
//!
//! * [`containerd`]: a containerd with our server, for tests and benchmarks;
//! * [`torture`]: kills, starves and races the command, `docs/torture.md`;
//! * [`mod@bench`]: measures it against other tools;
//! * [`corpus`]: what the fuzz targets start from.
//!
//! The program `testbed` is what `cargo xtask` runs of it. The command that it tries is beside it, built by
//! the same profile.

#[cfg(unix)]
pub mod bench;
#[cfg(unix)]
pub mod containerd;
pub mod corpus;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod torture;

use std::path::PathBuf;

use programs::error::{Error, IoContext as _, Result};

/// The command, which is built into the directory of this program.
///
/// # Errors
/// When it is not there.
pub fn command_beside() -> Result<PathBuf> {
    let program = std::env::current_exe().at("this program")?;
    let command = program.with_file_name(format!("windowsfilter{}", std::env::consts::EXE_SUFFIX));
    if command.is_file() {
        return Ok(command);
    }
    Err(Error::Missing(format!("{} is not built; give --binary, or run cargo xtask", command.display())))
}
