//! The store of layers and sandboxes: the driver's contract on top of an engine.
//!
//! This file opens a store and looks layers up. Import is in `staging.rs` (`in_place.rs` for engines that
//! make layers at their final path), mounting in `mounts.rs`, export in `reading.rs`, removal in
//! `removal.rs`, and the checks of all of them in `fsck/`; `contract.rs` implements [`crate::Driver`].

mod chains;
mod contract;
mod files;
mod fsck;
mod in_place;
mod mounts;
mod owners;
mod reading;
mod removal;
mod sandboxes;
mod spool;
mod staging;
mod status;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use chains::Chains;
pub use files::{StoreFiles, StoreLock};
pub use fsck::Verified;
pub use mounts::MountState;
pub use removal::{Doomed, Reclaimer};
pub use spool::Spooled;
pub use staging::{StagedDirectory, StagedLayer};

use crate::cancel::Cancel;
use crate::driver::Presence;
use crate::engine::hcs::{Hcs, ImportProcess, check_home};
use crate::engine::portable::{self, Portable};
use crate::engine::{ChainLayer, Engine, Layer, Place, Placement, StreamForm, View};
use crate::error::{Error, IoContext};
use crate::id::{IMPORTING, LayerId, REMOVING};
use crate::limits::Limits;
use crate::options::{DEFAULT_SANDBOX_SIZE, StorageOptions};
use crate::record::{self, LayerKind, LayerRecord};
use crate::store::{self, Paths, file};

/// An open layer store. Cheap to open and to clone: clones are handles of the same store. Any number of
/// processes may open the same store.
#[derive(Clone, Debug)]
pub struct LayerStore {
    paths: Arc<Paths>,
    default_size: u64,
    reclaimer: Reclaimer,
    limits: Limits,
    streams: StreamForm,
    engine: Arc<dyn Engine>,
}

impl LayerStore {
    /// Opens the store at `root`, creating it if there is none.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::ForeignStore`]; on Windows [`Error::Exposed`]; when its directories
    /// cannot be made or read.
    pub fn open(root: &Path, options: StorageOptions) -> Result<Self, Error> {
        let paths = Paths::create(root, Placement::Aside, portable::access())?;
        let engine = Arc::new(Portable::new(paths.templates(), paths.temporaries()));
        Ok(Self::over(engine, paths, options))
    }

    /// Like [`Self::open`], but fails if there is no store instead of creating one.
    ///
    /// # Errors
    /// [`Error::NoStore`]; as [`Self::open`].
    pub fn open_existing(root: &Path, options: StorageOptions) -> Result<Self, Error> {
        if store::is_store(root, Placement::Aside)? {
            Self::open(root, options)
        } else {
            Err(Error::NoStore { root: root.to_owned() })
        }
    }

    /// Opens the layers in `home`, which may be a home of Docker's, with Windows' own engine. `import`
    /// chooses how layers are imported.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on an ReFS volume; [`Error::Exposed`]; when directories cannot be made or read.
    pub fn open_hcs<H: hcs::Host>(
        home: &Path,
        options: StorageOptions,
        host: H,
        import: ImportProcess,
    ) -> Result<Self, Error> {
        check_home(&host, home)?;
        let paths = Paths::create(home, Placement::InPlace, Some(&host))?;
        let engine = Arc::new(Hcs::new(host, &paths, import));
        Ok(Self::over(engine, paths, options))
    }

    /// Opens a store with `engine`.
    #[cfg(all(test, unix))]
    pub(crate) fn open_over(
        root: &Path,
        options: StorageOptions,
        engine: impl Engine + 'static,
    ) -> Result<Self, Error> {
        let paths = Paths::create(root, engine.placement(), None)?;
        Ok(Self::over(Arc::new(engine), paths, options))
    }

    fn over(engine: Arc<dyn Engine>, paths: Paths, options: StorageOptions) -> Self {
        Self {
            paths: Arc::new(paths),
            default_size: match options.size {
                // Engines that make layers in place have a default size of their own.
                Some(0) if engine.placement() == Placement::Aside => DEFAULT_SANDBOX_SIZE,
                size => size.unwrap_or(DEFAULT_SANDBOX_SIZE),
            },
            reclaimer: Doomed::destroy,
            limits: Limits::default(),
            streams: StreamForm::default(),
            engine,
        }
    }

