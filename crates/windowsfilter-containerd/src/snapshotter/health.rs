//! Checks that a set's records match what the store has under its name, before anything there is removed as
//! unneeded.
//!
//! Everything under a snapshot's number is needed by its record, or the records list the number as pending.
//! So anything else is newer than the records: they are gone, empty, an older copy, or those of another
//! store. Then the server removes nothing and refuses to start.

use std::fs;
use std::path::{Path, PathBuf};

use windowsfilter::LayerStore;

use super::naming::{RECORDS, sets_dir};
use super::traces::{self, Trace, named};
use crate::error::{Error, IoContext};
use crate::mounts;
use crate::records::{Records, State};

/// The files of one set of snapshots.
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

    /// The directory of links to mounts.
    pub(crate) fn mounts(&self) -> PathBuf {
        self.dir.join("mounts")
    }

    /// Refuses to go on without records if the set had some.
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

    /// Everything under this set's name in the store that `records` do not explain.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn unexplained(&self, records: &State) -> Result<Vec<Trace>, Error> {
        let mut found = traces::of_set(self.store, self.name)?;
        found.retain(|trace| !trace.is_explained(records));
        Ok(found)
    }

    /// Refuses records that do not match the store.
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

    /// Opens the records and checks that they match the store.
    ///
    /// # Errors
    /// Those of [`Records::open`]; [`Error::RecordsLost`], [`Error::RecordsOld`].
    pub(crate) fn open(&self) -> Result<Records, Error> {
        self.check_presence()?;
        let records = Records::open(&self.records())?;
        records.look(|state| self.check_explained(state))?;
        Ok(records)
    }

    /// Gives up lost, old or damaged records and starts new ones, which list everything under this set's
    /// name in the store as pending removal. Keeps the old file as `snapshots.lost`.
    ///
    /// # Errors
    /// [`Error::NothingLost`] if the records are fine; those of [`Self::open`] that do not mean damage.
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
