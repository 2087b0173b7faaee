//! The home's directories: layers, sandboxes, and half-removed ones.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;

use windowsfilter::import::Progress;

use super::place::{Place, Type};
use super::walk::measure;
use super::{Kind, MAX_ENTRIES, Problem, key};
use crate::json;
use crate::oci::MAX_LAYERS;

/// Suffix that Docker's driver gives a directory before removing it (`windows.go`, `Remove`).
const REMOVING: &str = "-removing";
/// Suffix that older versions gave the layer between image and sandbox (`layer_store.go`, `initMount`).
const INIT: &str = "-init";
const CHAIN: &str = "layerchain.json";
/// Docker reads the first name and writes `layerId`; on Windows both are the same file, here they are not
/// (`windows.go`, `resolveID`).
const ALTERNATE_IDS: [&str; 2] = ["layerID", "layerId"];
const SANDBOX: &str = "sandbox.vhdx";
const FILES: &str = "Files";
/// Longest chain file to read, bytes: 1,000 paths of a kilobyte.
const MAX_CHAIN_BYTES: u64 = 1 << 20;
/// Longest ID file to read, bytes.
const MAX_ID_BYTES: u64 = 4096;

/// A directory of the home.
pub(super) struct LayerDirectory {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// Its parents' indexes in the list, nearest first.
    pub(super) parents: Vec<usize>,
    /// Index of another layer that stands for this one (`layerID`).
    pub(super) alternate: Option<usize>,
    /// Whether it has a `layerchain.json`.
    pub(super) has_chain: bool,
    /// Whether part of its chain, or of that of its alternate, could not be read.
    pub(super) unread_chain: bool,
    pub(super) problems: Vec<String>,
}

/// Whether a directory looks like a home, by its name or because it contains a layer.
pub(super) fn is_home(place: &Place) -> bool {
    let called = |name: &OsStr| name.eq_ignore_ascii_case(super::DRIVER);
    if place.path().file_name().is_some_and(called) {
        return true;
    }
    let Ok(names) = place.names() else { return false };
    names
        .take(MAX_ENTRIES)
        .flatten()
        .any(|name| place.subdirectory(&name).is_ok_and(|layer| layer.has(CHAIN, Type::File)))
}

/// All directories of the home, sorted by name, with sizes and chains.
pub(super) fn list(
    home: &Place,
    problems: &mut Vec<Problem>,
    progress: &dyn Progress,
) -> io::Result<Vec<LayerDirectory>> {
    let mut problem = |name: &OsStr, problem: &str| {
        problems.push(Problem::unread(home.path().join(name), problem.to_owned()));
    };
    let (names, more) = home.list(MAX_ENTRIES)?;
    if more {
        problem(
            OsStr::new(""),
            &format!("there are more than {MAX_ENTRIES} entries; the others are not looked at"),
        );
    }
    let mut layers = Vec::new();
    let mut files = Vec::new();
    for name in names {
        match home.facts(&name).map(|facts| facts.kind) {
            Ok(Type::Directory) => {}
            Ok(Type::Link) => problem(&name, "it is a link, which is not followed"),
            Ok(Type::File | Type::Other) => files.push(home.path().join(&name)),
            Err(error) => problem(&name, &error.to_string()),
        }
        match (home.subdirectory(&name), name.to_str()) {
            (Ok(place), Some(text)) => layers.push((directory(home, &place, text, progress), place)),
            (Ok(_), None) => problem(&name, "its name is not Unicode, so it is not a layer of Docker's"),
            (Err(_), _) if !home.has_directory(&name) => {}
            (Err(error), _) => problem(&name, &error.to_string()),
        }
    }
    let no_layer = |path| Problem::other(path, "it is not a layer: it is not a directory".to_owned());
    problems.extend(files.into_iter().map(no_layer));
    Ok(with_chains(layers))
}

impl Place {
    fn has_directory(&self, name: &OsStr) -> bool {
        self.facts(name).is_ok_and(|facts| facts.kind == Type::Directory)
    }
}

/// A directory, without its chain.
fn directory(home: &Place, place: &Place, name: &str, progress: &dyn Progress) -> LayerDirectory {
    let measured = measure(home, name.as_ref(), progress);
    let kind = if name.ends_with(REMOVING) {
        Kind::Removing
    } else if place.has(SANDBOX, Type::File) {
        Kind::Sandbox
    } else if name.ends_with(INIT) {
        Kind::Init
    } else if place.has(FILES, Type::Directory) {
        Kind::Layer
    } else {
        Kind::Empty
    };
    LayerDirectory {
        name: name.to_owned(),
        kind,
        size: measured.bytes,
        parents: Vec::new(),
        alternate: None,
        has_chain: true,
        unread_chain: false,
        problems: measured.problem.into_iter().collect(),
    }
}

