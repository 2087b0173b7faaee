//! Changes of an image's config: what Dockerfile instructions write, as Docker writes it for Windows.
//!
//! Source: moby `builder/dockerfile/dispatchers.go` and `dispatchers_windows.go` (`resolveCmdLine`,
//! `normalizeWorkdirWindows`), `daemon/oci_windows.go` for what `ArgsEscaped` means to a container.

mod command;
mod ports;
mod workdir;

use serde_json::{Map, json};

pub use command::CommandLine;

use crate::error::Error;
use crate::json::{JsonError, Object, Raw, read};

/// Changes of what a container of an image runs, and of what the image says of itself. The default changes
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigEdits {
    /// Environment variables to set, `NAME=VALUE`; the names compare without case, as on Windows.
    pub env: Vec<String>,
    /// Names of environment variables to remove.
    pub unset_env: Vec<String>,
    /// The program that a container runs. It replaces the old `cmd` too, unless [`Self::cmd`] has one.
    pub entrypoint: Option<CommandLine>,
    /// Its arguments, or the program where there is no entrypoint.
    pub cmd: Option<CommandLine>,
    /// Working directory; a relative one is below the image's.
    pub workdir: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Labels to set, `NAME=VALUE`.
    pub labels: Vec<String>,
    /// Ports as in `80`, `53/udp` and `8000-8010/tcp`, added to the image's.
    pub expose: Vec<String>,
    /// Directories for volumes, added to the image's.
    pub volumes: Vec<String>,
    /// What ends a container.
    pub stop_signal: Option<String>,
    /// `os.version`, as in `10.0.20348.2700`.
    pub os_version: Option<String>,
}

/// What history entries say of every step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// RFC 3339.
    pub(crate) created: &'a str,
    pub(crate) author: Option<&'a str>,
    pub(crate) comment: Option<&'a str>,
}

impl Step<'_> {
    /// A history entry of it.
    pub(crate) fn entry(&self, created_by: &str, empty_layer: bool) -> Raw {
        let mut entry = Map::from_iter([
            ("created".to_owned(), json!(self.created)),
            ("created_by".to_owned(), json!(created_by)),
        ]);
        if let Some(author) = self.author {
            entry.insert("author".into(), json!(author));
        }
        if let Some(comment) = self.comment {
            entry.insert("comment".into(), json!(comment));
        }
        if empty_layer {
            entry.insert("empty_layer".into(), json!(true));
        }
        Raw::of(&entry)
    }
}

impl ConfigEdits {
    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the changes in `config`, and adds an entry to its history for each. Returns what is odd about
    /// the result but no error.
    ///
    /// # Errors
    /// [`Error::InvalidEdit`], before anything is changed; a config that is not what it should be.
    pub(crate) fn apply(&self, config: &mut Object, step: Step<'_>) -> Result<Vec<String>, Error> {
        let malformed = |source: JsonError| Error::Json { what: "the image's config".into(), source };
        let mut runs = config.object("config").map_err(malformed)?;
        let mut edit = Edit { runs: &mut runs, steps: Vec::new(), notes: Vec::new() };
        edit.env(self)?;
        edit.labels(&self.labels)?;
        edit.commands(self)?;
        edit.workdir(self.workdir.as_deref())?;
        edit.texts(self)?;
        edit.places(self)?;
        let Edit { mut steps, notes, .. } = edit;
        if let Some(version) = &self.os_version {
            check_version(version)?;
            config.set("os.version", version);
            steps.push(format!("windowsfilter image edit --os-version {version}"));
        }
        if !steps.is_empty() {
            config.set_object("config", &runs);
            let mut history = config.list("history").map_err(malformed)?;
            history.extend(steps.iter().map(|created_by| step.entry(created_by, true)));
            config.set_list("history", &history);
        }
        Ok(notes)
    }
}

/// An edit under way.
struct Edit<'a> {
    /// The object `config` of the config.
    runs: &'a mut Object,
    /// Instructions that would have done the same.
    steps: Vec<String>,
    notes: Vec<String>,
}

fn invalid(option: &'static str, value: &str, reason: impl Into<String>) -> Error {
    Error::InvalidEdit { option, value: value.to_owned(), reason: reason.into() }
}

fn malformed(source: JsonError) -> Error {
    Error::Json { what: "the image's config".into(), source }
}

/// `NAME=VALUE`, with a name.
fn assignment<'v>(option: &'static str, text: &'v str) -> Result<(&'v str, &'v str), Error> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name, value)),
        _ => Err(invalid(option, text, "expected NAME=VALUE")),
    }
}

/// Names of environment variables, which Windows compares without case.
fn same_variable(a: &str, b: &str) -> bool {
    a.to_uppercase() == b.to_uppercase()
}

