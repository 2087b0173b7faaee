//! `cargo xtask windows-host-check`: what only a Windows with the compute service can show of the Windows
//! engine.
//!
//! Each row of the last table in `docs/windows-engine.md` is done with the real functions, and its verdict
//! printed. Everything happens in one directory, which must not be there before and is gone afterwards.

pub(crate) mod layers;
#[cfg(windows)]
mod rows;

use std::path::PathBuf;

use crate::error::{Error, Result};

/// Show that the Windows engine works on this Windows: as administrator, with the Containers feature.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A base layer's tar, plain or compressed, as in an archive of `docker save
    /// mcr.microsoft.com/windows/nanoserver:ltsc2022`; its Windows must be this machine's.
    #[arg(long, value_name = "TAR")]
    pub base: PathBuf,
    /// Where to work, on an NTFS volume with room for twice the layer. Must not exist.
    #[arg(long, value_name = "DIR", default_value = r"C:\windowsfilter-host-check")]
    pub dir: PathBuf,
    /// The windowsfilter.exe that imports layers; built from this repository unless it is given.
    #[arg(long, value_name = "EXE")]
    pub program: Option<PathBuf>,
    /// A stand-in for Microsoft's side, which shows that this check does what it is to do, and nothing of
    /// Windows.
    #[arg(long, value_name = "DLL", hide = true)]
    pub hcs_library: Option<PathBuf>,
}

/// The rows, in order: name, and what the host must show. The names are those of the table in
/// `docs/windows-engine.md`.
pub const ROWS: [&str; 17] = [
    "functions",
    "privileges",
    "file system",
    "guid",
    "base layer",
    "paths",
    "sandbox",
    "mount",
    "second prepare",
    "diff",
    "delta",
    "delta mount",
    "base diff",
    "stuck disk",
    "removal",
    "open file",
    "replace",
];

/// Runs all rows.
///
/// # Errors
/// When this is no Windows, the directory exists already, or a row does not hold.
pub fn run(args: &Args) -> Result<()> {
    if args.dir.exists() {
        return Err(Error::Missing(format!("{} exists already; give another --dir", args.dir.display())));
    }
    run_rows(args)
}

#[cfg(windows)]
fn run_rows(args: &Args) -> Result<()> {
    rows::run(args)
}

#[cfg(not(windows))]
fn run_rows(args: &Args) -> Result<()> {
    let (base, dir) = (args.base.display(), args.dir.display());
    Err(Error::Missing(format!("checking with {base} in {dir} needs Windows with the Containers feature")))
}

#[cfg(test)]
mod tests {
    use super::ROWS;

    #[test]
    fn the_rows_are_those_of_the_documentation() {
        let path = crate::workspace::root().join("docs/windows-engine.md");
        let text = std::fs::read_to_string(path).unwrap();
        let table = text.split("## What only a Windows host can show").nth(1).unwrap();
        let names = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let names: Vec<&str> = names.filter(|name| !["row", "---"].contains(name)).collect();
        assert_eq!(names, ROWS);
    }
}
