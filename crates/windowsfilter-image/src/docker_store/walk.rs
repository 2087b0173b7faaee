//! A layer's disk usage: a walk that keeps only the directories on its current path.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use windowsfilter::import::Progress;

use super::place::{Names, Place, Type};

/// Deepest level to visit. Each level keeps a directory open; Windows' own paths have some 50 levels, and
/// at most 130 unless a program asks for longer paths.
const MAX_DEPTH: usize = 250;
/// Most files with several names to remember, so that they count once. A base layer has some 10,000.
const MAX_SHARED: usize = 1_000_000;

/// The result of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) bytes: u64,
    /// Why it is incomplete.
    pub(super) problem: Option<String>,
}

/// Adds up the files in the directory `name` of `home`.
pub(super) fn measure(home: &Place, name: &OsStr, progress: &dyn Progress) -> Measured {
    let mut walk = Walk::default();
    let mut levels: Vec<Level> = walk.open(home, name, 0).into_iter().collect();
    loop {
        let depth = levels.len();
        let Some((place, names)) = levels.last_mut() else { return walk.measured };
        match names.next() {
            Some(Ok(name)) => {
                let below = walk.visit(place, &name, depth, progress);
                levels.extend(below);
            }
            Some(Err(error)) => {
                walk.note(place.path(), &error.to_string());
                levels.pop();
            }
            None => drop(levels.pop()),
        }
    }
}

/// A directory and its names still to visit.
type Level = (Place, Names);

#[derive(Default)]
struct Walk {
    measured: Measured,
    shared: HashSet<(u64, u64)>,
}

impl Walk {
    /// Counts a file, or opens a directory.
    fn visit(&mut self, place: &Place, name: &OsStr, depth: usize, progress: &dyn Progress) -> Option<Level> {
        let facts = match place.facts(name) {
            Ok(facts) => facts,
            Err(error) => {
                self.note(&place.path().join(name), &error.to_string());
                return None;
            }
        };
        match facts.kind {
            Type::Directory => return self.open(place, name, depth),
            Type::File if facts.shared.is_none_or(|file| self.is_new(place, file)) => {
                self.measured.bytes = self.measured.bytes.saturating_add(facts.bytes);
                progress.blob_bytes(facts.bytes);
            }
            Type::File | Type::Link | Type::Other => {}
        }
        None
    }

    fn open(&mut self, parent: &Place, name: &OsStr, depth: usize) -> Option<Level> {
        let path = parent.path().join(name);
        if depth == MAX_DEPTH {
            self.note(&path, &format!("what lies deeper than {MAX_DEPTH} levels is not counted"));
            return None;
        }
        let level = parent.subdirectory(name).and_then(|place| place.names().map(|names| (place, names)));
        level.inspect_err(|error| self.note(&path, &error.to_string())).ok()
    }

    fn is_new(&mut self, place: &Place, file: (u64, u64)) -> bool {
        if self.shared.len() < MAX_SHARED {
            return self.shared.insert(file);
        }
        self.note(place.path(), "there are so many hard links that some are counted twice");
        !self.shared.contains(&file)
    }

    /// Keeps the first problem.
    fn note(&mut self, path: &Path, problem: &str) {
        if self.measured.problem.is_none() {
            self.measured.problem = Some(format!("its size is not exact: {}: {problem}", path.display()));
        }
    }
}
