//! A layer of real Windows programs: the PE files that Debian packages ship, as an application in `Files`.
//!
//! Not reproducible between machines, as packages differ; everything else is that of a generated layer.

use std::path::{Path, PathBuf};

use super::base::INSTALLED;
use super::plan::{Planned, Source, What, attributes, walk_order};
use super::security::Class;
use crate::error::{Error, IoContext, Result};

/// Where Debian's packages put PE files: MinGW's run-time libraries, NSIS' programs and plug-ins, Wine's own.
const PLACES: [&str; 5] = [
    "/usr/lib/gcc/x86_64-w64-mingw32",
    "/usr/x86_64-w64-mingw32/lib",
    "/usr/share/nsis",
    "/usr/lib/x86_64-linux-gnu/wine/x86_64-windows",
    "/usr/lib/wine",
];
/// Files up to this size: Wine's alone would be 500 MB, and the largest add nothing.
const LARGEST: u64 = 16 << 20;

/// Plans a base layer that holds every PE file found, below `Files/Program Files`.
///
/// # Errors
/// [`Error::Missing`] when there is none: `cargo xtask test` installs the packages.
pub fn plan() -> Result<Vec<Planned>> {
    let mut found = Vec::new();
    for place in PLACES.map(Path::new).into_iter().filter(|place| place.is_dir()) {
        programs_below(place, &mut found)?;
    }
    if found.is_empty() {
        return Err(Error::Missing(format!(
            "no Windows program in any of {}; run cargo xtask packages",
            PLACES.join(", ")
        )));
    }
    let mut entries = vec![directory("Files"), directory("Files/Windows"), directory("Files/Program Files")];
    for (path, size) in found {
        let relative = path.strip_prefix("/usr").unwrap_or(&path).to_string_lossy().into_owned();
        add_parents(&mut entries, &format!("Files/Program Files/{relative}"));
        let what = What::File(Source::Path { path, size });
        let name = format!("Files/Program Files/{relative}");
        entries.push(Planned::new(name, what, attributes::FILE, Some(Class::Administrators), INSTALLED));
    }
    entries.sort_by(|a, b| walk_order(&a.name, &b.name));
    entries.dedup_by(|a, b| a.name == b.name);
    Ok(entries)
}

fn directory(name: &str) -> Planned {
    Planned::new(name, What::Directory, attributes::DIRECTORY, Some(Class::Administrators), INSTALLED)
}

fn add_parents(entries: &mut Vec<Planned>, name: &str) {
    for (at, _) in name.match_indices('/').skip(2) {
        entries.push(directory(&name[..at]));
    }
}

/// Files below `dir` that start like a PE file, symbolic links not followed.
fn programs_below(dir: &Path, found: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in std::fs::read_dir(dir).at(dir)? {
        let entry = entry.at(dir)?;
        let (path, kind) = (entry.path(), entry.file_type().at(dir)?);
        if kind.is_dir() {
            programs_below(&path, found)?;
        } else if kind.is_file() {
            let size = entry.metadata().at(&path)?.len();
            if size <= LARGEST && starts_like_a_program(&path)? {
                found.push((path, size));
            }
        }
    }
    Ok(())
}

fn starts_like_a_program(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path).at(path)?, 2), &mut start)
        .at(path)?;
    Ok(start == b"MZ")
}