    /// Whether the store at `root` was made by [`LayerStore::open_hcs`].
    pub fn is_hcs(root: &Path) -> bool {
        Paths::is_in_place(root)
    }

    /// Whether the store keeps a layer's tar byte for byte. The compute service keeps only the files and
    /// exports them as a different tar.
    pub fn keeps_tars(&self) -> bool {
        self.engine.keeps_tars()
    }

    fn is_in_place(&self) -> bool {
        self.engine.placement() == Placement::InPlace
    }

    /// Passes the bytes of removed layers to `reclaimer`, instead of deleting them in the call that removes
    /// the layer.
    #[must_use]
    #[doc(hidden)]
    pub fn reclaim_with(self, reclaimer: Reclaimer) -> Self {
        Self { reclaimer, ..self }
    }

    /// Imports layers up to these limits instead of the default ones.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Uses this form of streams for new sandboxes and for mounted layers, instead of Samba's.
    #[must_use]
    pub fn with_streams(self, streams: StreamForm) -> Self {
        Self { streams, ..self }
    }

    /// The limits for imported layers.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The [`Cancel`] that ends all work on this store and its clones.
    pub fn cancel(&self) -> &Cancel {
        self.paths.cancel()
    }

    /// The same store without its [`Cancel`]: for undoing work, which must not be cancelled.
    #[must_use]
    pub fn undoing(&self) -> Self {
        let paths = Paths::clone(&self.paths).with_cancel(Cancel::default());
        Self { paths: Arc::new(paths), ..self.clone() }
    }

    /// The store's directory, canonical.
    pub fn root(&self) -> &Path {
        self.paths.root()
    }

