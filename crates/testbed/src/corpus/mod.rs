//! The corpora of the fuzz targets: what they start from, and what is kept of what they found.

mod kept;
mod seeds;

use std::path::{Path, PathBuf};

use programs::error::Result;
use programs::workspace;

fn fuzz_dir() -> PathBuf {
    workspace::root().join("fuzz")
}

/// Puts the seeds of `target` and the inputs that are kept in the repository into `dir`.
///
/// # Errors
/// When they cannot be read, or `dir` not be written.
pub fn fill(target: &str, dir: &Path) -> Result<()> {
    seeds::write(target, dir)?;
    kept::unpack(target, dir)
}

/// Keeps the inputs in `dir` for `target` instead of those that were kept before.
///
/// # Errors
/// When `dir` cannot be read, or the repository not be written.
pub fn keep(target: &str, dir: &Path) -> Result<()> {
    kept::pack(target, dir)
}
