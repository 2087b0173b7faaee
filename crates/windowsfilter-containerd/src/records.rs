//! The snapshots that containerd made, kept so that none is forgotten or half there after a crash.
//!
//! containerd keeps a record of its own for each and cannot make up for one that is lost here, so every
//! change is durable before it is answered. The records are in a `redb` database
//! (`docs/decisions/0008-snapshot-records.md` says why) and all of them in memory: there are as many as there
//! are layers and containers. Layers stay the layer store's: what a snapshot needs of it is named after its
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

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A committed snapshot, or nothing, to look at.
    View,
    /// An active one, into which a layer will be unpacked.
    Unpack,
    /// An active one, for a container to write to.
    Sandbox,
    /// A layer.
    Committed,
}

impl Kind {
    /// Whether containerd calls it active.
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

/// What is kept of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its key or, once it is committed, its name. Kept as the key of the table.
    #[serde(skip)]
    pub key: String,
    /// No other snapshot of this set ever had it. What it needs of the layer store, and its mounts, are named
    /// after it.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// Name of its parent; empty without one.
    pub parent: String,
    /// containerd's namespace, as far as it is known.
    #[serde(default)]
    pub namespace: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made or committed; nanoseconds since 1970.
    pub created: i64,
    /// When it was last updated; nanoseconds since 1970.
    pub updated: i64,
    /// Of a committed snapshot its layer, of a view the layer that it shows; of one to unpack into the layer
    /// that need not be unpacked, because it was in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerId>,
    /// Of a sandbox: what its file system used when it was new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Usage>,
    /// Of one to unpack into: whether a layer was applied to it, and containerd was told so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub applied: bool,
    /// Of one to unpack into: whether its client unpacks by itself, into a directory that is thrown away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thrown: bool,
}

/// What something takes.
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

    /// Whether a client unpacks into it by itself, for nothing.
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

/// All records, as they are in the database.
#[derive(Debug)]
pub(crate) struct State {
    by_key: BTreeMap<String, Arc<Record>>,
    keys: HashMap<u64, String>,
    /// A number that no record has, and none ever had that was written.
    next: u64,
    /// Numbers of which something may be in the store that no record needs: it is being made, or removed.
    pending: BTreeSet<u64>,
    /// Those of which that is no longer so; in the database they are still pending.
    ended: BTreeSet<u64>,
    /// Whether the database has the numbers that are pending.
    knows_pending: bool,
}

impl State {
    /// No records, and no number given away yet.
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

    /// Whether something that carries this number, and that no record needs, is explained by what was done
    /// last: it was being made, or removed. What is not, is of later than these records, or of somebody else.
    pub(crate) fn may_have_left(&self, number: u64) -> bool {
        // An earlier version of this program did not note what it was about.
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

    /// Whether it is as `change` leaves it.
    fn shows(&self, change: Change<'_>) -> bool {
        let is_new = |key: &str| change.new.is_some_and(|new| new.key == key);
        let is_gone = change.old.is_none_or(|old| is_new(old) || !self.contains(old));
        let is_there = |new: &Record| self.by_key.get(&new.key).is_some_and(|record| **record == *new);
        is_gone
            && change.new.is_none_or(is_there)
            && change.begins.iter().all(|number| self.pending.contains(number))
    }
}

/// A record that goes, by its key, and one that comes; numbers of which something is going to be made or
/// removed, and one of which that is done.
#[derive(Clone, Copy, Debug, Default)]
struct Change<'a> {
    old: Option<&'a str>,
    new: Option<&'a Record>,
    begins: &'a [u64],
    ends: Option<u64>,
}

impl Inner {
    /// Opens the database again if an error has closed it. What it has then is what counts.
    fn recover(&mut self) -> Result<(), Error> {
        if !self.file.is_open() {
            let found = self.file.open()?;
            // Numbers that were given away, or done with, and not written yet stay so.
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
            // Whether a commit that failed is in the file, only the file knows.
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
    /// Opens the database at `path`, creating it where there is none. Nobody else can open it meanwhile.
    ///
    /// # Errors
    /// When another server has it, when it is damaged, or when it cannot be created.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut file = DatabaseFile::new(path);
        let state = file.open()?;
        file.fill_reserve();
        Ok(Self(Mutex::new(Inner { file, state })))
    }

    /// Reads the records as they are now, whole and checked, and changes nothing: neither what is read nor,
    /// afterwards, the file. `None` if somebody has them open; none at all if nobody has ever written any.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn read_copy(path: &Path) -> Result<Option<State>, Error> {
        database::read_copy(path)
    }

