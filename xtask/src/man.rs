//! `cargo xtask man`: manual pages, made from the command line's own definition, so that they cannot
//! disagree.

use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};
use crate::workspace;

/// Write a manual page for the tool and each of its commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the pages are put. [default: target/man]
    dir: Option<PathBuf>,
}

/// Writes the pages and says where they are.
///
/// # Errors
/// When they cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let dir = args.dir.clone().unwrap_or_else(|| workspace::target_dir().join("man"));
    let pages = write(&dir)?;
    println!("{pages} manual pages in {dir}; try: man -l {dir}/windowsfilter.1", dir = dir.display());
    Ok(())
}

/// Writes `<dir>/windowsfilter.1`, `<dir>/windowsfilter-image.1`, …, and gives their number.
fn write(dir: &Path) -> Result<usize> {
    std::fs::create_dir_all(dir).at(dir)?;
    clap_mangen::generate_to(windowsfilter_cli::command(), dir).at(dir)?;
    Ok(std::fs::read_dir(dir).at(dir)?.filter_map(std::result::Result::ok).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the pages of a command and all below it, as `git` names its own.
    fn expected(command: &clap::Command, prefix: &str, names: &mut Vec<String>) {
        let name = format!("{prefix}{}", command.get_name());
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            expected(below, &format!("{name}-"), names);
        }
        names.push(name);
    }

    #[test]
    fn every_command_has_its_page() {
        let mut names = Vec::new();
        expected(&windowsfilter_cli::command(), "", &mut names);
        assert!(names.contains(&"windowsfilter-image-import".to_owned()), "{names:?}");
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path()).unwrap() >= names.len());
        for name in names {
            let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}.1: {page}");
        }
    }
}
