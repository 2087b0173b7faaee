//! Durable records of the snapshots that containerd made: a crash neither loses one nor leaves it half
//! written.
//!
//! containerd keeps its own record of each and cannot restore one that is lost here, so every change is
//! durable before the call returns. The records are in a `redb` database
//! (`docs/decisions/0008-snapshot-records.md` says why) and all of them in memory: there are as many as
//! layers and containers. Layers stay in the layer store; what a snapshot needs there is named after its
//! number.

mod database;
mod reserve;

pub(crate) use database::reserve_path;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use windowsfilter::LayerId;

use crate::error::{Error, ShortKey, chain};
use database::DatabaseFile;

/// Kinds of snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A read-only view of a committed snapshot, or of nothing.
    View,
    /// An active snapshot to unpack a layer into.
    Unpack,
    /// An active snapshot that a container writes to.
    Sandbox,
    /// A layer.
    Committed,
}

impl Kind {
    /// Whether containerd calls this kind active.
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Self::Unpack | Self::Sandbox)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::View => "a view",
            Self::Unpack | Self::Sandbox => "active",
            Self::Committed => "committed",
        })
    }
}

/// The record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its key or, once committed, its name. Stored as the table's key.
    #[serde(skip)]
    pub key: String,
    /// Unique in this set, never reused. Its mounts, and all it needs of the layer store, are named after
    /// it.
    pub number: u64,
    /// Its kind.
    pub kind: Kind,
    /// Name of its parent; empty without one.
    pub parent: String,
    /// containerd's namespace, if known.
    #[serde(default)]
    pub namespace: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was created or committed; nanoseconds since 1970.
    pub created: i64,
    /// When it was last updated; nanoseconds since 1970.
    pub updated: i64,
    /// The layer of a committed snapshot, or the one that a view shows; for a snapshot to unpack into, a
    /// layer that the store already had, so that unpacking is not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerId>,
    /// Sandboxes: the usage of its file system when it was new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Usage>,
    /// Snapshots to unpack into: whether a layer was applied and containerd got the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub applied: bool,
    /// Snapshots to unpack into: whether the client unpacks by itself, into a directory that is discarded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thrown: bool,
}

/// Disk usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Bytes.
    pub size: u64,
    /// Files and directories.
    pub inodes: u64,
}

impl Record {
    /// The key for messages.
    pub(crate) fn short_key(&self) -> ShortKey {
        self.key.as_str().into()
    }

    /// Whether the client unpacks into it by itself, and the result is discarded.
    pub(crate) fn is_thrown(&self) -> bool {
        self.kind == Kind::Unpack && self.thrown
    }
}

/// The records of one set of snapshots.
#[derive(Debug)]
pub(crate) struct Records(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    file: DatabaseFile,
    state: State,
}

/// All records, as in the database.
#[derive(Debug)]
pub(crate) struct State {
    by_key: BTreeMap<String, Arc<Record>>,
    keys: HashMap<u64, String>,
    /// Next number: greater than that of any record ever written.
    next: u64,
    /// Pending numbers: a snapshot of this number is being created or removed, so the store may have
    /// something of it that no record needs.
    pending: BTreeSet<u64>,
    /// Pending numbers whose work is done; the database still lists them.
    ended: BTreeSet<u64>,
    /// Whether the database has the table of pending numbers.
    knows_pending: bool,
}

impl State {
    /// No records, and no number allocated yet.
    fn new() -> Self {
        Self {
            by_key: BTreeMap::new(),
            keys: HashMap::new(),
            next: 1,
            pending: BTreeSet::new(),
            ended: BTreeSet::new(),
            knows_pending: true,
        }
    }

    /// The record with this number.
    pub(crate) fn numbered(&self, number: u64) -> Option<&Arc<Record>> {
        self.keys.get(&number).and_then(|key| self.by_key.get(key))
    }

