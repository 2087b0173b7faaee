//! Collects oddities of a tar that are not errors, for the user, and checks that it is a layer at all.

use crate::error::{Error, TarContent, shown};

/// Names to show of each kind.
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

    /// Lists the first names as text.
    fn list(&self) -> String {
        let more = if self.count > self.first.len() as u64 { ", …" } else { "" };
        self.first.join(", ") + more
    }

    /// `one` is the singular noun for them.
    fn note(&self, one: &str, what: &str) -> Option<String> {
        let called = match self.count {
            1 => one.to_owned(),
            _ => one.strip_suffix('y').map_or_else(|| format!("{one}s"), |start| format!("{start}ies")),
        };
        (self.count > 0).then(|| format!("{} {called} {what}: {}", self.count, self.list()))
    }
}

/// The findings so far.
#[derive(Debug, Default)]
pub(in super::super) struct Findings {
    passed_over: Names,
    /// Entries that belong to the layer, and others.
    inside: u64,
    outside: u64,
    looks_like: Option<TarContent>,
    pub(super) no_whiteouts: Names,
    pub(super) hive_whiteouts: Names,
    pub(super) late_whiteouts: Names,
}

impl Findings {
    /// Counts an entry that is in one of a layer's directories, or means something there.
    pub(super) fn inside(&mut self) {
        self.inside += 1;
    }

    /// Counts a file of aufs in a layer's directories.
    pub(super) fn of_aufs(&mut self, name: &[u8]) {
        self.inside += 1;
        self.passed_over.add(name);
    }

    /// Counts an entry outside a layer's directories.
    pub(super) fn outside(&mut self, name: &[u8]) {
        // Many tars have an entry for the top itself; it means nothing.
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

    /// Refuses a tar that has entries, but none of a layer: it would make a layer that shows nothing, which
    /// is never intended.
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

    /// Notes for the user: entries that were skipped, or are not as they seem.
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
