//! Changes of an image's config: what Dockerfile instructions write, as Docker writes it for Windows.
//!
//! Source: moby `daemon/builder/dockerfile/dispatchers.go` and `dispatchers_windows.go` (`resolveCmdLine`,
//! `normalizeWorkdirWindows`), `daemon/oci_windows.go` for what `ArgsEscaped` means to a container; the words
//! of history entries: BuildKit `frontend/dockerfile/dockerfile2llb/convert.go`.

mod command;
mod ports;
mod signals;
mod workdir;

use std::collections::HashMap;

use serde_json::{Map, json};

pub use command::CommandLine;

use crate::error::Error;
use crate::json::{JsonError, Object, Raw, read};
use crate::platform::is_windows;

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
    /// User name; an empty one removes the image's.
    pub user: Option<String>,
    /// Labels to set, `NAME=VALUE`.
    pub labels: Vec<String>,
    /// Ports as in `80`, `53/udp` and `8000-8010/tcp`, added to the image's.
    pub expose: Vec<String>,
    /// Directories for volumes, added to the image's.
    pub volumes: Vec<String>,
    /// The signal that ends a container: a number, or a name such as `SIGTERM`.
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
    /// Writes author and time into `config`.
    pub(crate) fn sign(&self, config: &mut Object) {
        if let Some(author) = self.author {
            config.set("author", &author);
        }
        config.set("created", &self.created);
    }

    /// Adds an entry to the history of `config` for each of `steps`.
    ///
    /// # Errors
    /// A history that is not a list.
    pub(crate) fn add_history<'s>(
        &self,
        config: &mut Object,
        steps: impl IntoIterator<Item = &'s str>,
        empty_layer: bool,
    ) -> Result<(), JsonError> {
        let mut history = config.list("history")?;
        history.extend(steps.into_iter().map(|created_by| self.entry(created_by, empty_layer)));
        config.set_list("history", &history);
        Ok(())
    }

    fn entry(&self, created_by: &str, empty_layer: bool) -> Raw {
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
    /// [`Error::InvalidEdit`], before anything is changed; a config that cannot be read.
    pub(crate) fn apply(&self, config: &mut Object, step: Step<'_>) -> Result<Vec<String>, Error> {
        let windows = is_windows(&config.value::<String>("os").map_err(malformed)?);
        let mut runs = config.object("config").map_err(malformed)?;
        let mut edit = Edit { runs: &mut runs, windows, steps: Vec::new(), notes: Vec::new() };
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
            steps.push(format!("windowsfilter --os-version {version}"));
        }
        if !steps.is_empty() {
            config.set_object("config", &runs);
            step.add_history(config, steps.iter().map(String::as_str), true).map_err(malformed)?;
        }
        Ok(notes)
    }
}

/// An edit under way.
struct Edit<'a> {
    /// The object `config` of the config.
    runs: &'a mut Object,
    /// Whether the image is one for Windows.
    windows: bool,
    /// Instructions that would have done the same.
    steps: Vec<String>,
    notes: Vec<String>,
}

fn invalid(option: &'static str, value: &str, reason: impl Into<String>) -> Error {
    Error::InvalidEdit { option, value: value.to_owned(), reason: reason.into() }
}

/// An error in the object `config` of the config.
fn inside(source: JsonError) -> Error {
    malformed(source.within("config"))
}

pub(crate) fn malformed(source: JsonError) -> Error {
    Error::Json { what: "the image's config".into(), source }
}

/// `NAME=VALUE`, with a name.
fn assignment<'v>(option: &'static str, text: &'v str) -> Result<(&'v str, &'v str), Error> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name, value)),
        _ => Err(invalid(option, text, "expected NAME=VALUE")),
    }
}

/// What identifies an environment variable (`NAME` or `NAME=VALUE`): Windows compares names without case.
fn variable_key(text: &str) -> String {
    text.split_once('=').map_or(text, |(name, _)| name).to_uppercase()
}

