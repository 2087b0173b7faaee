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

/// Bytes of the file system that a store is tortured on.
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
    /// When a command fails.
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

    /// What the stores are made from.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// A place for a store in `dir`.
    #[must_use]
    pub fn place(&self, dir: &Path) -> Place<'_> {
        Place { inputs: &self.inputs, root: dir.join("store"), aside: dir.join("aside") }
    }

    /// Where the store for an operation is.
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
    /// When a command fails.
    pub fn prepare(&self, operation: &Operation) -> Result<()> {
        let place = self.place(self.dir.path());
        area::copy(&self.common(), &place.root)?;
        (operation.prepare)(&place)?;
        fs::rename(&place.root, self.prepared(operation)).at(&place.root)
    }
}

/// Where one run after the other happens.
pub struct Bench<'a> {
    depot: &'a Depot,
    area: Area,
    /// The place.
    pub place: Place<'a>,
    /// What the struck command says.
    pub log: PathBuf,
}

impl<'a> Bench<'a> {
    /// One on a file system of its own.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn new(depot: &'a Depot) -> Result<Self> {
        Self::on(depot, Kind::Ext4, AREA_SIZE)
    }

    /// One on a file system of that kind and of so many bytes.
    ///
    /// # Errors
    /// When that cannot be made.
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

    /// Takes away the store of the last run and puts a fresh one there, ready for the operation.
    ///
    /// # Errors
    /// When something of the last run cannot be removed, or a command fails.
    pub fn reset(&self, operation: &Operation) -> Result<()> {
        self.clear()?;
        area::copy(&self.depot.prepared(operation), &self.place.root)?;
        (operation.begin)(&self.place)
    }

    /// Takes away whatever is there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        clear(&self.place)
    }

    /// Runs the operation once, undisturbed.
    ///
    /// # Errors
    /// When it fails, or leaves something wrong.
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

/// Unmounts and deletes a store and what is beside it.
///
/// # Errors
/// When it cannot be deleted.
pub fn clear(place: &Place<'_>) -> Result<()> {
    let mounts = place.root.join("mounts");
    if let Ok(entries) = fs::read_dir(&mounts) {
        for entry in entries.flatten() {
            let storage = entry.path().join("storage");
            // What is frozen cannot be unmounted.
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
