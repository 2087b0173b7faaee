//! The corpus in the repository: for each target one archive of the smallest set of inputs with all the
//! coverage reached, without the longest ones if there are too many.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::fuzz_dir;
use programs::error::{IoContext, Result};

/// Most bytes of inputs to keep for a target, the shortest first; the archive compresses them to a
/// twentieth.
const MOST: u64 = 16 << 20;

fn directory() -> PathBuf {
    fuzz_dir().join("corpus")
}

fn archive(target: &str) -> PathBuf {
    directory().join(target).with_extension("tar.zst")
}

/// Unpacks the kept inputs of `target` into `dir`.
///
/// # Errors
/// If the archive cannot be read, or `dir` not be written.
pub(super) fn unpack(target: &str, dir: &Path) -> Result<()> {
    let path = archive(target);
    if !path.exists() {
        return Ok(());
    }
    let file = File::open(&path).at(&path)?;
    let inputs = zstd::Decoder::new(file).at(&path)?;
    tar::Archive::new(inputs).unpack(dir).at(&path)
}

/// Replaces the kept inputs of `target` by those in `dir`. The same inputs give the same archive.
///
/// # Errors
/// If `dir` cannot be read, or the archive not be written.
pub(super) fn pack(target: &str, dir: &Path) -> Result<()> {
    let path = archive(target);
    fs::create_dir_all(directory()).at(&path)?;
    let unfinished = path.with_extension("new");
    let file = File::create(&unfinished).at(&unfinished)?;
    let mut archive = tar::Builder::new(zstd::Encoder::new(file, 19).at(&path)?);
    archive.mode(tar::HeaderMode::Deterministic);
    for input in shortest(dir)? {
        archive.append_path_with_name(&input, input.file_name().unwrap_or_default()).at(&input)?;
    }
    archive.into_inner().and_then(zstd::Encoder::finish).at(&unfinished)?;
    fs::rename(&unfinished, &path).at(&path)
}

fn shortest(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        inputs.push((path.metadata().at(&path)?.len(), path));
    }
    inputs.sort();
    let mut bytes = 0;
    inputs.retain(|(size, _)| {
        bytes += size;
        bytes <= MOST
    });
    Ok(inputs.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_inputs_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for (name, size) in [("a", MOST as usize), ("b", 10), ("c", 20)] {
            fs::write(dir.path().join(name), vec![0; size]).unwrap();
        }
        assert_eq!(shortest(dir.path()).unwrap(), [dir.path().join("b"), dir.path().join("c")]);
    }

    #[test]
    fn the_corpora_are_less_than_5_mb() {
        let sizes = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        assert!(sizes.sum::<u64>() < 5_000_000);
    }
}