impl Edit<'_> {
    /// The strings in a list of the config, each as it is written and as it is read.
    fn strings(&self, field: &str) -> Result<Vec<(Raw, String)>, Error> {
        let list = self.runs.list(field).map_err(inside)?;
        let strings = list.into_iter().map(|raw| {
            let text = read::<Option<String>>(raw.as_str().as_bytes());
            let text = text.map_err(|error| inside(error.within(field)))?;
            Ok((raw, text.unwrap_or_default()))
        });
        strings.collect()
    }

    fn env(&mut self, edits: &ConfigEdits) -> Result<(), Error> {
        if edits.env.is_empty() && edits.unset_env.is_empty() {
            return Ok(());
        }
        let mut variables: Vec<Option<Raw>> = Vec::new();
        // BuildKit on Linux tells names apart by case, so an image may have one variable twice; the last
        // counts.
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for (raw, text) in self.strings("Env")? {
            places.entry(variable_key(&text)).or_default().push(variables.len());
            variables.push(Some(raw));
        }
        for name in &edits.unset_env {
            if name.is_empty() || name.contains('=') {
                return Err(invalid("--unset-env", name, "expected the name of a variable"));
            }
            match places.remove(&variable_key(name)) {
                Some(places) => {
                    places.into_iter().for_each(|place| variables[place] = None);
                    self.steps.push(format!("windowsfilter --unset-env {name}"));
                }
                None => self.notes.push(format!("the image has no environment variable {name} to remove")),
            }
        }
        for text in &edits.env {
            assignment("--env", text)?;
            let places = places.entry(variable_key(text)).or_default();
            if places.is_empty() {
                places.push(variables.len());
                variables.push(None);
            }
            // The first place gets the value, the others go.
            places.drain(1..).for_each(|place| variables[place] = None);
            variables[places[0]] = Some(Raw::of(text));
            self.steps.push(format!("ENV {text}"));
        }
        let variables: Vec<Raw> = variables.into_iter().flatten().collect();
        if variables.is_empty() {
            self.runs.remove("Env");
        } else {
            self.runs.set_list("Env", &variables);
        }
        Ok(())
    }

    fn labels(&mut self, labels: &[String]) -> Result<(), Error> {
        if labels.is_empty() {
            return Ok(());
        }
        let mut map = self.runs.map("Labels").map_err(inside)?;
        let mut entries = Vec::new();
        for text in labels {
            let (name, value) = assignment("--label", text)?;
            entries.push((name.to_owned(), value));
            self.steps.push(format!("LABEL {text}"));
        }
        map.set_entries(entries);
        self.runs.set_object("Labels", &map);
        Ok(())
    }

    fn workdir(&mut self, requested: Option<&str>) -> Result<(), Error> {
        let Some(requested) = requested else { return Ok(()) };
        if !self.windows {
            return Err(invalid("--workdir", requested, "it is set for Windows images only"));
        }
        let current = self.runs.value::<String>("WorkingDir").map_err(inside)?;
        let new = workdir::resolve(&current, requested)
            .map_err(|reason| invalid("--workdir", requested, reason))?;
        self.runs.set("WorkingDir", &new);
        self.steps.push(format!("WORKDIR {new}"));
        Ok(())
    }

    fn texts(&mut self, edits: &ConfigEdits) -> Result<(), Error> {
        if let Some(user) = &edits.user {
            if user.is_empty() {
                self.runs.remove("User");
            } else {
                self.runs.set("User", user);
            }
            self.steps.push(format!("USER {user}"));
        }
        if let Some(signal) = &edits.stop_signal {
            if !signals::is_signal(signal) {
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
            let mut exposed = self.runs.map("ExposedPorts").map_err(inside)?;
            let mut ports = Vec::new();
            for text in &edits.expose {
                ports.extend(ports::parse(text).map_err(|reason| invalid("--expose", text, reason))?);
                self.steps.push(format!("EXPOSE {text}"));
            }
            exposed.set_entries(ports.into_iter().map(|port| (port, json!({}))));
            self.runs.set_object("ExposedPorts", &exposed);
        }
        if !edits.volumes.is_empty() {
            let mut volumes = self.runs.map("Volumes").map_err(inside)?;
            for path in &edits.volumes {
                if path.trim().is_empty() {
                    return Err(invalid("--volume", path, "expected the path of a directory"));
                }
                self.steps.push(format!("VOLUME [{path}]"));
            }
            volumes.set_entries(edits.volumes.iter().map(|path| (path.clone(), json!({}))));
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
