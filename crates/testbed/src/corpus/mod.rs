//! The corpora of the fuzz targets: their seeds, and the inputs to keep.

mod kept;
mod seeds;

use std::path::{Path, PathBuf};

use programs::error::Result;
use programs::workspace;

fn fuzz_dir() -> PathBuf {
    workspace::root().join("fuzz")
}

/// Writes the seeds of `target` and its inputs kept in the repository into `dir`.
///
/// # Errors
/// If they cannot be read, or `dir` not be written.
pub fn fill(target: &str, dir: &Path) -> Result<()> {
    seeds::write(target, dir)?;
    kept::unpack(target, dir)
}

/// Replaces the kept inputs of `target` by those in `dir`.
///
/// # Errors
/// If `dir` cannot be read, or the repository not be written.
pub fn keep(target: &str, dir: &Path) -> Result<()> {
    kept::pack(target, dir)
}
