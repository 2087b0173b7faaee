//! The records' file: a `redb` database, which is closed by the first error of the disk and has to be opened
//! again.
//!
//! redb remembers such an error and refuses everything after it; and whether a commit that failed is in the
//! file, it only finds out by opening it.

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

/// Version of the records that this code writes and reads.
const VERSION: u64 = 1;
/// Key of a snapshot to its record, as JSON.
const SNAPSHOTS: TableDefinition<&str, &[u8]> = TableDefinition::new("snapshots");
/// Numbers of snapshots that are being made or removed: what carries one of them may be there although no
/// record needs it.
pub(super) const PENDING: TableDefinition<u64, ()> = TableDefinition::new("pending");
/// `version`, and `next`: the next number of a snapshot.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The file, and room on its disk.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    reserve: Reserve,
    database: Option<Database>,
    /// It was open once: should it vanish, a new one would forget all snapshots.
    was_open: bool,
}

impl DatabaseFile {
    /// The one at `path`, not opened yet.
    pub(super) fn new(path: &Path) -> Self {
        let reserve = Reserve::new(&reserve_path(path));
        Self { path: path.to_owned(), reserve, database: None, was_open: false }
    }

    /// Whether it is open: at first, and after an error, it is not.
    pub(super) fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Opens it, creating it where there is none, and reads everything.
    ///
    /// # Errors
    /// When somebody else has it open, when it is damaged, or when it cannot be created.
    pub(super) fn open(&mut self) -> Result<State, Error> {
        match self.try_open() {
            // redb writes in order to open, over what is there; not every file system can do that without
            // room.
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

    /// Whether nothing was ever written, or there is no file.
    fn is_empty(&self) -> Result<bool, Error> {
        Ok(absence(&self.path)?.is_some())
    }

    /// Makes an empty one under another name first: what redb has begun to make when the disk is full or the
    /// power goes, it never opens again. Whoever makes one has the empty file locked, as redb has a full one.
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
            // Somebody has made it meanwhile.
            return Ok(());
        }
        let (new, dir) = (self.path.with_extension("new"), self.path.parent().unwrap_or(Path::new("/")));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", &new)?,
            _ => {}
        }
        let created = create_database(&new).map_err(|source| failed(&self.path, source));
        if created.is_err() {
            // It would only take room; the next attempt removes it as well.
            let _ = fs::remove_file(&new);
        }
        created?;
        fs::rename(&new, &self.path).at("create", &self.path)?;
        File::open(dir).and_then(|dir| dir.sync_all()).at("sync", dir)
    }

    /// Writes a change, durably, and with it what `state` has not written yet: `next`, so that a number is
    /// not given twice even if its snapshot is gone, and which numbers are done with.
    ///
    /// # Errors
    /// Any error closes the file, and leaves open whether the change is in it.
    pub(super) fn write(&mut self, state: &State, change: Change<'_>) -> Result<(), Error> {
        let database = self.database.as_ref().expect("it was opened");
        let written = try_write(database, state, change);
        if written.is_err() {
            self.database = None;
        }
        written.map_err(|source| failed(&self.path, source))
    }

    /// As after an error.
    #[cfg(test)]
    pub(super) fn close(&mut self) {
        self.database = None;
    }

    /// Frees the room that was kept. Whether there was any.
    pub(super) fn spend_reserve(&mut self) -> bool {
        self.reserve.spend()
    }

    /// Keeps room, if there is any.
    pub(super) fn fill_reserve(&mut self) {
        self.reserve.fill();
    }
}

/// Where room is kept for the records at `path`.
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

/// Everything in the database, `None` if nothing was ever written. Writes nothing itself: a full disk would
/// not let it.
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
        // An earlier version of this program did not write it.
        Err(TableError::TableDoesNotExist(_)) => state.knows_pending = false,
        table => {
            for entry in table.map_err(|e| failed(e.into()))?.iter().map_err(|e| failed(e.into()))? {
                state.pending.insert(entry.map_err(|e| failed(e.into()))?.0.value());
            }
        }
    }
    Ok(Some(state))
}

/// As [`super::Records::read_copy`].
pub(super) fn read_copy(path: &Path) -> Result<Option<State>, Error> {
    let Some(bytes) = read_unless_open(path).at("read", path)? else { return Ok(None) };
    parse(path, &bytes).map(Some)
}

/// As [`super::Records::peek`].
pub(super) fn peek(path: &Path) -> Option<State> {
    parse(path, &fs::read(path).ok()?).ok()
}

/// The records in the bytes of a database; none of them if nothing was ever written.
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

/// What there is instead of a database, if there is none: nothing was ever written, or what was is gone.
pub(super) fn absence(path: &Path) -> Result<Option<&'static str>, Error> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some("missing")),
        other => Ok((other.at("look at", path)?.len() == 0).then_some("empty")),
    }
}

/// The content of a database, nothing where there is none, unless somebody has it open. Whoever opens one
/// locks all of it, so that this is no state in between.
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
