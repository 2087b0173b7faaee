//! The snapshots that containerd made, kept so that none is forgotten or half there after a crash.
//!
//! containerd keeps a record of its own for each and cannot make up for one that is lost here, so every change is durable before it is
//! answered. The records are in a `redb` database (`docs/decisions/0008-snapshot-records.md` says why) and all of them in memory: there are
//! as many as there are layers and containers. Layers stay the layer store's: what a snapshot needs of it is named after its number.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::InMemoryBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::{Deserialize, Serialize};
use windowsfilter::LayerId;

use crate::error::{Error, IoContext, ShortKey};

/// Version of the records that this code writes and reads.
const VERSION: u64 = 1;
/// Key of a snapshot to its record, as JSON.
const SNAPSHOTS: TableDefinition<&str, &[u8]> = TableDefinition::new("snapshots");
/// `version`, and `next`: the next number of a snapshot.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

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
    /// No other snapshot of this set ever had it. What it needs of the layer store, and its mounts, are named after it.
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
    /// Of a committed snapshot its layer, of a view the layer that it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerId>,
    /// Of a sandbox: what its file system used when it was new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Usage>,
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
}

/// The records of one set of snapshots.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    database: Database,
    state: Mutex<State>,
}

/// All records, as they are in the database.
#[derive(Debug, Default)]
pub(crate) struct State {
    by_key: BTreeMap<String, Arc<Record>>,
    keys: HashMap<u64, String>,
    /// A number that no record has, and none ever had that was written.
    next: u64,
}

impl State {
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
}

