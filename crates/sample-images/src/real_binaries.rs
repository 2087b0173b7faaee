//! A layer of real Windows programs, from the PE files in Debian's packages. Wine's go to `System32` under
//! Windows' names, the others form an application.
//!
//! Not reproducible between machines, because packages differ; everything else is generated as usual.

use std::path::{Path, PathBuf};

use super::base::INSTALLED;
use super::plan::{Planned, Source, What, attributes, walk_order};
use super::security::Class;
use programs::error::{Error, IoContext, Result};

/// Places of PE files in Debian's packages: MinGW's run-time libraries, NSIS' programs and plug-ins, Wine's
/// own.
const PLACES: [&str; 5] = [
    "/usr/lib/gcc/x86_64-w64-mingw32",
    "/usr/x86_64-w64-mingw32/lib",
    "/usr/share/nsis",
    WINE,
    "/usr/lib/wine",
];
/// Largest file to take, bytes: Wine's alone would be 500 MB, and the largest add nothing.
const LARGEST: u64 = 16 << 20;

/// Wine's own files, with Windows' names.
const WINE: &str = "/usr/lib/x86_64-linux-gnu/wine/x86_64-windows";
const SYSTEM32: &str = "Files/Windows/System32";
/// The file that every diff layer links to.
const LINKED: &str = "ntdll.dll";

/// Plans a base layer of every PE file found.
///
/// # Errors
/// [`Error::Missing`] if there are none: `cargo xtask test` installs the packages.
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
    Ok(arranged(found))
}

/// The layer of these programs; there is at least one.
fn arranged(found: Vec<(PathBuf, u64)>) -> Vec<Planned> {
    let parents = ["Files", "Files/Windows", SYSTEM32, "Files/Program Files"];
    let mut entries: Vec<Planned> = parents.map(directory).into();
    let is_linked = |path: &Path| path.parent() == Some(Path::new(WINE)) && path.ends_with(LINKED);
    if !found.iter().any(|(path, _)| is_linked(path))
        && let Some((path, size)) = found.first()
    {
        // Without Wine any program will do.
        entries.push(program(format!("{SYSTEM32}/{LINKED}"), path.clone(), *size));
    }
    for (path, size) in found {
        let name = match path.strip_prefix(WINE) {
            Ok(name) => format!("{SYSTEM32}/{}", name.to_string_lossy()),
            Err(_) => {
                let relative = path.strip_prefix("/usr").unwrap_or(&path);
                format!("Files/Program Files/{}", relative.to_string_lossy())
            }
        };
        add_parents(&mut entries, &name);
        entries.push(program(name, path, size));
    }
    entries.sort_by(|a, b| walk_order(&a.name, &b.name));
    entries.dedup_by(|a, b| a.name == b.name);
    entries
}

fn program(name: String, path: PathBuf, size: u64) -> Planned {
    let what = What::File(Source::Path { path, size });
    Planned::new(name, what, attributes::FILE, Some(Class::Administrators), INSTALLED)
}

fn directory(name: &str) -> Planned {
    Planned::new(name, What::Directory, attributes::DIRECTORY, Some(Class::Administrators), INSTALLED)
}

fn add_parents(entries: &mut Vec<Planned>, name: &str) {
    for (at, _) in name.match_indices('/').skip(2) {
        entries.push(directory(&name[..at]));
    }
}

/// Files below `dir` with a PE file's magic; does not follow symbolic links.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_diff_layers_link_to_is_there_with_wine_and_without() {
        let other = (PathBuf::from("/usr/share/nsis/Plugins/x86-unicode/System.dll"), 7);
        for file in ["ntdll.dll", "kernel32.dll"] {
            let wine = (Path::new(WINE).join(file), 5);
            for found in [vec![other.clone()], vec![wine.clone()], vec![other.clone(), wine.clone()]] {
                let names: Vec<String> = arranged(found).into_iter().map(|entry| entry.name).collect();
                let linked = names.iter().filter(|name| *name == "Files/Windows/System32/ntdll.dll").count();
                assert_eq!(linked, 1, "{names:?}");
            }
        }
    }
}
