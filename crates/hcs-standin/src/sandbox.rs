//! Sandboxes: their state, the content of their volume, and its difference from the parents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::{metadata, tree, volumes};

pub(crate) const DISK: &str = "sandbox.vhdx";
pub(crate) const OF_PARENTS: &str = "standin.parents";
const STATE: &str = "sandbox.state";

/// The state of a sandbox. Stored in its directory, so that processes share it as they share Windows.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) active: bool,
    pub(crate) prepared: bool,
    /// Whether the parents' files are in the volume.
    pub(crate) filled: bool,
    pub(crate) size: u64,
}

impl State {
    /// The state of the sandbox in `layer`; `None` if it is not a sandbox.
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

/// The merged files of a chain: from the path in lower case to the path, the place of the file, and whether
/// it is a directory.
type Shown = BTreeMap<String, (PathBuf, PathBuf, bool)>;

pub(crate) fn key(path: &Path) -> String {
    path.to_string_lossy().to_lowercase()
}

/// The merged files of the parents, nearest first. The nearest has all of them, since importing it has copied
/// those of the layers below.
fn shown(parents: &[PathBuf]) -> Result<Shown, Code> {
    if parents.iter().any(|parent| !parent.join("Files").is_dir()) {
        return Err(Code::PATH_NOT_FOUND);
    }
    let Some(nearest) = parents.first() else { return Ok(Shown::new()) };
    let files = nearest.join("Files");
    let place = |entry: tree::Entry| {
        let source = files.join(&entry.path);
        (key(&entry.path), (entry.path, source, entry.is_directory))
    };
    Ok(tree::walk(&files)?.into_iter().map(place).collect())
}

/// Copies the parents' files that the layer does not have itself into its `files`. Returns their paths.
pub(crate) fn fill_layer(files: &Path, parents: &[PathBuf]) -> Result<Vec<String>, Code> {
    let mut put = Vec::new();
    let shown = shown(parents)?;
    // Directories come before their entries.
    for (key, (path, source, is_directory)) in &shown {
        let target = files.join(path);
        let has_place = target.parent().is_some_and(Path::is_dir) && !tree::is_link_above(files, path)?;
        if has_place && !target.exists() {
            tree::copy_entry(source, &target, *is_directory)?;
            put.push(key.clone());
        }
    }
    for key in put.iter().rev() {
        let (path, source, is_directory) = &shown[key];
        if *is_directory {
            // Filling a directory changes its times.
            tree::copy_metadata(source, &files.join(path))?;
        }
    }
    Ok(put)
}

/// The paths, in lower case, that a read-only layer has from its parents.
pub(crate) fn of_parents(layer: &Path) -> io::Result<BTreeSet<String>> {
    match fs::read_to_string(layer.join(OF_PARENTS)) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(e),
    }
}

/// Copies the merged files of the parents into the volume.
pub(crate) fn fill(layer: &Path, parents: &[PathBuf]) -> Result<(), Code> {
    let volume = volumes::directory(layer)?;
    let shown = shown(parents)?;
    for (path, source, is_directory) in shown.values() {
        tree::copy_entry(source, &volume.join(path), *is_directory)?;
    }
    // Filling a directory changes its times.
    for (path, source, is_directory) in shown.values().rev() {
        if *is_directory {
            tree::copy_metadata(source, &volume.join(path))?;
        }
    }
    Ok(())
}

/// The difference between a volume or layer and its parents.
pub(crate) struct Difference {
    /// New and changed entries, and directories on the way to them, in the order of a walk.
    pub(crate) entries: Vec<tree::Entry>,
    /// Deleted paths, without those below a deleted directory.
    pub(crate) tombstones: Vec<String>,
}

/// Compares the tree below `root` with the merged files of the parents. An entry that is not `of_parents` (by
/// its path in lower case) counts as changed even if it is equal.
pub(crate) fn difference(
    root: &Path,
    parents: &[PathBuf],
    of_parents: impl Fn(&str) -> bool,
) -> Result<Difference, Code> {
    let mut before = shown(parents)?;
    let now = tree::walk(root)?;
    let (mut changed, mut directories) = (BTreeSet::new(), BTreeSet::new());
    for entry in &now {
        let key = key(&entry.path);
        let is_changed = match before.remove(&key) {
            Some((_, source, was_directory)) => {
                !of_parents(&key)
                    || was_directory != entry.is_directory
                    || differs(&source, &root.join(&entry.path), was_directory)?
            }
            None => true,
        };
        if is_changed {
            // Include the directories above it.
            changed.extend(entry.path.ancestors().map(Path::to_owned));
        }
        if entry.is_directory {
            directories.insert(key);
        }
    }
    let gone = |path: &PathBuf| {
        let above = path.parent().map(key).unwrap_or_default();
        above.is_empty() || directories.contains(&above)
    };
    let tombstones = before.into_values().map(|(path, ..)| path).filter(gone);
    let tombstones = tombstones.map(|path| path.to_string_lossy().into_owned()).collect();
    let entries = now.into_iter().filter(|entry| changed.contains(&entry.path)).collect();
    Ok(Difference { entries, tombstones })
}

fn differs(before: &Path, now: &Path, is_directory: bool) -> io::Result<bool> {
    let ((info, streams), (new_info, new_streams)) = (metadata::of_path(before)?, metadata::of_path(now)?);
    let times = (info.creation, info.write, info.attributes)
        != (new_info.creation, new_info.write, new_info.attributes);
    // Changing the entries of a directory does not change the directory itself in a layer.
    if is_directory {
        return Ok(info.attributes != new_info.attributes || streams != new_streams);
    }
    Ok(times || streams != new_streams || fs::read(before)? != fs::read(now)?)
}