    /// The store's own files, for crates that keep their own data in the store.
    #[doc(hidden)]
    pub fn files(&self) -> StoreFiles<'_> {
        StoreFiles::of(self)
    }

    /// Takes the store lock, waiting until it is free. While it is held the set of layers does not change.
    fn lock(&self) -> Result<StoreLock, Error> {
        self.files().lock()
    }

    /// The directory of `id`, after looking up its alternate ID.
    pub(crate) fn dir(&self, id: &LayerId) -> Result<PathBuf, Error> {
        Ok(self.paths.layer(&self.resolve(id)?))
    }

    /// The ID that `id` stands for (`layerID` of the original), usually itself.
    pub(crate) fn resolve(&self, id: &LayerId) -> Result<LayerId, Error> {
        record::resolve_id(&self.paths.layer(id), id)
    }

    /// The record of `id`.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], [`Error::Damaged`].
    pub fn record(&self, id: &LayerId) -> Result<LayerRecord, Error> {
        let id = self.resolve(id)?;
        if self.is_incomplete(&id) {
            return Err(Error::NoSuchLayer { id: id.to_string() });
        }
        self.read_record(&id)
    }

    /// The record of a layer, complete or not.
    fn read_record(&self, id: &LayerId) -> Result<LayerRecord, Error> {
        let dir = self.paths.layer(id);
        // Docker also makes layers in such a store, without our records.
        if self.is_in_place() && dir.is_dir() && !dir.join(file::RECORD).exists() {
            return Ok(record::foreign_record(&dir));
        }
        record::read_record(&dir, id)
    }

    /// The parents of `id`, nearest first.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], [`Error::Damaged`].
    pub fn chain_ids(&self, id: &LayerId) -> Result<Vec<LayerId>, Error> {
        let id = self.resolve(id)?;
        self.read_chain(&id)
    }

    fn read_chain(&self, id: &LayerId) -> Result<Vec<LayerId>, Error> {
        self.paths.with_chain_form(|form| record::read_chain(&self.paths.layer(id), id, form))
    }

    /// Whether `id` is a layer or sandbox of this store, and intact.
    ///
    /// # Errors
    /// When the store cannot be read; a damaged layer is [`Presence::Damaged`].
    pub fn presence(&self, id: &LayerId) -> Result<Presence, Error> {
        match self.record(id).and_then(|_| self.chain_of(id)) {
            Ok(_) if self.engine.exists(&self.place(id)?)? => Ok(Presence::Present),
            Ok(_) => Ok(Presence::Damaged { reason: format!("layer {id}: the host does not know it") }),
            Err(Error::NoSuchLayer { .. }) => Ok(Presence::Absent),
            Err(e @ Error::Damaged { .. }) => Ok(Presence::Damaged { reason: e.to_string() }),
            Err(e) => Err(e),
        }
    }

    /// Whether `id` has a directory; does not check that it is intact.
    pub fn contains(&self, id: &LayerId) -> bool {
        self.resolve(id).is_ok_and(|id| self.paths.layer(&id).is_dir() && !self.is_incomplete(&id))
    }

    /// All layers and sandboxes, sorted, without those being written or removed.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn layers(&self) -> Result<Vec<LayerId>, Error> {
        let mut ids: Vec<LayerId> =
            self.entries(&self.paths.layers())?.iter().filter_map(|name| LayerId::new(name).ok()).collect();
        ids.retain(|id| !self.is_incomplete(id));
        ids.sort();
        Ok(ids)
    }

    /// UTF-8 names in `dir`; except in the directory of incomplete layers' marks, only names of directories.
    fn entries(&self, dir: &Path) -> Result<Vec<String>, Error> {
        let only_directories = dir != self.paths.incomplete_dir();
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).at("list", dir)? {
            let entry = entry.at("list", dir)?;
            let kind = entry.file_type().at("list", &entry.path())?;
            let is_directory = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
            if (is_directory || !only_directories)
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Directories that an interrupted import or removal may have left, and staged layers that were kept, see
    /// [`staging::is_kept`].
    fn leftovers(&self) -> Result<Vec<PathBuf>, Error> {
        let unfinished = |name: &String| name.ends_with(IMPORTING) || name.ends_with(REMOVING);
        let mut found = Vec::new();
        let (layers, staging) = (self.paths.layers(), self.paths.staging());
        for dir in if layers == staging { vec![layers] } else { vec![layers, staging] } {
            found.extend(
                self.entries(&dir)?.iter().filter(|name| unfinished(name)).map(|name| dir.join(name)),
            );
        }
        Ok(found)
    }

    /// The layer whose ID is `prefix`, or the only one that starts with it (four characters or more).
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], [`Error::AmbiguousId`].
    pub fn find(&self, prefix: &str) -> Result<LayerId, Error> {
        if let Ok(id) = LayerId::new(prefix)
            && self.contains(&id)
        {
            return Ok(id);
        }
        let matches = self.having_prefix(prefix)?;
        match matches.as_slice() {
            [] => Err(Error::NoSuchLayer { id: prefix.to_owned() }),
            [one] => Ok(one.clone()),
            many => {
                let matches = many.iter().map(ToString::to_string).collect();
                Err(Error::AmbiguousId { prefix: prefix.to_owned(), matches })
            }
        }
    }

    /// Layers and sandboxes whose IDs start with `prefix`; none if it is shorter than four characters.
    ///
    /// # Errors
    /// When the layers cannot be listed.
    pub fn having_prefix(&self, prefix: &str) -> Result<Vec<LayerId>, Error> {
        let mut ids = if prefix.len() < 4 { Vec::new() } else { self.layers()? };
        ids.retain(|id| id.as_str().starts_with(prefix));
        Ok(ids)
    }

    /// The layer's tar, exactly as imported.
    ///
    /// # Errors
    /// [`Error::WrongKind`] unless it is a committed layer.
    pub fn open_tar(&self, id: &LayerId) -> Result<File, Error> {
        self.expect_kind(id, LayerKind::Layer)?;
        let place = self.place(id)?;
        self.engine.tar(&place).map_err(|error| missing_is_damage(&[(id, place.dir.as_path())], error))
    }

    fn expect_kind(&self, id: &LayerId, kind: LayerKind) -> Result<LayerRecord, Error> {
        let record = self.record(id)?;
        if record.kind != kind {
            return Err(Error::WrongKind {
                id: id.clone(),
                expected: kind.as_str(),
                actual: record.kind.as_str(),
            });
        }
        Ok(record)
    }

    /// The layers whose content `id` shows, base first: its parents, then itself if it has content.
    pub(crate) fn chain_of(&self, id: &LayerId) -> Result<Vec<ChainLayer>, Error> {
        let id = self.resolve(id)?;
        let mut ids = self.chain_ids(&id)?;
        ids.reverse();
        let mut layers =
            ids.iter().map(|parent| self.chain_layer(&id, parent)).collect::<Result<Vec<_>, _>>()?;
        if self.record(&id)?.kind == LayerKind::Layer {
            layers.push(self.chain_layer(&id, &id)?);
        }
        Ok(layers)
    }

    fn chain_layer(&self, of: &LayerId, id: &LayerId) -> Result<ChainLayer, Error> {
        let damaged = |reason: String| Error::Damaged { id: of.clone(), file: file::CHAIN, reason };
        let dir = self.paths.layer(id);
        let record = match self.read_record(id) {
            Err(Error::NoSuchLayer { id }) => return Err(damaged(format!("its parent {id} is missing"))),
            other => other?,
        };
        if record.kind != LayerKind::Layer || record.diff_id.is_none() && self.keeps_tars() {
            return Err(damaged(format!("its parent {id} has no content")));
        }
        Ok(ChainLayer { id: id.clone(), dir, diff_id: record.diff_id })
    }

    /// The paths of `id`, after looking up its alternate ID; does not check that it is intact.
    pub(crate) fn place(&self, id: &LayerId) -> Result<Place, Error> {
        let id = self.resolve(id)?;
        Ok(Place { dir: self.paths.layer(&id), mounts: self.paths.mount(&id), id })
    }

    /// `id` with its record and chain, for the engine.
    pub(crate) fn layer(&self, id: &LayerId) -> Result<Layer, Error> {
        let place = self.place(id)?;
        let record = self.record(&place.id)?;
        let streams = match record.kind {
            LayerKind::Sandbox => record.streams.unwrap_or(StreamForm::Plain),
            LayerKind::Layer | LayerKind::Empty => self.streams,
        };
        Ok(Layer { kind: record.kind, chain: self.chain_of(&place.id)?, place, streams })
    }

    /// The files of `id`, rooted at what it shows as `C:\`, for reading without a mount. For a sandbox: those
    /// of its parents.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], damaged files.
    pub fn view(&self, id: &LayerId) -> Result<View, Error> {
        let layer = self.layer(id)?;
        self.engine.view(&layer).map_err(|error| missing_in(&layer, error))
    }
}

/// [`missing_is_damage`] for the whole chain of `layer`.
fn missing_in(layer: &Layer, error: Error) -> Error {
    missing_in_chain(&layer.chain, error)
}

/// [`missing_is_damage`] for all layers of a chain.
fn missing_in_chain(chain: &[ChainLayer], error: Error) -> Error {
    let dirs: Vec<_> = chain.iter().map(|layer| (&layer.id, layer.dir.as_path())).collect();
    missing_is_damage(&dirs, error)
}

/// Turns "file not found" for a file that one of these layers must have into damage to that layer.
fn missing_is_damage(layers: &[(&LayerId, &Path)], error: Error) -> Error {
    let Error::Io { path, source, .. } = &error else { return error };
    if source.kind() != std::io::ErrorKind::NotFound {
        return error;
    }
    let owner = layers.iter().find(|(_, dir)| path.parent() == Some(*dir));
    // A layer removed meanwhile has no files, but is not damaged.
    match (owner, [file::TAR, file::INDEX].into_iter().find(|file| path.ends_with(file))) {
        (Some((id, dir)), Some(file)) if dir.is_dir() => {
            Error::Damaged { id: (*id).clone(), file, reason: "it is missing".into() }
        }
        _ => error,
    }
}