/// Reads the chains; all directories have their indexes by now.
fn with_chains(layers: Vec<(LayerDirectory, Place)>) -> Vec<LayerDirectory> {
    let index: HashMap<String, usize> =
        layers.iter().enumerate().map(|(i, (layer, _))| (key(&layer.name), i)).collect();
    let read = |(i, (mut layer, place)): (usize, (LayerDirectory, Place))| {
        match place.read(CHAIN.as_ref(), MAX_CHAIN_BYTES) {
            Ok(Some(text)) => read_chain(&mut layer, i, &text, &index),
            Ok(None) => {
                layer.has_chain = false;
                if layer.kind != Kind::Removing {
                    layer
                        .problems
                        .push(format!("{CHAIN} is missing; Docker takes that for a layer without parents"));
                }
            }
            Err(reason) => {
                layer.unread_chain = true;
                layer.problems.push(format!("{CHAIN}: {reason}"));
            }
        }
        if layer.kind == Kind::Layer
            && layer.has_chain
            && layer.parents.is_empty()
            && layer.problems.is_empty()
        {
            layer.kind = Kind::Base;
        }
        match alternate(&place, &index) {
            Ok(alternate) => layer.alternate = alternate.filter(|&alternate| alternate != i),
            Err(reason) => {
                layer.unread_chain = true;
                layer.problems.push(reason);
            }
        }
        layer
    };
    layers.into_iter().enumerate().map(read).collect()
}

/// Parents are absolute paths on the machine that made them: only the last component counts,
/// case-insensitively.
fn read_chain(layer: &mut LayerDirectory, own: usize, text: &[u8], index: &HashMap<String, usize>) {
    let chain = match json::read::<Vec<String>>(text) {
        Ok(chain) if chain.iter().any(String::is_empty) => {
            layer.unread_chain = true;
            layer.problems.push(format!("{CHAIN} names a parent without a name"));
            return;
        }
        Ok(chain) if chain.len() <= MAX_LAYERS => chain,
        Ok(chain) => {
            layer.unread_chain = true;
            layer
                .problems
                .push(format!("{CHAIN} names {} parents; at most {MAX_LAYERS} are looked at", chain.len()));
            return;
        }
        Err(error) => {
            layer.unread_chain = true;
            layer.problems.push(format!("{CHAIN} is not a JSON array of strings: {error}"));
            return;
        }
    };
    for path in chain {
        let name = last_component(&path);
        match index.get(&key(name)) {
            Some(&parent) if parent == own => {
                layer.problems.push(format!("{CHAIN} names the layer itself as a parent"));
            }
            Some(parent) if layer.parents.contains(parent) => {
                layer.problems.push(format!("{CHAIN} names {} twice", shown(name)));
            }
            Some(&parent) => layer.parents.push(parent),
            // One missing parent is enough to report.
            None if layer.problems.iter().any(|problem| problem.ends_with("is missing")) => {}
            None => layer.problems.push(format!("its parent {} is missing", shown(name))),
        }
    }
}

/// The layer that stands for this one, if any.
fn alternate(place: &Place, index: &HashMap<String, usize>) -> Result<Option<usize>, String> {
    for name in ALTERNATE_IDS {
        let id = place.read(name.as_ref(), MAX_ID_BYTES).map_err(|reason| format!("{name}: {reason}"))?;
        let Some(id) = id else { continue };
        let id = std::str::from_utf8(&id).map_err(|_| format!("{name} is not text"))?;
        return Ok(index.get(&key(last_component(id.trim()))).copied());
    }
    Ok(None)
}

/// The last component of a path with slashes or backslashes.
fn last_component(path: &str) -> &str {
    path.trim_end_matches(['\\', '/']).rsplit(['\\', '/']).next().unwrap_or_default()
}

/// A name for a message, shortened: a hostile one could be very long.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 100;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_windows_path_is_known_by_its_last_component() {
        for path in [r"C:\ProgramData\docker\windowsfilter\abc", r"\\?\D:\d\abc\", "/mnt/c/abc", "abc"] {
            assert_eq!(last_component(path), "abc", "{path}");
        }
        assert_eq!(last_component(r"C:\"), "C:");
    }

    #[test]
    fn long_names_are_cut_in_messages() {
        assert_eq!(shown("abc"), "abc");
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), 101);
    }
}