    /// Reads the records although somebody may be writing them; `None` if that does not go well.
    pub(crate) fn peek(path: &Path) -> Option<State> {
        database::peek(path)
    }

    /// What there is at `path` instead of records, if there are none: `missing` or `empty`.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(crate) fn absence(path: &Path) -> Result<Option<&'static str>, Error> {
        database::absence(path)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The state changes after the database did, in steps that do not panic.
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

    /// A number for a new snapshot.
    pub(crate) fn allocate(&self) -> u64 {
        let state = &mut self.inner().state;
        state.next += 1;
        state.next - 1
    }

    /// Notes, durably, that something is going to be made or removed that carries these numbers. Until
    /// [`Self::ended`], or a record of it, it is nobody's should this process die.
    ///
    /// # Errors
    /// A database that cannot be written.
    pub(crate) fn begin(&self, numbers: &[u64]) -> Result<(), Error> {
        let next = numbers.iter().max().map_or(0, |last| last + 1);
        let mut inner = self.inner();
        inner.state.next = inner.state.next.max(next);
        inner.change(Change { begins: numbers, ..Change::default() }, |_| Ok(()))
    }

    /// Nothing carries this number any more but what its record needs, if it has one. That is written with
    /// the next change: until then the start would look in vain.
    pub(crate) fn ended(&self, number: u64) {
        let state = &mut self.inner().state;
        if state.pending.contains(&number) {
            state.ended.insert(number);
        }
    }

    /// Looks at the records while none of them changes.
    ///
    /// # Errors
    /// Those of `look`.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> Result<T, Error>) -> Result<T, Error> {
        look(&self.inner().state)
    }

    /// Takes away the record `old`, if one is given, and writes `new`, if one is given; both or neither are
    /// done, and durable. `check` looks first at what is there; nothing changes between its look and the
    /// writing.
    ///
    /// # Errors
    /// Those of `check`; a database that cannot be written.
    pub(crate) fn change(
        &self,
        old: Option<&str>,
        new: Option<Record>,
        check: impl Fn(&State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.inner().change(Change { old, new: new.as_ref(), ..Change::default() }, check)
    }

    /// As [`Self::change`], of a snapshot that is `new` and that [`Self::begin`] was called for: all that
    /// carries its number is what its record needs.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn add(&self, new: &Record, check: impl Fn(&State) -> Result<(), Error>) -> Result<(), Error> {
        let change = Change { new: Some(new), ends: Some(new.number), ..Change::default() };
        self.inner().change(change, check)
    }

    /// Changes the record with this number, if there is one; nobody else changes it meanwhile.
    ///
    /// # Errors
    /// A database that cannot be written.
    pub(crate) fn modify(&self, number: u64, edit: impl Fn(&Record) -> Record) -> Result<(), Error> {
        let mut inner = self.inner();
        let Some(old) = inner.state.numbered(number).cloned() else { return Ok(()) };
        let new = edit(&old);
        inner.change(Change { old: Some(&old.key), new: Some(&new), ..Change::default() }, |_| Ok(()))
    }

    /// As [`Self::change`], of the snapshot `old`, which is removed: what carries its number is going to be.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn remove(
        &self,
        old: &Record,
        check: impl Fn(&State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let change = Change { old: Some(&old.key), begins: &[old.number], ..Change::default() };
        self.inner().change(change, check)
    }

    /// Keeps room on the disk again for the next change, after a full disk had to take it and if there is any
    /// by now.
    pub(crate) fn keep_room(&self) {
        self.inner().file.fill_reserve();
    }

    /// Numbers that are pending.
    pub(crate) fn pending(&self) -> BTreeSet<u64> {
        let state = &self.inner().state;
        state.pending.difference(&state.ended).copied().collect()
    }
}