impl Edit<'_> {
    /// The strings in a list of the config; what is no string stays in its place, and has no name.
    fn strings(&self, field: &str) -> Result<Vec<(Raw, String)>, Error> {
        let list = self.runs.list(field).map_err(malformed)?;
        Ok(list
            .into_iter()
            .map(|raw| {
                let text = read::<String>(raw.as_str().as_bytes()).unwrap_or_default();
                (raw, text)
            })
            .collect())
    }

    fn env(&mut self, edits: &ConfigEdits) -> Result<(), Error> {
        if edits.env.is_empty() && edits.unset_env.is_empty() {
            return Ok(());
        }
        let mut variables = self.strings("Env")?;
        let name_of = |text: &str| text.split_once('=').map_or(text, |(name, _)| name).to_owned();
        for name in &edits.unset_env {
            if name.is_empty() || name.contains('=') {
                return Err(invalid("--unset-env", name, "expected the name of a variable"));
            }
            let before = variables.len();
            variables.retain(|(_, text)| !same_variable(&name_of(text), name));
            if variables.len() == before {
                self.notes.push(format!("the image has no environment variable {name} to remove"));
            }
            self.steps.push(format!("windowsfilter image edit --unset-env {name}"));
        }
        for text in &edits.env {
            let (name, _) = assignment("--env", text)?;
            let new = (Raw::of(text), text.clone());
            match variables.iter().position(|(_, old)| same_variable(&name_of(old), name)) {
                Some(place) => variables[place] = new,
                None => variables.push(new),
            }
            self.steps.push(format!("ENV {text}"));
        }
        let variables: Vec<Raw> = variables.into_iter().map(|(raw, _)| raw).collect();
        self.runs.set_list("Env", &variables);
        Ok(())
    }

    fn labels(&mut self, labels: &[String]) -> Result<(), Error> {
        if labels.is_empty() {
            return Ok(());
        }
        let mut object = self.runs.object("Labels").map_err(malformed)?;
        for text in labels {
            let (name, value) = assignment("--label", text)?;
            object.set_entry(name, &value);
            self.steps.push(format!("LABEL {text}"));
        }
        self.runs.set_object("Labels", &object);
        Ok(())
    }

    fn workdir(&mut self, requested: Option<&str>) -> Result<(), Error> {
        let Some(requested) = requested else { return Ok(()) };
        let current = self.runs.string("WorkingDir").map_err(malformed)?;
        let new = workdir::resolve(&current, requested)
            .map_err(|reason| invalid("--workdir", requested, reason))?;
        self.runs.set("WorkingDir", &new);
        self.steps.push(format!("WORKDIR {new}"));
        Ok(())
    }

    fn texts(&mut self, edits: &ConfigEdits) -> Result<(), Error> {
        if let Some(user) = &edits.user {
            self.runs.set("User", user);
            self.steps.push(format!("USER {user}"));
        }
        if let Some(signal) = &edits.stop_signal {
            if signal.is_empty() || signal.contains(char::is_whitespace) {
                return Err(invalid("--stop-signal", signal, "expected a number, or a name such as SIGTERM"));
            }
            self.runs.set("StopSignal", signal);
            self.steps.push(format!("STOPSIGNAL {signal}"));
        }
        Ok(())
    }

    /// Ports and volumes: maps whose values say nothing.
    fn places(&mut self, edits: &ConfigEdits) -> Result<(), Error> {
        if !edits.expose.is_empty() {
            let mut exposed = self.runs.object("ExposedPorts").map_err(malformed)?;
            for text in &edits.expose {
                for port in ports::parse(text).map_err(|reason| invalid("--expose", text, reason))? {
                    exposed.set_entry(&port, &json!({}));
                }
                self.steps.push(format!("EXPOSE {text}"));
            }
            self.runs.set_object("ExposedPorts", &exposed);
        }
        if !edits.volumes.is_empty() {
            let mut volumes = self.runs.object("Volumes").map_err(malformed)?;
            for path in &edits.volumes {
                if path.trim().is_empty() {
                    return Err(invalid("--volume", path, "expected the path of a directory"));
                }
                volumes.set_entry(path, &json!({}));
                self.steps.push(format!("VOLUME [{path}]"));
            }
            self.runs.set_object("Volumes", &volumes);
        }
        Ok(())
    }
}

/// Windows' versions have three or four numbers.
fn check_version(version: &str) -> Result<(), Error> {
    let parts: Vec<&str> = version.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if (3..=4).contains(&parts.len()) && parts.iter().all(number) {
        return Ok(());
    }
    Err(invalid("--os-version", version, "expected a version of Windows, as in 10.0.20348.2700"))
}

#[cfg(test)]
mod tests;
