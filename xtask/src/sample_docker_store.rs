//! `cargo xtask sample-docker-store`: a data root of Docker's on Windows, made up.

use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};

#[allow(dead_code, reason = "the tests that it belongs to use more of it")]
#[path = "../../crates/windowsfilter-image/tests/docker_store/home.rs"]
mod home;

/// Write a small data root as Docker on Windows has it, with one of everything that it is known to leave
/// behind.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory to make.
    out: PathBuf,
}

/// Writes it.
///
/// # Errors
/// When it is there already or cannot be written.
pub fn run(args: &Args) -> Result<()> {
    write(&args.out)
}

/// As [`run`], for tests.
///
/// # Errors
/// As [`run`].
pub fn write(out: &Path) -> Result<()> {
    if out.exists() {
        return Err(Error::Unexpected(format!("{} is there already", out.display())));
    }
    home::Home::sample(out).map(drop).at(out)
}
