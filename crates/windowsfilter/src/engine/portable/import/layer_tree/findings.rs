//! What is odd about a tar but no error, for the user; and whether it is a layer at all.

use crate::error::{Error, TarContent, shown};

/// Names that are shown of all of a kind.
const SHOWN: usize = 5;

/// How often something was found, and the first names of it.
#[derive(Debug, Default)]
pub(in super::super) struct Names {
    count: u64,
    first: Vec<String>,
}

impl Names {
    pub(super) fn add(&mut self, name: &[u8]) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(shown(name));
        }
    }

    /// The first ones, in words.
    fn list(&self) -> String {
        let more = if self.count > self.first.len() as u64 { ", …" } else { "" };
        self.first.join(", ") + more
    }

    /// `one` is what one of them is called.
    fn note(&self, one: &str, what: &str) -> Option<String> {
        let called = match self.count {
            1 => one.to_owned(),
            _ => one.strip_suffix('y').map_or_else(|| format!("{one}s"), |start| format!("{start}ies")),
        };
        (self.count > 0).then(|| format!("{} {called} {what}: {}", self.count, self.list()))
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(in super::super) struct Findings {
    passed_over: Names,
    /// Entries of which the layer consists, and others.
    inside: u64,
    outside: u64,
    looks_like: Option<TarContent>,
    pub(super) no_whiteouts: Names,
    pub(super) hive_whiteouts: Names,
    pub(super) late_whiteouts: Names,
}

impl Findings {
    /// Takes an entry that is in one of a layer's directories, or means something there.
    pub(super) fn inside(&mut self) {
        self.inside += 1;
    }

    /// Takes what aufs keeps for itself in a layer's directories.
    pub(super) fn of_aufs(&mut self, name: &[u8]) {
        self.inside += 1;
        self.passed_over.add(name);
    }

    /// Takes an entry outside a layer's directories.
    pub(super) fn outside(&mut self, name: &[u8]) {
        // The top itself, which many tars have, says nothing.
        let Some(first) =
            name.split(|byte| matches!(byte, b'/' | b'\\')).find(|part| !matches!(*part, b"" | b"."))
        else {
            return;
        };
        self.outside += 1;
        self.passed_over.add(name);
        let looks_like = TarContent::of(first);
        if looks_like != TarContent::Files {
            self.looks_like.get_or_insert(looks_like);
        }
    }

    /// Refuses what has entries, but none of a layer: it would be a layer that shows nothing, and nobody
    /// wants that.
    pub(in super::super) fn check(&self, take_any: bool) -> Result<(), Error> {
        if take_any || self.outside == 0 || self.inside > 0 {
            return Ok(());
        }
        Err(Error::NoLayer {
            entries: self.outside,
            names: self.passed_over.list(),
            looks_like: self.looks_like.unwrap_or(TarContent::Files),
        })
    }

    /// What was passed over or is not as it seems, for the user.
    pub(in super::super) fn notes(&self) -> Vec<String> {
        let notes = [
            (&self.passed_over, "entry", "outside Files, Hives and UtilityVM, kept in the tar but not shown"),
            (&self.hive_whiteouts, "deletion", "of hives, which Windows ignores"),
            (&self.no_whiteouts, "deletion", "with a slash at the end, which means nothing"),
            (
                &self.late_whiteouts,
                "deletion",
                "of what the layer itself has, which stays; what is below is hidden",
            ),
        ];
        notes.into_iter().filter_map(|(names, one, what)| names.note(one, what)).collect()
    }
}
