//! Sandboxes: their state, what their volume shows, and how that differs from the parents.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::{metadata, tree, volumes};

pub(crate) const DISK: &str = "sandbox.vhdx";
pub(crate) const TOMBSTONES: &str = "standin.tombstones";
const STATE: &str = "sandbox.state";

/// What has been done with a sandbox. In its directory, so that processes share it as they share Windows.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) active: bool,
    pub(crate) prepared: bool,
    /// Whether the parents' files are in the volume.
    pub(crate) filled: bool,
    pub(crate) size: u64,
}

impl State {
    /// The state of the sandbox in `layer`; `None` if this is none.
    pub(crate) fn load(layer: &Path) -> io::Result<Option<Self>> {
        if !layer.join(DISK).exists() {
            return Ok(None);
        }
        match fs::read(layer.join(STATE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(io::Error::from)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Some(Self::default())),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn store(self, layer: &Path) -> io::Result<()> {
        fs::write(layer.join(STATE), serde_json::to_vec(&self).map_err(io::Error::from)?)
    }
}

/// Files of a chain: by their path in lower case, where each is.
type Merged = BTreeMap<String, (PathBuf, PathBuf, bool)>;

fn key(path: &Path) -> String {
    path.to_string_lossy().to_lowercase()
}

/// What the parents, nearest first, have together.
fn merged(parents: &[PathBuf]) -> Result<Merged, Code> {
    let mut merged = Merged::new();
    for parent in parents.iter().rev() {
        let files = parent.join("Files");
        if !files.is_dir() {
            return Err(Code::PATH_NOT_FOUND);
        }
        for gone in tombstones(parent)? {
            let gone = key(Path::new(&gone));
            let inside = format!("{gone}\\");
            merged.retain(|path, _| *path != gone && !path.starts_with(&inside));
        }
        for entry in tree::walk(&files)? {
            let place = (entry.path.clone(), files.join(&entry.path), entry.is_directory);
            if let Some((_, _, true)) = merged.get(&key(&entry.path))
                && !entry.is_directory
            {
                let inside = format!("{}\\", key(&entry.path));
                merged.retain(|path, _| !path.starts_with(&inside));
            }
            merged.insert(key(&entry.path), place);
        }
    }
    Ok(merged)
}

/// Paths that a read-only layer takes away.
pub(crate) fn tombstones(layer: &Path) -> io::Result<Vec<String>> {
    match fs::read_to_string(layer.join(TOMBSTONES)) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Copies into the volume what the parents have together.
pub(crate) fn fill(layer: &Path, parents: &[PathBuf]) -> Result<(), Code> {
    let volume = volumes::directory(layer)?;
    let merged = merged(parents)?;
    for (path, source, is_directory) in merged.values() {
        tree::copy_entry(source, &volume.join(path), *is_directory)?;
    }
    // Filling a directory changes its times.
    for (path, source, is_directory) in merged.values().rev() {
        if *is_directory {
            tree::copy_metadata(source, &volume.join(path))?;
        }
    }
    Ok(())
}

/// How a volume differs from what its sandbox stands on.
pub(crate) struct Difference {
    /// New and changed entries, and directories on the way to them, in the order of a walk.
    pub(crate) entries: Vec<tree::Entry>,
    /// What is not there any more, without what was in it.
    pub(crate) tombstones: Vec<String>,
}

pub(crate) fn difference(layer: &Path, parents: &[PathBuf]) -> Result<Difference, Code> {
    let volume = volumes::directory(layer)?;
    let mut before = merged(parents)?;
    let now = tree::walk(&volume)?;
    let mut changed = Vec::with_capacity(now.len());
    for entry in &now {
        changed.push(match before.remove(&key(&entry.path)) {
            Some((_, source, was_directory)) => {
                was_directory != entry.is_directory
                    || differs(&source, &volume.join(&entry.path), was_directory)?
            }
            None => true,
        });
    }
    // A changed entry brings the directories it is in.
    for at in 0..now.len() {
        if changed[at] {
            for above in 0..at {
                changed[above] |= now[at].path.starts_with(&now[above].path);
            }
        }
    }
    let entries =
        now.into_iter().zip(changed).filter(|(_, changed)| *changed).map(|(entry, _)| entry).collect();
    let mut tombstones: Vec<String> = Vec::new();
    let mut last = None;
    for (path, (shown, ..)) in &before {
        let inside =
            |gone: &String| path.strip_prefix(gone.as_str()).is_some_and(|rest| rest.starts_with('\\'));
        if !last.as_ref().is_some_and(inside) {
            tombstones.push(shown.to_string_lossy().into_owned());
            last = Some(path.clone());
        }
    }
    Ok(Difference { entries, tombstones })
}

fn differs(before: &Path, now: &Path, is_directory: bool) -> io::Result<bool> {
    let ((info, streams), (new_info, new_streams)) = (metadata::of_path(before)?, metadata::of_path(now)?);
    let times = (info.creation, info.write, info.attributes)
        != (new_info.creation, new_info.write, new_info.attributes);
    // Whoever changes what is in a directory does not change the directory, as far as a layer goes.
    if is_directory {
        return Ok(info.attributes != new_info.attributes || streams != new_streams);
    }
    Ok(times || streams != new_streams || fs::read(before)? != fs::read(now)?)
}
