//! The records' file: a `redb` database. A disk error closes it, and the next use reopens it.
//!
//! redb remembers such an error and refuses everything after it; only reopening the file shows whether a
//! failed commit took effect.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableError,
};

use super::reserve::Reserve;
use super::{Change, Record, State};
use crate::error::{Error, IoContext};

/// Version of the record format.
const VERSION: u64 = 1;
/// Maps a snapshot's key to its record, as JSON.
const SNAPSHOTS: TableDefinition<&str, &[u8]> = TableDefinition::new("snapshots");
/// Numbers of snapshots that are being created or removed: the store may have something under them that no
/// record needs.
pub(super) const PENDING: TableDefinition<u64, ()> = TableDefinition::new("pending");
/// `version`, and `next`: the next number of a snapshot.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The database file and its reserve.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    reserve: Reserve,
    database: Option<Database>,
    /// Whether it was open once: if it vanishes then, creating a new one would forget all snapshots.
    was_open: bool,
}

impl DatabaseFile {
    /// The file at `path`, not opened yet.
    pub(super) fn new(path: &Path) -> Self {
        let reserve = Reserve::new(&reserve_path(path));
        Self { path: path.to_owned(), reserve, database: None, was_open: false }
    }

    /// Whether it is open; not before the first use and not after an error.
    pub(super) fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Opens the file, creating it if missing, and reads everything.
    ///
    /// # Errors
    /// If another process has it open, it is damaged, or it cannot be created.
    pub(super) fn open(&mut self) -> Result<State, Error> {
        match self.try_open() {
            // redb overwrites part of the file to open it; some file systems need free space even for that.
            Err(error) if error.is_full() && self.reserve.spend() => self.try_open(),
            other => other,
        }
    }

    fn try_open(&mut self) -> Result<State, Error> {
        if !self.was_open && self.is_empty()? {
            self.create()?;
        }
        let database = builder().open(&self.path).map_err(|source| failed(&self.path, source))?;
        let state = match load(&self.path, &database)? {
            Some(state) => state,
            None => {
                initialize(&database).map_err(|source| failed(&self.path, source))?;
                State::new()
            }
        };
        self.database = Some(database);
        self.was_open = true;
        Ok(state)
    }

    /// Whether the file is missing or empty.
    fn is_empty(&self) -> Result<bool, Error> {
        Ok(absence(&self.path)?.is_some())
    }

    /// Creates the database under another name first: redb never opens one whose creation a full disk or
    /// power loss interrupted. The creator holds a lock on the empty file, as redb does on a real one.
    fn create(&self) -> Result<(), Error> {
        let empty = File::options().create(true).append(true).open(&self.path).at("create", &self.path)?;
        match empty.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(failed(&self.path, redb::Error::DatabaseAlreadyOpen));
            }
            Err(TryLockError::Error(error)) => Err(error).at("lock", &self.path)?,
            Ok(()) => {}
        }
        if !self.is_empty()? {
            // Another process has created it.
            return Ok(());
        }
        let (new, dir) = (self.path.with_extension("new"), self.path.parent().unwrap_or(Path::new("/")));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", &new)?,
            _ => {}
        }
        let created = create_database(&new).map_err(|source| failed(&self.path, source));
        if created.is_err() {
            // Only takes space; the next attempt removes it too.
            let _ = fs::remove_file(&new);
        }
        created?;
        fs::rename(&new, &self.path).at("create", &self.path)?;
        File::open(dir).and_then(|dir| dir.sync_all()).at("sync", dir)
    }

    /// Durably writes a change, and what `state` has not written yet: `next`, so that a number is never
    /// reused even if its snapshot is gone, and the numbers that are no longer pending.
    ///
    /// # Errors
    /// Any error closes the file; the change may or may not have taken effect.
    pub(super) fn write(&mut self, state: &State, change: Change<'_>) -> Result<(), Error> {
        let database = self.database.as_ref().expect("it was opened");
        let written = try_write(database, state, change);
        if written.is_err() {
            self.database = None;
        }
        written.map_err(|source| failed(&self.path, source))
    }

    /// Closes the file, as an error does.
    #[cfg(test)]
    pub(super) fn close(&mut self) {
        self.database = None;
    }

    /// Deletes the reserve file. Returns whether it existed.
    pub(super) fn spend_reserve(&mut self) -> bool {
        self.reserve.spend()
    }

    /// Fills the reserve, if the disk has space.
    pub(super) fn fill_reserve(&mut self) {
        self.reserve.fill();
    }
}