impl Records {
    /// Opens the database at `path`, creating it where there is none. Nobody else can open it meanwhile.
    ///
    /// # Errors
    /// When another server has it, when it is damaged, or when it cannot be created.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut builder = Database::builder();
        builder.set_check_integrity_on_open(true);
        let database = builder.create(path).map_err(|source| records_error(path, source))?;
        Self::load(path, database)
    }

    /// Reads the records as they are now, whole and checked, and changes nothing: neither what is read nor, afterwards, the file. `None` if somebody has
    /// them open, or has never written any.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn read_copy(path: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = read_unless_open(path).at("read", path)? else { return Ok(None) };
        let copy = InMemoryBackend::new();
        copy.set_len(bytes.len() as u64)
            .and_then(|()| copy.write(0, &bytes))
            .map_err(std::io::Error::other)
            .at("copy", path)?;
        let mut builder = Database::builder();
        builder.set_check_integrity_on_open(true);
        let database = builder.create_with_backend(copy).map_err(|source| records_error(path, source))?;
        Self::load(path, database).map(Some)
    }

    fn load(path: &Path, database: Database) -> Result<Self, Error> {
        let records = Self { path: path.to_owned(), database, state: Mutex::default() };
        records.check_version()?;
        *records.state() = records.read_all()?;
        Ok(records)
    }

    fn check_version(&self) -> Result<(), Error> {
        let transaction = self.database.begin_write().map_err(|e| self.failed(e))?;
        {
            let mut meta = transaction.open_table(META).map_err(|e| self.failed(e))?;
            transaction.open_table(SNAPSHOTS).map_err(|e| self.failed(e))?;
            let version = meta.get("version").map_err(|e| self.failed(e))?.map(|value| value.value());
            match version {
                Some(VERSION) => {}
                Some(version) => {
                    let path = self.path.clone();
                    return Err(Error::RecordsVersion { path, version, expected: VERSION });
                }
                None => drop(meta.insert("version", VERSION).map_err(|e| self.failed(e))?),
            }
        }
        transaction.commit().map_err(|e| self.failed(e))
    }

    fn read_all(&self) -> Result<State, Error> {
        let transaction = self.database.begin_read().map_err(|e| self.failed(e))?;
        let meta = transaction.open_table(META).map_err(|e| self.failed(e))?;
        let next = meta.get("next").map_err(|e| self.failed(e))?.map_or(1, |value| value.value());
        let mut state = State { next, ..State::default() };
        let table = transaction.open_table(SNAPSHOTS).map_err(|e| self.failed(e))?;
        for entry in table.iter().map_err(|e| self.failed(e))? {
            let (key, text) = entry.map_err(|e| self.failed(e))?;
            let key = key.value().to_owned();
            let record: Record = serde_json::from_slice(text.value()).map_err(|source| {
                Error::DamagedRecord { path: self.path.clone(), key: key.as_str().into(), source }
            })?;
            state.keys.insert(record.number, key.clone());
            state.by_key.insert(key.clone(), Arc::new(Record { key, ..record }));
        }
        Ok(state)
    }

    fn failed(&self, source: impl Into<redb::Error>) -> Error {
        records_error(&self.path, source)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It changes after the database did, in steps that do not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of `key`.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`].
    pub(crate) fn get(&self, key: &str) -> Result<Arc<Record>, Error> {
        self.state().get(key)
    }

    /// The record with this number.
    pub(crate) fn numbered(&self, number: u64) -> Option<Arc<Record>> {
        let state = self.state();
        state.keys.get(&number).and_then(|key| state.by_key.get(key)).cloned()
    }

    /// All records, by key.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        self.state().by_key.values().cloned().collect()
    }

    /// A number for a new snapshot.
    pub(crate) fn allocate(&self) -> u64 {
        let mut state = self.state();
        state.next += 1;
        state.next - 1
    }

    /// Looks at the records while none of them changes.
    ///
    /// # Errors
    /// Those of `look`.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> Result<T, Error>) -> Result<T, Error> {
        look(&self.state())
    }

    /// Takes away the record `old`, if one is given, and writes `new`, if one is given; both or neither are done, and durable. `check` looks first at
    /// what is there; nothing changes between its look and the writing.
    ///
    /// # Errors
    /// Those of `check`; a database that cannot be written.
    pub(crate) fn change(
        &self,
        old: Option<&str>,
        new: Option<Record>,
        check: impl FnOnce(&State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut state = self.state();
        check(&state)?;
        self.write(&state, old, new.as_ref()).map_err(|e| records_error(&self.path, e))?;
        if let Some(record) = old.and_then(|key| state.by_key.remove(key)) {
            state.keys.remove(&record.number);
        }
        if let Some(record) = new {
            state.keys.insert(record.number, record.key.clone());
            state.by_key.insert(record.key.clone(), Arc::new(record));
        }
        Ok(())
    }

    fn write(&self, state: &State, old: Option<&str>, new: Option<&Record>) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(SNAPSHOTS)?;
            if let Some(key) = old {
                table.remove(key)?;
            }
            if let Some(record) = new {
                let text = serde_json::to_vec(record).expect("a record has string keys and finite numbers");
                table.insert(record.key.as_str(), text.as_slice())?;
            }
            // With it, so that a number is not given twice even if its snapshot is gone.
            transaction.open_table(META)?.insert("next", state.next)?;
        }
        Ok(transaction.commit()?)
    }
}

/// The content of a database, unless it has none or somebody has it open. Whoever opens one locks all of it, so that this is no state in between.
fn read_unless_open(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

fn records_error(path: &Path, source: impl Into<redb::Error>) -> Error {
    Error::Records { path: path.to_owned(), source: Box::new(source.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(records: &Records, key: &str) -> Record {
        Record {
            key: key.to_owned(),
            number: records.allocate(),
            kind: Kind::Sandbox,
            parent: String::new(),
            namespace: "default".into(),
            labels: BTreeMap::from([("containerd.io/snapshot.ref".into(), "sha256:1".into())]),
            created: 1_700_000_000_123_456_789,
            updated: 1_700_000_000_123_456_789,
            layer: None,
            empty: Some(Usage { size: 4096, inodes: 12 }),
        }
    }

    fn anything(_: &State) -> Result<(), Error> {
        Ok(())
    }

    #[test]
    fn what_was_written_is_there_after_opening_again_and_numbers_are_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshots.redb");
        let records = Records::open(&path).unwrap();
        let (a, b) = (record(&records, "default/1/a b"), record(&records, &"k".repeat(10_000)));
        for record in [&a, &b] {
            records.change(None, Some(record.clone()), anything).unwrap();
        }
        records.change(Some(&b.key), None, anything).unwrap();
        drop(records);
        let records = Records::open(&path).unwrap();
        assert_eq!(*records.get(&a.key).unwrap(), a);
        assert_eq!(records.numbered(a.number).unwrap().key, a.key);
        assert!(records.numbered(b.number).is_none());
        assert_eq!(records.all().len(), 1);
        assert!(records.allocate() > b.number);
    }

    #[test]
    fn a_commit_takes_the_key_away_and_gives_the_name_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(&dir.path().join("snapshots.redb")).unwrap();
        let a = record(&records, "a");
        records.change(None, Some(a.clone()), anything).unwrap();
        let refused = records.change(Some("a"), None, |_| Err(Error::Panicked));
        assert!(refused.is_err());
        assert!(records.get("a").is_ok());
        let b = Record { key: "b".into(), kind: Kind::Committed, ..a };
        records.change(Some("a"), Some(b.clone()), anything).unwrap();
        assert!(records.get("a").is_err());
        assert_eq!(records.numbered(b.number).unwrap().key, "b");
    }

    #[test]
    fn a_second_server_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshots.redb");
        let _first = Records::open(&path).unwrap();
        let error = Records::open(&path).unwrap_err();
        assert!(error.to_string().contains("snapshots.redb"), "{error}");
    }

    #[test]
    fn records_of_another_version_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshots.redb");
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("version", 7).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(matches!(Records::open(&path), Err(Error::RecordsVersion { version: 7, .. })));
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshots.redb");
        std::fs::write(&path, vec![7; 9000]).unwrap();
        assert!(matches!(Records::open(&path), Err(Error::Records { .. })));
    }
}
