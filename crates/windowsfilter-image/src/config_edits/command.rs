//! Entrypoints and commands: lists of arguments, or command lines for a shell.
//!
//! Windows has no list of arguments: a program gets one command line. From a list the runtime makes it, and
//! quotes each argument. `ArgsEscaped` says that the first one is a command line already, which is not to be
//! quoted, whatever follows (moby `daemon/oci_windows.go`; containerd `internal/cri/opts/spec_windows.go`,
//! `WithProcessCommandLineOrArgsForWindows`). So the flag belongs to the entrypoint, and to the command only
//! where there is no entrypoint. Docker's classic builder sets it by whichever instruction comes last, and
//! warns; BuildKit sets it with every CMD, a list too (`dockerfile2llb/convert.go`, `dispatchCmd`).

use super::{ConfigEdits, Edit, inside, invalid};
use crate::error::Error;

/// The shell of an image that names none. Source: moby `builder/dockerfile/builder_windows.go`.
const SHELL: [&str; 3] = ["cmd", "/S", "/C"];

/// What a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Arguments, each as it is (`["powershell","-File","C:\\a b.ps1"]`); none: nothing is run.
    List(Vec<String>),
    /// A command line for the image's shell.
    Shell(String),
}

impl CommandLine {
    /// Reads a JSON list of strings, or else a command line for the shell. No text at all is an empty list.
    ///
    /// # Errors
    /// Why a text that begins with `[` is no list: it is one by mistake, or a command line by mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(Self::List(Vec::new()));
        }
        let in_list = trimmed.strip_prefix('[').map(str::trim_start);
        // PowerShell's `[Console]::Beep()` is a command line.
        if !in_list.is_some_and(|text| text.is_empty() || text.starts_with(['"', ']'])) {
            return Ok(Self::Shell(trimmed.to_owned()));
        }
        serde_json::from_str(trimmed).map(Self::List).map_err(|error| {
            format!(
                "it begins like a JSON list of strings but is none ({error}); a backslash in JSON is written twice"
            )
        })
    }

    fn is_shell(&self) -> bool {
        matches!(self, Self::Shell(_))
    }

    /// The list that a config has of it.
    fn arguments(&self, shell: &str) -> Vec<String> {
        match self {
            Self::List(arguments) => arguments.clone(),
            Self::Shell(line) => vec![format!("{shell} {line}")],
        }
    }
}

/// As Go prints a list of strings (`%q`), which is what Docker's history has of it.
fn shown(arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Source: go1.25 `strconv/quote.go`, `appendEscapedRune`.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            _ if !c.is_control() && !c.is_whitespace() => quoted.push(c),
            _ if c.is_ascii() => quoted += &format!("\\x{:02x}", u32::from(c)),
            _ => quoted += &format!("\\u{:04x}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted
}

impl Edit<'_> {
    /// The entrypoint, the command, and how they are escaped.
    pub(super) fn commands(&mut self, edits: &ConfigEdits) -> Result<(), Error> {
        let given = [("--entrypoint", &edits.entrypoint), ("--cmd", &edits.cmd)];
        if given.iter().all(|(_, command)| command.is_none()) {
            return Ok(());
        }
        for (option, command) in given {
            if let Some(CommandLine::Shell(line)) = command
                && !self.windows
            {
                let reason = "command lines are for Windows images: give a JSON list, as in [\"app\"]";
                return Err(invalid(option, line, reason));
            }
        }
        let shell: Vec<String> = self.strings("Shell")?.into_iter().map(|(_, text)| text).collect();
        let shell = if shell.is_empty() { SHELL.join(" ") } else { shell.join(" ") };
        if let Some(entrypoint) = &edits.entrypoint {
            self.set_command("Entrypoint", &entrypoint.arguments(&shell));
            // Arguments for another program.
            self.runs.remove("Cmd");
            self.set_escaped(entrypoint.is_shell());
        }
        if let Some(cmd) = &edits.cmd {
            self.set_command("Cmd", &cmd.arguments(&shell));
            let entrypoint = self.strings("Entrypoint")?;
            let Some((_, program)) = entrypoint.first() else {
                self.set_escaped(cmd.is_shell());
                return Ok(());
            };
            if edits.entrypoint.is_none() && self.is_unquoted(program, &shell)? {
                self.notes.push(format!(
                    "the image passes its entrypoint {program:?} to Windows without quotes (ArgsEscaped); if that is one path, give \
                     it anew as a JSON list with --entrypoint"
                ));
            }
            if cmd.is_shell() {
                self.notes.push(
                    "the entrypoint gets the shell's whole command line as one argument: as a JSON list the command would be its arguments"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Whether the entrypoint is said to be a command line, but does not look like one of a builder: BuildKit
    /// says so of every image with a CMD.
    fn is_unquoted(&self, program: &str, shell: &str) -> Result<bool, Error> {
        let escaped = self.runs.value::<bool>("ArgsEscaped").map_err(inside)?;
        let is_line = program.starts_with('"') || program.starts_with(&format!("{shell} "));
        Ok(escaped && program.contains(' ') && !is_line)
    }

    fn set_command(&mut self, field: &'static str, arguments: &[String]) {
        if arguments.is_empty() {
            self.runs.remove(field);
        } else {
            self.runs.set(field, &arguments);
        }
        self.steps.push(format!("{} {}", field.to_ascii_uppercase(), shown(arguments)));
    }

    /// Go leaves a field out that is false.
    fn set_escaped(&mut self, escaped: bool) {
        if escaped {
            self.runs.set("ArgsEscaped", &true);
        } else {
            self.runs.remove("ArgsEscaped");
        }
    }
}
