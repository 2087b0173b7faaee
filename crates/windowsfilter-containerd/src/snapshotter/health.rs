//! Whether the records of a set are those of what the store has in its name, before anything is taken for
//! nobody's.
//!
//! Everything that carries a snapshot's number is what its record needs, or of a number that the records call
//! pending. So what they do not explain is newer than they are: they are gone, empty, an older copy or those
//! of another store. Then nothing is removed, and nobody serves.

use std::fs;
use std::path::{Path, PathBuf};

use windowsfilter::LayerStore;

use super::naming::{RECORDS, sets_dir};
use super::traces::{self, Trace, named};
use crate::error::{Error, IoContext};
use crate::mounts;
use crate::records::{Records, State};

/// One set of snapshots, on disk.
#[derive(Clone, Debug)]
pub(crate) struct Set<'a> {
    store: &'a LayerStore,
    name: &'a str,
    dir: PathBuf,
}

impl<'a> Set<'a> {
    pub(crate) fn new(store: &'a LayerStore, name: &'a str) -> Self {
        Self { store, name, dir: sets_dir(store).join(name) }
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its records are.
    pub(crate) fn records(&self) -> PathBuf {
        self.dir.join(RECORDS)
    }

    /// Where links to what is mounted are.
    pub(crate) fn mounts(&self) -> PathBuf {
        self.dir.join("mounts")
    }

    /// Refuses records that are gone although there were some.
    ///
    /// # Errors
    /// [`Error::RecordsLost`].
    pub(crate) fn check_presence(&self) -> Result<(), Error> {
        let path = self.records();
        let Some(state) = Records::absence(&path)? else { return Ok(()) };
        let mut left: Vec<String> =
            traces::of_set(self.store, self.name)?.iter().map(Trace::to_string).collect();
        if self.mounts().exists() {
            let links = mounts::Sources::new(self.mounts()).linked()?;
            left.extend(
                links.iter().map(|number| self.mounts().join(number.to_string()).display().to_string()),
            );
        }
        let reserve = crate::records::reserve_path(&path);
        left.extend(reserve.exists().then(|| reserve.display().to_string()));
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::RecordsLost { path, state, left: named(&left) })
    }

    /// What the store has in the name of this set that `records` do not explain.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub(crate) fn unexplained(&self, records: &State) -> Result<Vec<Trace>, Error> {
        let mut found = traces::of_set(self.store, self.name)?;
        found.retain(|trace| !trace.is_explained(records));
        Ok(found)
    }

    /// Refuses records that are not those of the store.
    ///
    /// # Errors
    /// [`Error::RecordsOld`].
    pub(crate) fn check_explained(&self, records: &State) -> Result<(), Error> {
        let left = self.unexplained(records)?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(Error::RecordsOld { path: self.records(), left: named(&left) })
        }
    }

    /// Opens the records, if they are those of the store.
    ///
    /// # Errors
    /// As [`Records::open`]; [`Error::RecordsLost`], [`Error::RecordsOld`].
    pub(crate) fn open(&self) -> Result<Records, Error> {
        self.check_presence()?;
        let records = Records::open(&self.records())?;
        records.look(|state| self.check_explained(state))?;
        Ok(records)
    }

    /// Gives up records that are lost, old or damaged, and begins new ones in which all that the store has in
    /// the name of this set is about to be removed. The old ones stay beside them as `snapshots.lost`.
    ///
    /// # Errors
    /// [`Error::NothingLost`] if nothing is wrong with the records; those of [`Self::open`] that say nothing
    /// of damage.
    pub(crate) fn start_anew(&self) -> Result<Records, Error> {
        let damage = match self.open() {
            Ok(_) => return Err(Error::NothingLost { path: self.records() }),
            Err(error) if error.is_damaged_records() => error,
            Err(error) => return Err(error),
        };
        let path = self.records();
        tracing::warn!(
            set = self.name,
            "all snapshots of this set are given up: {}",
            crate::error::chain(&damage)
        );
        if path.exists() {
            fs::rename(&path, path.with_extension("lost")).at("rename", &path)?;
        }
        let reserve = crate::records::reserve_path(&path);
        if reserve.exists() {
            fs::remove_file(&reserve).at("remove", &reserve)?;
        }
        let records = Records::open(&path)?;
        let numbers: Vec<u64> =
            traces::of_set(self.store, self.name)?.iter().map(|trace| trace.number).collect();
        records.begin(&numbers)?;
        Ok(records)
    }
}
