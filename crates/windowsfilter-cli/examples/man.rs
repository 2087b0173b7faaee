//! Writes a manual page for the command and each of its subcommands, from the command line's own definition,
//! so that they cannot disagree: `cargo xtask man`.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "give the directory to write them to"));
    };
    let pages = write(&dir)?;
    println!("{pages} manual pages in {dir}; try: man -l {dir}/windowsfilter.1", dir = dir.display());
    Ok(())
}

/// Writes `<dir>/windowsfilter.1`, `<dir>/windowsfilter-image.1`, …, and gives their number.
fn write(dir: &std::path::Path) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(windowsfilter_cli::command(), dir)?;
    Ok(fs::read_dir(dir)?.filter_map(Result::ok).count())
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
            let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}.1: {page}");
        }
    }
}
