//! The deletions of a layer, indexed by path.

use std::collections::BTreeMap;

use crate::name;

/// The name that the mark of an opaque directory (`.wh..wh..opq`) deletes in it. It concerns the directory
/// itself.
const OPAQUE: &[u8] = b".wh..opq";

/// Paths that a layer deletes, in order.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    /// `None` for forgotten ones.
    paths: Vec<Option<Vec<u8>>>,
    /// Indexes by folded path, so that the entries of a directory are adjacent.
    numbers: BTreeMap<Vec<u8>, Vec<usize>>,
}

impl Deletions {
    pub(super) fn push(&mut self, path: Vec<u8>) {
        self.numbers.entry(name::fold(&path)).or_default().push(self.paths.len());
        self.paths.push(Some(path));
    }

    /// Forgets the deletions in a directory that was replaced. Its opaque mark stays: the replacement hides
    /// the lower content as well.
    pub(super) fn forget_below(&mut self, directory: &[u8]) {
        let below = [&name::fold(directory)[..], b"\\"].concat();
        let keys =
            self.numbers.range(below.clone()..).map(|(key, _)| key).take_while(|key| key.starts_with(&below));
        let keys = keys.filter(|key| key[below.len()..] != name::fold(OPAQUE));
        for key in keys.cloned().collect::<Vec<_>>() {
            for number in self.numbers.remove(&key).unwrap_or_default() {
                self.paths[number] = None;
            }
        }
    }

    pub(super) fn into_paths(self) -> Vec<Vec<u8>> {
        self.paths.into_iter().flatten().collect()
    }
}