    /// Whether the last changes explain something in the store that has this number and that no record
    /// needs: it was being created or removed. Anything else is newer than these records, or belongs to
    /// another store.
    pub(crate) fn may_have_left(&self, number: u64) -> bool {
        // An earlier version did not write pending numbers.
        self.pending.contains(&number) || !self.knows_pending && number < self.next
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub(crate) fn get(&self, key: &str) -> Result<Arc<Record>, Error> {
        self.by_key.get(key).cloned().ok_or_else(|| Error::NoSuchSnapshot { key: key.into() })
    }

    /// Whether there is a record of `key`.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// A snapshot whose parent is `name`.
    pub(crate) fn child_of(&self, name: &str) -> Option<&Arc<Record>> {
        self.by_key.values().find(|record| record.parent == name)
    }

    /// All records, by key.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.by_key.values()
    }

    fn insert(&mut self, record: Record) {
        self.keys.insert(record.number, record.key.clone());
        self.by_key.insert(record.key.clone(), Arc::new(record));
    }

    fn apply(&mut self, change: Change<'_>) {
        if let Some(record) = change.old.and_then(|key| self.by_key.remove(key)) {
            self.keys.remove(&record.number);
        }
        if let Some(record) = change.new {
            self.insert(record.clone());
        }
        let ended = std::mem::take(&mut self.ended);
        self.pending.retain(|number| !ended.contains(number) && Some(*number) != change.ends);
        self.pending.extend(change.begins);
        self.knows_pending = true;
    }

    /// Whether the state is what `change` leads to.
    fn shows(&self, change: Change<'_>) -> bool {
        let is_new = |key: &str| change.new.is_some_and(|new| new.key == key);
        let is_gone = change.old.is_none_or(|old| is_new(old) || !self.contains(old));
        let is_there = |new: &Record| self.by_key.get(&new.key).is_some_and(|record| **record == *new);
        is_gone
            && change.new.is_none_or(is_there)
            && change.begins.iter().all(|number| self.pending.contains(number))
    }
}

/// One change: the key of a record to remove, a record to insert, numbers that become pending, and one that
/// no longer is.
#[derive(Clone, Copy, Debug, Default)]
struct Change<'a> {
    old: Option<&'a str>,
    new: Option<&'a Record>,
    begins: &'a [u64],
    ends: Option<u64>,
}

impl Inner {
    /// Reopens the database after an error closed it, and takes over its content.
    fn recover(&mut self) -> Result<(), Error> {
        if !self.file.is_open() {
            let found = self.file.open()?;
            // Keep numbers that were allocated or finished but not written yet.
            let (next, ended) = (found.next.max(self.state.next), std::mem::take(&mut self.state.ended));
            self.state = State { next, ended, ..found };
        }
        Ok(())
    }

    fn change(
        &mut self,
        change: Change<'_>,
        check: impl Fn(&State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            self.recover()?;
            check(&self.state)?;
            let Err(error) = self.file.write(&self.state, change) else { break };
            tracing::warn!("a change failed, the records are opened again: {}", chain(&error));
            let has_room = error.is_full() && self.file.spend_reserve();
            self.recover()?;
            // After a failed commit, only the file says whether it took effect.
            if self.state.shows(change) {
                return Ok(());
            }
            if !has_room {
                return Err(error);
            }
        }
        self.state.apply(change);
        self.file.fill_reserve();
        Ok(())
    }
}

