//! `cargo xtask windows-host-check`: tests of the Windows engine that need a Windows with the compute
//! service.
//!
//! It runs each row of the last table in `docs/windows-engine.md` with the real functions, prints its
//! verdict, and writes all of Windows' answers to a report (`report.rs`). It works in one directory, which
//! must not exist before and is removed afterwards.
//!
//! `check.rs` runs the rows; they are in `basics.rs` (the life of layers and sandboxes), `content.rs`
//! (files' content), `mishaps.rs` (kills, exposure, concurrency) and `docker.rs`. `process.rs` has the
//! parts that run in processes of their own.

#[cfg(windows)]
mod basics;
#[cfg(windows)]
mod calls;
#[cfg(windows)]
mod check;
#[cfg(windows)]
mod content;
#[cfg(windows)]
mod docker;
pub mod layers;
#[cfg(windows)]
mod mishaps;
#[cfg_attr(not(windows), allow(dead_code, reason = "the rows are for Windows"))]
mod private;
pub mod process;
#[cfg_attr(not(windows), allow(dead_code, reason = "the rows are for Windows"))]
mod report;

use std::path::PathBuf;

use programs::error::{Error, Result};

/// Show that the Windows engine works on this Windows: as administrator, with the Containers feature.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A base layer's tar, plain or compressed, as in an archive of `docker save
    /// mcr.microsoft.com/windows/nanoserver:ltsc2022`; its Windows must be this machine's.
    #[arg(long, value_name = "TAR")]
    pub base: PathBuf,
    /// Where to work, on an NTFS volume with room for four times the layer. Must not exist.
    #[arg(long, value_name = "DIR", default_value = r"C:\windowsfilter-host-check")]
    pub dir: PathBuf,
    /// The windowsfilter.exe that imports layers. [default: the one beside this program]
    #[arg(long, value_name = "EXE")]
    pub program: Option<PathBuf>,
    /// Where to write the report, with every answer and no name of a user or machine.
    #[arg(long, value_name = "FILE", default_value = "windowsfilter-host-check.json")]
    pub report: PathBuf,
    /// A stand-in for Microsoft's side, which shows that this check does what it is to do, and nothing of
    /// Windows.
    #[arg(long, value_name = "DLL", hide = true)]
    pub hcs_library: Option<PathBuf>,
}

/// A row of the check.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in the tables of `docs/windows-engine.md`.
    pub name: &'static str,
    /// The assumptions in the other table there that it confirms, by name.
    pub confirms: &'static [&'static str],
}

const fn row(name: &'static str, confirms: &'static [&'static str]) -> Row {
    Row { name, confirms }
}

/// The rows, in order.
pub const ROWS: [Row; 37] = [
    row("functions", &["libraries"]),
    row("privileges", &["privileges"]),
    row("file system", &["file system"]),
    row("guid", &["names and GUIDs"]),
    row("base layer", &["base layer", "long paths"]),
    row("paths", &["layers by their paths"]),
    row("sandbox", &["size of a sandbox", "no volume"]),
    row("mount", &["volume name", "volume device"]),
    row("second get", &["volume name"]),
    row("second prepare", &["out of order"]),
    row("expand while mounted", &["size of a sandbox"]),
    row("diff", &["reading what is mounted"]),
    row("delta", &["hives", "merge with parents", "reparse points"]),
    row("delta mount", &["merge with parents"]),
    row("base diff", &["audit lists"]),
    row("read-only layer", &["mounting layers"]),
    row("create then apply", &["empty layers"]),
    row("no re-exec", &["import in the process"]),
    row("long paths", &["long paths", "long plain paths"]),
    row("utility VM", &["utility VM"]),
    row("tombstones", &["tombstones"]),
    row("tombstones mount", &["merge with parents", "tombstones"]),
    row("streams", &["backup streams"]),
    row("streams by name", &["streams by name"]),
    row("extended attributes", &["backup streams"]),
    row("sparse files", &["backup streams"]),
    row("reparse tags", &["reparse points"]),
    row("stuck disk", &["sandbox is active"]),
    row("killed child", &["interrupted imports"]),
    row("killed parent", &["children end with their parent", "interrupted imports"]),
    row("two processes", &["one prepare at a time"]),
    row("exposed store", &["access list"]),
    row("docker layer", &["Docker's home"]),
    row("docker container", &["Docker's home"]),
    row("removal", &["removal"]),
    row("open file", &["open files"]),
    row("replace", &["open files"]),
];

/// Runs all rows.
///
/// # Errors
/// If this is not Windows, the directory exists already, or a row does not hold.
pub fn run(args: &Args) -> Result<()> {
    if args.dir.exists() {
        return Err(Error::Missing(format!("{} exists already; give another --dir", args.dir.display())));
    }
    run_rows(args)
}

#[cfg(windows)]
fn run_rows(args: &Args) -> Result<()> {
    check::run(args)
}

#[cfg(not(windows))]
fn run_rows(args: &Args) -> Result<()> {
    let (base, dir) = (args.base.display(), args.dir.display());
    Err(Error::Missing(format!("checking with {base} in {dir} needs Windows with the Containers feature")))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::ROWS;

    /// The cells of a section's table, without its head.
    fn table(section: &str) -> Vec<Vec<String>> {
        let path = programs::workspace::root().join("docs/windows-engine.md");
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split(&format!("\n## {section}\n")).nth(1).unwrap_or_else(|| panic!("no {section}"));
        let text = text.split("\n## ").next().unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        lines.skip(2).map(|line| line.split(" | ").map(str::to_owned).collect()).collect()
    }

    #[test]
    fn the_rows_are_those_of_the_documentation() {
        let names: Vec<String> =
            table("What only a Windows host can show").into_iter().map(|mut row| row.remove(0)).collect();
        assert_eq!(names, ROWS.map(|row| row.name));
    }

    #[test]
    fn every_assumption_has_its_rows_and_every_row_its_assumptions() {
        let mut confirmed = BTreeMap::<String, BTreeSet<String>>::new();
        for row in ROWS {
            assert!(!row.confirms.is_empty(), "{}", row.name);
            for assumption in row.confirms {
                confirmed.entry((*assumption).to_owned()).or_default().insert(row.name.to_owned());
            }
        }
        let name = |cell: &str| cell.split(": ").next().unwrap_or(cell).to_owned();
        let documented: BTreeMap<String, BTreeSet<String>> = table("What is assumed of Windows")
            .into_iter()
            .filter(|row| !row[3].starts_with("none: "))
            .map(|row| (name(&row[0]), row[3].split(", ").map(str::to_owned).collect()))
            .collect();
        assert_eq!(documented, confirmed);
    }
}
