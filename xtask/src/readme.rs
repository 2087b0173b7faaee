//! `cargo xtask readme`: runs the README's quick start as a reader would, so that its output stays true.
//!
//! Between the markers it runs every line `$ command` of a `console` block, in order, in a scratch
//! directory and with a store of its own, and replaces the lines below by the output. `--check` runs the
//! same and compares: words with digits in them (digests, times, sizes of new files) may differ, everything
//! else may not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use programs::error::{Error, IoContext, Result};
use programs::mounts::unmount_below;
use programs::process::{is_root, shown};
use programs::workspace;

use crate::packages;
use crate::product::{COMMAND, Profile, SAMPLES};

/// Run the README's quick start and put in what its commands print.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail when the README shows something else than what happens.
    #[arg(long)]
    check: bool,
}

const START: &str = "<!-- quick-start:start -->";
const END: &str = "<!-- quick-start:end -->";
/// The README's replacement for the scratch directory.
const HOME: &str = "/home/you";

/// Runs the quick start and rewrites or checks the README.
///
/// # Errors
/// A command fails, or prints something else than the README says.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        return Err(Error::Missing("the quick start mounts file systems: run it as root".into()));
    }
    packages::ensure()?;
    // `cargo xtask` builds these in the quick start; build them before, so that its output has no build.
    Profile::Dev.build(&[COMMAND, SAMPLES])?;
    let shell = Shell::new(&Profile::Dev.program(COMMAND))?;
    let path = workspace::root().join("README.md");
    let text = fs::read_to_string(&path).at(&path)?;
    let (before, inside, after) = parts(&text, &path)?;
    let fresh = rerun(inside, |command| shell.run(command))?;
    if args.check {
        return compare(inside, &fresh);
    }
    fs::write(&path, format!("{before}{START}{fresh}{END}{after}")).at(&path)
}

fn parts<'a>(text: &'a str, path: &Path) -> Result<(&'a str, &'a str, &'a str)> {
    let missing = || Error::Unexpected(format!("{}: no lines {START} and {END}", path.display()));
    let (before, rest) = text.split_once(START).ok_or_else(missing)?;
    let (inside, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok((before, inside, after))
}

/// `text` with each command's output replaced by that of `run`.
fn rerun(text: &str, mut run: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut fresh = String::new();
    let mut in_console = false;
    for line in text.split_inclusive('\n') {
        if line.starts_with("```") {
            in_console = line.trim_end() == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| in_console) {
            fresh.push_str(line);
            fresh.push_str(&run(command.trim_end())?);
            continue;
        } else if in_console {
            continue; // What the command above printed when this was written.
        }
        fresh.push_str(line);
    }
    Ok(fresh)
}

fn compare(shown: &str, fresh: &str) -> Result<()> {
    if steady(shown) == steady(fresh) {
        return Ok(());
    }
    let differs = |(a, b): &(&str, &str)| steady(a) != steady(b);
    let (old, new) = shown.lines().zip(fresh.lines()).find(differs).unwrap_or(("its end", "its end"));
    Err(Error::Unexpected(format!(
        "README.md shows {old:?} where now comes {new:?}; run: cargo xtask readme"
    )))
}

/// The text with `#` for every word that may differ between runs.
fn steady(text: &str) -> String {
    let word = |word: &str| {
        if word.contains(|c: char| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Where the commands run.
struct Shell {
    dir: PathBuf,
    path: String,
}

impl Shell {
    /// A clean directory inside the repository, so that `cargo xtask` works there.
    fn new(binary: &Path) -> Result<Self> {
        let dir = workspace::root().join("target/readme");
        unmount_below(&dir);
        if dir.exists() {
            fs::remove_dir_all(&dir).at(&dir)?;
        }
        fs::create_dir_all(&dir).at(&dir)?;
        let bin = binary.parent().unwrap_or(binary).display();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
        Ok(Self { dir, path })
    }

    /// The output of `line`, both streams, as on a terminal.
    fn run(&self, line: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(&self.dir);
        // Hides cargo's own lines and the command line it runs.
        command.env("CARGO_TERM_QUIET", "true");
        command.env("PATH", &self.path).env("WINDOWSFILTER_ROOT", self.dir.join("store"));
        let start = |source| Error::Start { program: line.to_owned(), source };
        let out = command.stdin(Stdio::null()).output().map_err(start)?;
        let text = String::from_utf8_lossy(&out.stdout).replace(&*self.dir.to_string_lossy(), HOME);
        if !out.status.success() {
            return Err(Error::Failed { command: shown(&command), status: out.status, output: text });
        }
        Ok(text)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        unmount_below(&self.dir);
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("cannot remove {}: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Words\n```console\n$ one\nold\nolder\n$ two\n```\nmore\n```sh\n$ not run\n```\n";

    #[test]
    fn what_a_command_prints_replaces_what_stood_there() {
        let mut commands = Vec::new();
        let fresh = rerun(TEXT, |command| {
            commands.push(command.to_owned());
            Ok(format!("new {command}\n"))
        })
        .unwrap();
        assert_eq!(commands, ["one", "two"]);
        let expected =
            "Words\n```console\n$ one\nnew one\n$ two\nnew two\n```\nmore\n```sh\n$ not run\n```\n";
        assert_eq!(fresh, expected);
    }

    #[test]
    fn other_digests_are_no_difference_and_other_words_are() {
        compare("id:  sha256:11aa\n", "id: sha256:22bb\n").unwrap();
        let error = compare("no problems\n", "a problem\n").unwrap_err().to_string();
        assert!(error.contains("no problems") && error.contains("a problem"), "{error}");
        assert!(compare("a\n", "a\nb\n").is_err());
    }

    #[test]
    fn a_document_without_markers_is_refused() {
        assert!(parts("nothing", Path::new("README.md")).is_err());
    }
}
