//! The interface between the driver and the engines that make and mount layers.
//!
//! Above it, written once for all engines: IDs, records, chains, mount counts, locks, staging and removal
//! (`layer_store`). Below it: the bytes of a layer and how the host shows them. The verbs are those of the
//! Host Compute Service, so the HCS engine passes them on; [`portable::Portable`] does the same without
//! Windows.
//!
//! | verb | HCS | portable |
//! | --- | --- | --- |
//! | [`stage`](Engine::stage) | | `layer.tar` and its index |
//! | [`install`](Engine::install) | ImportLayer, ProcessBaseImage | |
//! | [`create`](Engine::create) | CreateLayer | |
//! | [`create_sandbox`](Engine::create_sandbox) | CreateSandboxLayer | `sandbox.img` |
//! | [`expand`](Engine::expand) | ExpandSandboxSize | the image and its ext4 |
//! | [`activate`](Engine::activate) | ActivateLayer | the chain's index mounted |
//! | [`deactivate`](Engine::deactivate) | DeactivateLayer | and unmounted |
//! | [`prepare`](Engine::prepare) | PrepareLayer | overlayfs mounted over it |
//! | [`unprepare`](Engine::unprepare) | UnprepareLayer | and unmounted |
//! | [`mount_path`](Engine::mount_path) | GetLayerMountPath | the path of the mount |
//! | [`diff`](Engine::diff) | ExportLayer | `layer.tar`, or a tar of `upper/` |
//! | [`changes`](Engine::changes) | ExportLayer | a walk of `upper/` |
//! | [`view`](Engine::view) | | the chain's index, read |
//! | [`check`](Engine::check), [`rebuild`](Engine::rebuild) | | checks digests, rebuilds the index |
//! | [`retire`](Engine::retire), [`destroy`](Engine::destroy) | DestroyLayer | a directory renamed, removed |

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use layer_mounts::remove_tree;

use crate::diff_options::DiffOptions;
use crate::digest::DiffId;
use crate::driver::{Change, DiffGetter};
use crate::error::{Error, IoContext};
use crate::findings::{Leftover, Violation};
use crate::id::LayerId;
use crate::limits::{DiffLimits, Limits};
use crate::record::{LayerKind, LayerRecord};
use crate::scanners;

pub(crate) mod hcs;
#[cfg(test)]
#[cfg(unix)]
mod memory;
pub(crate) mod portable;
mod request;
pub(crate) mod stream;
// The contract tests of every engine, shared with the integration tests of this crate.
#[allow(dead_code, reason = "what the rigs of other engines need")]
#[cfg(test)]
#[cfg(unix)]
#[path = "../tests/contract/suite.rs"]
mod suite;
pub(crate) mod tar_size;

pub use portable::view::{Follow, Node, NodeKind, View};
pub use portable::xattrs::StreamForm;
pub(crate) use request::{Examined, Reading};
pub use request::{Expect, ImportRequest, Imported, Progress};

/// Where the files of a layer or sandbox are. Enough to unmount and remove it, even if its records are
/// damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its ID.
    pub id: LayerId,
    /// Its directory in the store.
    pub dir: PathBuf,
    /// The directory of its mounts. The engine creates mount points in it; the driver removes it after the
    /// last unmount.
    pub mounts: PathBuf,
}

/// A layer or sandbox with its records read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Where it is.
    pub place: Place,
    /// Its kind.
    pub kind: LayerKind,
    /// The layers that it shows, base first: its own content, if it has any, on top of its parents'.
    pub chain: Vec<ChainLayer>,
    /// How its view shows alternate data streams, and how streams written to a sandbox are read.
    pub streams: StreamForm,
}

impl Layer {
    /// The layers below this one: its chain without itself.
    pub(crate) fn below(&self) -> &[ChainLayer] {
        match self.kind {
            LayerKind::Layer => self.chain.split_last().map_or(&[], |(_, below)| below),
            LayerKind::Sandbox | LayerKind::Empty => &self.chain,
        }
    }
}

/// A layer of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainLayer {
    /// Its ID, for messages.
    pub id: LayerId,
    /// Its directory.
    pub dir: PathBuf,
    /// Digest of its tar; `None` for a layer that another program made.
    pub diff_id: Option<DiffId>,
}

