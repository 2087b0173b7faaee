//! Prepared stores: made once, copied for every run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::area::{self, Area, Kind};
use super::check::{self, Reference};
use super::operations::{self, Inputs, Operation, Place};
use super::{state, tracer};
use programs::error::{Error, IoContext, Result};
use programs::mounts::unmount_below;
use programs::process::output;

/// Bytes of the file system under a tortured store.
const AREA_SIZE: u64 = 256 << 20;

/// Inputs, and a store prepared for each operation.
pub struct Depot {
    dir: tempfile::TempDir,
    inputs: Inputs,
}

impl Depot {
    /// Makes the inputs, and the store that all operations start from.
    ///
    /// # Errors
    /// If a command fails.
    pub fn new(binary: PathBuf) -> Result<Self> {
        let dir = area::scratch()?;
        let files = dir.path().join("inputs");
        fs::create_dir(&files).at(&files)?;
        let depot = Self { inputs: Inputs::make(binary, files)?, dir };
        let place = depot.place(depot.dir.path());
        operations::prepare_common(&place)?;
        fs::rename(&place.root, depot.dir.path().join("common")).at(&place.root)?;
        Ok(depot)
    }

    /// The inputs of the stores.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// A place for a store in `dir`.
    #[must_use]
    pub fn place(&self, dir: &Path) -> Place<'_> {
        Place { inputs: &self.inputs, root: dir.join("store"), aside: dir.join("aside") }
    }

    /// The directory of an operation's store.
    #[must_use]
    pub fn prepared(&self, operation: &Operation) -> PathBuf {
        self.dir.path().join(operation.name)
    }

    /// The store that all operations start from.
    #[must_use]
    pub fn common(&self) -> PathBuf {
        self.dir.path().join("common")
    }

    /// Prepares the store for an operation.
    ///
    /// # Errors
    /// If a command fails.
    pub fn prepare(&self, operation: &Operation) -> Result<()> {
        let place = self.place(self.dir.path());
        area::copy(&self.common(), &place.root)?;
        (operation.prepare)(&place)?;
        fs::rename(&place.root, self.prepared(operation)).at(&place.root)
    }
}

/// A place for successive runs.
pub struct Bench<'a> {
    depot: &'a Depot,
    area: Area,
    /// The place.
    pub place: Place<'a>,
    /// The output of the struck command.
    pub log: PathBuf,
}

impl<'a> Bench<'a> {
    /// A bench on a file system of its own.
    ///
    /// # Errors
    /// If that cannot be made.
    pub fn new(depot: &'a Depot) -> Result<Self> {
        Self::on(depot, Kind::Ext4, AREA_SIZE)
    }

    /// A bench on a file system of this kind and size.
    ///
    /// # Errors
    /// If that cannot be made.
    pub fn on(depot: &'a Depot, kind: Kind, size: u64) -> Result<Self> {
        let area = Area::new(kind, size)?;
        let place = depot.place(&area.path());
        let log = area.beside("log");
        Ok(Self { depot, place, log, area })
    }

    /// The file system.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// Replaces the last run's store by a fresh one, prepared for the operation.
    ///
    /// # Errors
    /// If something of the last run cannot be removed, or a command fails.
    pub fn reset(&self, operation: &Operation) -> Result<()> {
        self.clear()?;
        area::copy(&self.depot.prepared(operation), &self.place.root)?;
        (operation.begin)(&self.place)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        clear(&self.place)
    }

    /// Runs the operation once, undisturbed.
    ///
    /// # Errors
    /// If it fails, or leaves something wrong.
    pub fn reference(&self, operation: &Operation) -> Result<Reference> {
        self.reset(operation)?;
        let before = state::read(&self.place.root, !operation.writes)?;
        let traced = tracer::run(&(operation.command)(&self.place), &self.log, None, None)?;
        if traced.code != Some(0) {
            let said = fs::read_to_string(&self.log).at(&self.log)?;
            return Err(Error::Unexpected(format!("{} fails undisturbed: {said}", operation.name)));
        }
        let after = state::read(&self.place.root, !operation.writes)?;
        state::verify(&self.place.root)?;
        let files = check::rest(&self.place)?;
        Ok(Reference { before, after, files, calls: traced.calls, mounts_count: true })
    }
}

/// Unmounts and deletes a store and the files beside it.
///
/// # Errors
/// If it cannot be deleted.
pub fn clear(place: &Place<'_>) -> Result<()> {
    let mounts = place.root.join("mounts");
    if let Ok(entries) = fs::read_dir(&mounts) {
        for entry in entries.flatten() {
            let storage = entry.path().join("storage");
            // A frozen file system cannot be unmounted.
            if storage.exists() {
                check::thaw(&storage);
            }
        }
    }
    unmount_below(&place.aside);
    unmount_below(&place.root);
    for dir in [&place.root, &place.aside] {
        output(Command::new("rm").arg("-rf").arg(dir))?;
    }
    Ok(())
}