/// Path of the reserve file for the records at `path`.
pub(crate) fn reserve_path(path: &Path) -> PathBuf {
    path.with_extension("reserve")
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true);
    builder
}

fn create_database(path: &Path) -> Result<(), redb::Error> {
    let database = builder().create(path)?;
    initialize(&database)?;
    Ok(database.close()?)
}

fn initialize(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.open_table(SNAPSHOTS)?;
    transaction.open_table(PENDING)?;
    transaction.open_table(META)?.insert("version", VERSION)?;
    Ok(transaction.commit()?)
}

fn try_write(database: &Database, state: &State, change: Change<'_>) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut table = transaction.open_table(SNAPSHOTS)?;
        if let Some(key) = change.old {
            table.remove(key)?;
        }
        if let Some(record) = change.new {
            let text = serde_json::to_vec(record).expect("a record has string keys and finite numbers");
            table.insert(record.key.as_str(), text.as_slice())?;
        }
        let mut pending = transaction.open_table(PENDING)?;
        for number in state.ended.iter().chain(&change.ends) {
            pending.remove(number)?;
        }
        for number in change.begins {
            pending.insert(number, ())?;
        }
        transaction.open_table(META)?.insert("next", state.next)?;
    }
    Ok(transaction.commit()?)
}

/// Reads the whole database; `None` if nothing was ever written. Writes nothing: that would fail on a full
/// disk.
fn load(path: &Path, database: &Database) -> Result<Option<State>, Error> {
    let failed = |source: redb::Error| failed(path, source);
    let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other.map_err(|e| failed(e.into()))?,
    };
    let number = |key| match meta.get(key) {
        Ok(value) => Ok(value.map(|value| value.value())),
        Err(error) => Err(failed(error.into())),
    };
    let version = number("version")?.unwrap_or_default();
    if version != VERSION {
        return Err(Error::RecordsVersion { path: path.to_owned(), version, expected: VERSION });
    }
    let mut state = State::new();
    state.next = number("next")?.unwrap_or(state.next);
    let table = transaction.open_table(SNAPSHOTS).map_err(|e| failed(e.into()))?;
    for entry in table.iter().map_err(|e| failed(e.into()))? {
        let (key, text) = entry.map_err(|e| failed(e.into()))?;
        let key = key.value().to_owned();
        let record: Record = serde_json::from_slice(text.value()).map_err(|source| Error::DamagedRecord {
            path: path.to_owned(),
            key: key.as_str().into(),
            source,
        })?;
        state.insert(Record { key, ..record });
    }
    match transaction.open_table(PENDING) {
        // An earlier version did not write this table.
        Err(TableError::TableDoesNotExist(_)) => state.knows_pending = false,
        table => {
            for entry in table.map_err(|e| failed(e.into()))?.iter().map_err(|e| failed(e.into()))? {
                state.pending.insert(entry.map_err(|e| failed(e.into()))?.0.value());
            }
        }
    }
    Ok(Some(state))
}

/// See [`super::Records::read_copy`].
pub(super) fn read_copy(path: &Path) -> Result<Option<State>, Error> {
    let Some(bytes) = read_unless_open(path).at("read", path)? else { return Ok(None) };
    parse(path, &bytes).map(Some)
}

/// See [`super::Records::peek`].
pub(super) fn peek(path: &Path) -> Option<State> {
    parse(path, &fs::read(path).ok()?).ok()
}

/// Parses a database's bytes; no bytes mean no records.
fn parse(path: &Path, bytes: &[u8]) -> Result<State, Error> {
    if bytes.is_empty() {
        return Ok(State::new());
    }
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64)
        .and_then(|()| copy.write(0, bytes))
        .map_err(std::io::Error::other)
        .at("copy", path)?;
    let database = builder().create_with_backend(copy).map_err(|source| failed(path, source))?;
    Ok(load(path, &database)?.unwrap_or_else(State::new))
}

/// Why there is no database, if there is none: `missing` (never written, or deleted) or `empty`.
pub(super) fn absence(path: &Path) -> Result<Option<&'static str>, Error> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some("missing")),
        other => Ok((other.at("look at", path)?.len() == 0).then_some("empty")),
    }
}

/// A database's bytes, empty if missing; `None` if a process has it open. An open database is locked, so
/// this never reads an intermediate state.
fn read_unless_open(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(Vec::new())),
        other => other?,
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn failed(path: &Path, source: impl Into<redb::Error>) -> Error {
    let (path, source) = (path.to_owned(), Box::new(source.into()));
    match *source {
        redb::Error::DatabaseAlreadyOpen => Error::Records { path, source },
        _ => Error::RecordsUnusable { path, source },
    }
}