impl Records {
    /// Opens the database at `path`, creating it if missing, and locks it against other processes.
    ///
    /// # Errors
    /// If another server has it open, it is damaged, or it cannot be created.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut file = DatabaseFile::new(path);
        let state = file.open()?;
        file.fill_reserve();
        Ok(Self(Mutex::new(Inner { file, state })))
    }

    /// Reads a checked copy of the current records and changes nothing, neither while reading nor in the
    /// file. `None` if a process has them open; empty if none were ever written.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub(crate) fn read_copy(path: &Path) -> Result<Option<State>, Error> {
        database::read_copy(path)
    }

    /// Reads the records although a server may be writing them; `None` if that fails.
    pub(crate) fn peek(path: &Path) -> Option<State> {
        database::peek(path)
    }

    /// Why there are no records at `path`: `missing` or `empty`.
    ///
    /// # Errors
    /// If the file's metadata cannot be read.
    pub(crate) fn absence(path: &Path) -> Result<Option<&'static str>, Error> {
        database::absence(path)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The state changes only after the database did, in steps that do not panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub(crate) fn get(&self, key: &str) -> Result<Arc<Record>, Error> {
        self.inner().state.get(key)
    }

    /// The record with this number.
    pub(crate) fn numbered(&self, number: u64) -> Option<Arc<Record>> {
        self.inner().state.numbered(number).cloned()
    }

    /// All records, by key.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        self.inner().state.all().cloned().collect()
    }

    /// Allocates a number for a new snapshot.
    pub(crate) fn allocate(&self) -> u64 {
        let state = &mut self.inner().state;
        state.next += 1;
        state.next - 1
    }

    /// Durably marks these numbers as pending: something under them is about to be created or removed. If
    /// this process dies before [`Self::ended`] or a record, the next start removes what they left.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(crate) fn begin(&self, numbers: &[u64]) -> Result<(), Error> {
        let next = numbers.iter().max().map_or(0, |last| last + 1);
        let mut inner = self.inner();
        inner.state.next = inner.state.next.max(next);
        inner.change(Change { begins: numbers, ..Change::default() }, |_| Ok(()))
    }

    /// Ends a number's pending state: only what its record needs, if it has one, is left. The next change
    /// writes that; until then a restart searches in vain.
    pub(crate) fn ended(&self, number: u64) {
        let state = &mut self.inner().state;
        if state.pending.contains(&number) {
            state.ended.insert(number);
        }
    }

    /// Runs `look` on the records, with no changes meanwhile.
    ///
    /// # Errors
    /// Those of `look`.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> Result<T, Error>) -> Result<T, Error> {
        look(&self.inner().state)
    }

    /// Removes the record `old`, if given, and inserts `new`, if given: both or neither, durably. Runs
    /// `check` first; nothing changes between the check and the write.
    ///
    /// # Errors
    /// Errors of `check`; a database that cannot be written.
    pub(crate) fn change(
        &self,
        old: Option<&str>,
        new: Option<Record>,
        check: impl Fn(&State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.inner().change(Change { old, new: new.as_ref(), ..Change::default() }, check)
    }

    /// Like [`Self::change`], for a new snapshot whose number [`Self::begin`] marked: everything under its
    /// number now belongs to the record.
    ///
    /// # Errors
    /// Like [`Self::change`].
    pub(crate) fn add(&self, new: &Record, check: impl Fn(&State) -> Result<(), Error>) -> Result<(), Error> {
        let change = Change { new: Some(new), ends: Some(new.number), ..Change::default() };
        self.inner().change(change, check)
    }

    /// Edits the record with this number, if it exists, with no other changes meanwhile.
    ///
    /// # Errors
    /// The database cannot be written.
    pub(crate) fn modify(&self, number: u64, edit: impl Fn(&Record) -> Record) -> Result<(), Error> {
        let mut inner = self.inner();
        let Some(old) = inner.state.numbered(number).cloned() else { return Ok(()) };
        let new = edit(&old);
        inner.change(Change { old: Some(&old.key), new: Some(&new), ..Change::default() }, |_| Ok(()))
    }

    /// Like [`Self::change`], removing the snapshot `old`; its number becomes pending.
    ///
    /// # Errors
    /// Like [`Self::change`].
    pub(crate) fn remove(
        &self,
        old: &Record,
        check: impl Fn(&State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let change = Change { old: Some(&old.key), begins: &[old.number], ..Change::default() };
        self.inner().change(change, check)
    }

    /// Reserves disk space for the next change again, if a full disk used it up and there is space now.
    pub(crate) fn keep_room(&self) {
        self.inner().file.fill_reserve();
    }

    /// Numbers that are pending.
    pub(crate) fn pending(&self) -> BTreeSet<u64> {
        let state = &self.inner().state;
        state.pending.difference(&state.ended).copied().collect()
    }
}