/// An archive without entries: two zero blocks.
pub(crate) const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// Where an engine makes layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In staging directories that the driver renames when they are complete.
    Aside,
    /// At their final path, since the path is part of the layer. The driver marks incomplete layers.
    InPlace,
}

/// Reads the chain of a layer, base first. Costs one file read per layer.
pub(crate) type ReadChain<'a> = &'a dyn Fn() -> Result<Vec<ChainLayer>, Error>;

/// Held until a stream is dropped: the lock on the sandbox that the stream is read from.
pub(crate) type Guard = Box<dyn Send>;

/// Makes, mounts and reads layers for the driver. Every error names the layer or path. A call that fails
/// undoes its own changes, unless its `# Errors` say otherwise.
///
/// The driver makes one call at a time per layer, and calls `activate`, `prepare`, `unprepare`, `deactivate`
/// in this order.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Its name, for people: `portable`, `hcs`.
    fn name(&self) -> &'static str;

    /// Where it makes layers.
    fn placement(&self) -> Placement {
        Placement::Aside
    }

    /// Imports a layer's content into `dir`, which has none of its files yet, and syncs it. The parents need
    /// not exist yet.
    ///
    /// # Errors
    /// Bad data, naming the entry and the reason; a digest, size or diffID other than expected; data that
    /// exceed `limits`. The caller removes what was written.
    fn stage(&self, dir: &Path, request: ImportRequest<'_>, limits: &Limits) -> Result<Imported, Error>;

    /// Turns the staged content into the layer. Its parents exist. Called for engines that place layers
    /// [`Placement::InPlace`]; an empty layer may already exist at that path.
    ///
    /// # Errors
    /// Content that cannot become a layer. The caller destroys what was made.
    fn install(&self, _layer: &Layer, _staged: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// Creates a layer without content; `parent` is the parent in the caller's request. Called for engines
    /// that place layers [`Placement::InPlace`].
    ///
    /// # Errors
    /// When the host fails; nothing is left behind.
    fn create(&self, _layer: &Layer, _parent: Option<&LayerId>) -> Result<(), Error> {
        Ok(())
    }

    /// Creates the writable storage of a sandbox, `size` bytes, in its directory and syncs it. Size 0 means
    /// the host's default and is passed only to engines that place layers [`Placement::InPlace`].
    ///
    /// # Errors
    /// A size that is too small; a failure of the host. The caller removes what was written.
    fn create_sandbox(&self, sandbox: &Layer, size: u64) -> Result<(), Error>;

    /// Expands a sandbox, mounted or not. No-op if it already has this size.
    ///
    /// # Errors
    /// A size smaller than the present one; a refusal of the host. The sandbox keeps its size.
    fn expand(&self, sandbox: &Place, size: u64) -> Result<(), Error>;

    /// Makes the chain of a layer or sandbox readable.
    ///
    /// # Errors
    /// When mounting fails.
    fn activate(&self, layer: &Layer) -> Result<(), Error>;

    /// Mounts a sandbox's writable storage on top of the chain that [`Engine::activate`] mounted; for a
    /// layer, does what reading it still needs.
    ///
    /// # Errors
    /// When mounting fails.
    fn prepare(&self, layer: &Layer) -> Result<(), Error>;

    /// The path of an activated layer or prepared sandbox: what a container sees as `C:\`.
    ///
    /// # Errors
    /// When the engine does not know.
    fn mount_path(&self, layer: &Layer) -> Result<PathBuf, Error>;

    /// Undoes [`Engine::prepare`]; no-op if the layer is not prepared.
    ///
    /// # Errors
    /// A layer in use stays prepared; the error names its users.
    fn unprepare(&self, place: &Place) -> Result<(), Error>;

    /// Undoes [`Engine::activate`]; no-op if the layer is not active.
    ///
    /// # Errors
    /// A layer in use stays active; the error names its users.
    fn deactivate(&self, place: &Place) -> Result<(), Error>;

    /// Undoes what a process left of [`Engine::activate`] and [`Engine::prepare`] when it died.
    ///
    /// # Errors
    /// A layer in use stays mounted.
    fn reset(&self, place: &Place) -> Result<(), Error> {
        self.unprepare(place)?;
        self.deactivate(place)
    }

    /// Unmounts although the mounts are in use: they leave the mount table now, and end with their last user.
    ///
    /// # Errors
    /// When the host refuses.
    fn detach(&self, place: &Place) -> Result<(), Error>;

    /// Whether a prepared layer still is. `false` after a read that failed half-way; [`Engine::prepare`]
    /// repairs it.
    fn is_prepared(&self, _place: &Place) -> bool {
        true
    }

    /// Thaws a prepared sandbox whose reader froze it and died. The caller makes sure that there is no reader
    /// now.
    ///
    /// # Errors
    /// When the host refuses.
    fn thaw(&self, _place: &Place) -> Result<(), Error> {
        Ok(())
    }

    /// Whether a path returned by [`Engine::mount_path`] still shows its layer in this mount namespace.
    ///
    /// # Errors
    /// When that cannot be known.
    fn is_mounted(&self, path: &Path) -> Result<bool, Error>;

    /// The access lists of the store's directories, on hosts that have them.
    fn access(&self) -> Option<&dyn ::hcs::AccessControl> {
        None
    }

    /// Whether anything is mounted in [`Place::mounts`] in this mount namespace.
    ///
    /// # Errors
    /// When that cannot be known.
    fn has_mounts(&self, _place: &Place) -> Result<bool, Error> {
        Ok(false)
    }

    /// Who uses the layer's files, here or where this process does not see it (another mount namespace, a
    /// detached mount, another program's loop device): the words that follow `is in use`.
    /// `None` if it is free.
    ///
    /// # Errors
    /// When that cannot be known.
    fn in_use(&self, _place: &Place) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Like [`Engine::in_use`], but first gives users that are about to end a moment to do so.
    ///
    /// # Errors
    /// When that cannot be known.
    fn stays_in_use(&self, _place: &Place) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Bind-mounts `path` on the directory `target`.
    ///
    /// # Errors
    /// When mounting fails.
    fn bind(&self, path: &Path, target: &Path) -> Result<(), Error>;

    /// Undoes [`Engine::bind`]; no-op if nothing is mounted at `target` any more.
    ///
    /// # Errors
    /// A mount in use stays; the error names its users.
    fn unbind(&self, target: &Path) -> Result<(), Error>;

    /// The layer's tar: for a committed layer the imported bytes, for a sandbox its changes up to now.
    /// `guard` is dropped with the stream. A mounted layer stays usable, or becomes usable again when the
    /// stream is dropped.
    ///
    /// # Errors
    /// Files that cannot be read, or that a Windows layer cannot hold; changes beyond the limits in
    /// `options`; options that the engine does not support.
    fn diff(
        &self,
        layer: &Layer,
        mounted: bool,
        options: DiffOptions,
        guard: Guard,
    ) -> Result<Box<dyn Read + Send>, Error>;

    /// The paths that the layer adds, modifies and deletes, sorted.
    ///
    /// # Errors
    /// As [`Engine::diff`].
    fn changes(&self, layer: &Layer, mounted: bool, limits: &DiffLimits) -> Result<Vec<Change>, Error>;

    /// Bytes of file content in a sandbox's changes; hard links count once.
    ///
    /// # Errors
    /// As [`Engine::diff`].
    fn changed_bytes(&self, sandbox: &Layer, mounted: bool, limits: &DiffLimits) -> Result<u64, Error>;

    /// Opens a committed layer's files by their tar names.
    ///
    /// # Errors
    /// A damaged layer.
    fn files(&self, layer: &Place) -> Result<Box<dyn DiffGetter>, Error>;

    /// The layer's files, for reading without a mount. For a sandbox: those of its parents.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the engine needs a mount; damaged files.
    fn view(&self, layer: &Layer) -> Result<View, Error> {
        Err(Error::Unsupported {
            what: format!("reading {} without mounting it", layer.place.id),
            needs: "the portable engine",
        })
    }

    /// Whether [`Engine::tar`] returns a layer's tar byte for byte as imported. If so, each layer's record
    /// has its digest.
    fn keeps_tars(&self) -> bool {
        true
    }

    /// A committed layer's tar as imported.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the engine keeps none.
    fn tar(&self, layer: &Place) -> Result<File, Error>;

    /// Whether [`Engine::diff`] needs its `guard` for this kind of layer. One that never changes needs none.
    fn reads_under_guard(&self, kind: LayerKind) -> bool {
        kind == LayerKind::Sandbox
    }

    /// Refuses a chain that [`Engine::activate`] could never mount. The nearest layer may still be in
    /// staging. Calls `chain` only if the engine checks anything.
    ///
    /// # Errors
    /// Why it cannot be mounted.
    fn check_chain(&self, _chain: ReadChain<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Checks a layer's or sandbox's own files and returns the violations. [`Engine::check_view`] checks what
    /// is derived from its parents.
    fn check(&self, _layer: &Examined<'_>) -> Vec<Violation> {
        Vec::new()
    }

    /// Names of the files that this engine makes in a layer's directory; `None` if it does not know them all.
    fn layer_files(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// Rebuilds what the engine derives from a layer's own content and returns the matching record. The
    /// content must be intact.
    ///
    /// # Errors
    /// Damaged content.
    fn rebuild(&self, _layer: &Place, record: LayerRecord) -> Result<LayerRecord, Error> {
        Ok(record)
    }

    /// Compares what the engine derived from a whole chain, stored with the nearest layer, with the layers
    /// themselves, which must be intact. Calls `chain` (base first) only if something is stored.
    ///
    /// # Errors
    /// The first difference.
    fn check_view(&self, _layer: &Place, _chain: ReadChain<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Rebuilds what [`Engine::check_view`] compares.
    ///
    /// # Errors
    /// Damaged layers.
    fn rebuild_view(&self, _layer: &Place, _chain: ReadChain<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Files of the engine outside of layers that are no longer needed or are damaged. With `repair` the
    /// damaged ones are removed; [`Engine::clean_up`] removes the rest.
    ///
    /// # Errors
    /// When they cannot be read.
    fn leftovers(&self, _repair: bool) -> Result<Vec<Leftover>, Error> {
        Ok(Vec::new())
    }

    /// Removes files of the engine that processes left when they died.
    ///
    /// # Errors
    /// Files that cannot be removed.
    fn clean_up(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The name of the file system that `dir` is on, where the host reports it.
    ///
    /// # Errors
    /// When the host cannot be asked.
    fn file_system(&self, _dir: &Path) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Whether the host knows the layer. Its records exist.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn exists(&self, _place: &Place) -> Result<bool, Error> {
        Ok(true)
    }

    /// Syncs a layer made [`Placement::InPlace`], so that it survives a power loss. Called when the layer is
    /// complete but not yet visible, and again once it is visible.
    ///
    /// # Errors
    /// When the sync fails.
    fn make_durable(&self, _place: &Place) -> Result<(), Error> {
        Ok(())
    }

    /// Makes the host let go of a layer that is not mounted and is about to be removed.
    ///
    /// # Errors
    /// When the host keeps using it; the layer stays.
    fn end_host_use(&self, _place: &Place) -> Result<(), Error> {
        Ok(())
    }

    /// Renames the layer's directory to `to`, which does not exist.
    ///
    /// # Errors
    /// When it cannot be renamed; the layer stays.
    fn retire(&self, place: &Place, to: &Path) -> Result<(), Error> {
        match scanners::replace(&place.dir, to) {
            // Windows does not rename a directory in which a file is open.
            Err(e) if cfg!(windows) && e.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::Busy { id: place.id.clone() })
            }
            other => other.at("remove", &place.dir),
        }
    }

    /// Deletes a directory that [`Engine::retire`] renamed, or an incomplete one.
    ///
    /// # Errors
    /// When something cannot be deleted.
    fn destroy(&self, dir: &Path) -> Result<(), Error> {
        remove_tree(dir).at("remove", dir)
    }

    /// The inode number of this process's mount namespace, on hosts that have them. A later namespace may get
    /// the same number once this one is gone.
    fn namespace(&self) -> Option<u64> {
        #[cfg(unix)]
        return fs::metadata("/proc/self/ns/mnt").ok().map(|file| std::os::unix::fs::MetadataExt::ino(&file));
        #[cfg(not(unix))]
        None
    }

    /// An ID of the current boot. Mounts recorded under another boot no longer exist.
    fn boot(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
    }
}
