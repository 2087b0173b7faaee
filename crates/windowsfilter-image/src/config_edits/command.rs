//! Entrypoints and commands: lists of arguments, or command lines for a shell.
//!
//! Windows has no list of arguments: a program gets one command line. From a list the runtime makes it, and
//! quotes each argument. `ArgsEscaped` says that the first one is a command line already, which is not to be
//! quoted, whatever follows (moby `daemon/oci_windows.go`; containerd `pkg/oci/spec_opts.go`,
//! `WithProcessCommandLineOrArgsForWindows`). So the flag belongs to the entrypoint, and to the command only
//! where there is no entrypoint. Docker's builder sets it by whichever instruction comes last, and warns.

use super::{ConfigEdits, Edit, malformed};
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
        if !trimmed.starts_with('[') {
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

/// As Go prints a list of strings, which is what Docker's history has of it.
fn shown(arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("{argument:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

impl Edit<'_> {
    /// The entrypoint, the command, and how they are escaped.
    pub(super) fn commands(&mut self, edits: &ConfigEdits) -> Result<(), Error> {
        if edits.entrypoint.is_none() && edits.cmd.is_none() {
            return Ok(());
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
            let entrypoint = self.runs.list("Entrypoint").map_err(malformed)?;
            if entrypoint.is_empty() {
                self.set_escaped(cmd.is_shell());
            } else if cmd.is_shell() {
                self.notes.push(
                    "the entrypoint gets the shell's whole command line as one argument: as a JSON list the command would be its arguments"
                        .to_owned(),
                );
            }
        }
        Ok(())
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
