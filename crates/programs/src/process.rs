//! Runs other programs: with the command line shown if the reader should see it, otherwise quietly.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// The command line as a reader could type it.
#[must_use]
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Prints `$ command` and runs it on this terminal.
///
/// # Errors
/// [`Error::Start`] and [`Error::Failed`].
pub fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    run_unannounced(command)
}

/// Runs on this terminal without printing the command.
///
/// # Errors
/// [`Error::Start`] and [`Error::Failed`].
pub fn run_unannounced(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|source| start_error(command, source))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: shown(command), status, output: String::new() })
}

/// Runs and returns the standard output; standard error becomes part of the error.
///
/// # Errors
/// [`Error::Start`] and [`Error::Failed`].
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().map_err(|source| start_error(command, source))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(stdout);
    }
    let text = format!("\n{}{}", stdout, String::from_utf8_lossy(&out.stderr)).trim_end().to_owned();
    Err(Error::Failed { command: shown(command), status: out.status, output: text })
}

fn start_error(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

/// A program's path in `PATH`, if it is there.
#[must_use]
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether this process is root, and can mount and install.
#[must_use]
pub fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("cp");
        command.args(["a b", "it's", "plain-1.0"]);
        assert_eq!(shown(&command), r"cp 'a b' 'it'\''s' plain-1.0");
    }

    #[test]
    fn a_failing_command_is_named_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
    }
}
