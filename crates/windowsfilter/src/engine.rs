//! The seam between the driver and what does its work.
//!
//! Above it, once for all engines: IDs, records, chains, counts of mounts, locks, staging and removal
//! (`layer_store`). Below it: what bytes a layer is made of, and how the host shows them. The verbs are those
//! of the Host Compute Service, so that an engine over it passes them on, and [`portable::Portable`] does the
//! same without Windows.
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
//! | [`prepare`](Engine::prepare) | PrepareLayer | overlayfs over it |
//! | [`unprepare`](Engine::unprepare) | UnprepareLayer | and unmounted |
//! | [`mount_path`](Engine::mount_path) | GetLayerMountPath | where that is |
//! | [`diff`](Engine::diff) | ExportLayer | `layer.tar`, or a tar of `upper/` |
//! | [`changes`](Engine::changes) | ExportLayer | a walk of `upper/` |
//! | [`view`](Engine::view) | | the chain's index, read |
//! | [`check`](Engine::check), [`rebuild`](Engine::rebuild) | | digests, the index made anew |
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
// The tests of the contract that every engine runs, shared with those beside this crate.
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

/// Where the files of a layer or sandbox are; enough to undo what was done to it, even if its records are
/// damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its ID.
    pub id: LayerId,
    /// Its directory in the store.
    pub dir: PathBuf,
    /// The directory for its mounts. The engine makes what it needs in it; the driver removes it after the
    /// last unmount.
    pub mounts: PathBuf,
}

/// A layer or sandbox, its records read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub kind: LayerKind,
    /// The layers that it shows, base first: its own content, if it has any, on top of its parents'.
    pub chain: Vec<ChainLayer>,
    /// How its view shows streams, and how those written to a sandbox are read.
    pub streams: StreamForm,
}

impl Layer {
    /// What the layer stands on: its chain without itself.
    pub(crate) fn below(&self) -> &[ChainLayer] {
        match self.kind {
            LayerKind::Layer => self.chain.split_last().map_or(&[], |(_, below)| below),
            LayerKind::Sandbox | LayerKind::Empty => &self.chain,
        }
    }
}

/// A layer of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLayer {
    /// Its ID, for messages.
    pub id: LayerId,
    /// Its directory.
    pub dir: PathBuf,
    /// Digest of its tar; unknown of a layer that another program has made.
    pub diff_id: Option<DiffId>,
}

/// What an archive without entries is: two zero blocks.
pub(crate) const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// Where an engine makes layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Out of sight, in directories that the driver renames when they are complete.
    Aside,
    /// Where they stay, since their path is part of them; the driver marks what is not complete.
    InPlace,
}

/// Reads the chain of a layer, base first; it takes a file for each layer.
pub(crate) type ReadChain<'a> = &'a dyn Fn() -> Result<Vec<ChainLayer>, Error>;

/// What is kept until a stream ends: the lock that keeps others from the sandbox it is read from.
pub(crate) type Guard = Box<dyn Send>;

/// What the driver asks to do the work. Errors of every call name the layer or path; what a call did before
/// it failed, it undoes.
///
/// The driver calls nothing twice at once for one layer, and `activate`, `prepare`, `unprepare`, `deactivate`
/// in this order.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Its name, for people: `portable`, `hcs`.
    fn name(&self) -> &'static str;

    /// Where it makes layers.
    fn placement(&self) -> Placement {
        Placement::Aside
    }

    /// Writes a layer's content into `dir`, where nothing of it is yet, and makes it durable. Its parents may
    /// be missing still.
    ///
    /// # Errors
    /// Bad data, by entry and reason; data that are not what was expected, or more than `limits` allow. What
    /// was written is the caller's to remove.
    fn stage(&self, dir: &Path, request: ImportRequest<'_>, limits: &Limits) -> Result<Imported, Error>;

    /// Makes of what was staged in `staged` the layer itself, whose parents are there. For engines that place
    /// layers [`Placement::InPlace`]; an empty layer may be there.
    ///
    /// # Errors
    /// What the layer cannot be made of; what was made is the caller's to destroy.
    fn install(&self, _layer: &Layer, _staged: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// Makes a layer without content; `parent` is what it was asked for with. For engines that place layers
    /// [`Placement::InPlace`].
    ///
    /// # Errors
    /// What the host cannot do; nothing is left then.
    fn create(&self, _layer: &Layer, _parent: Option<&LayerId>) -> Result<(), Error> {
        Ok(())
    }

    /// Makes the writable storage of a sandbox of `size` bytes in its directory, and makes it durable. 0,
    /// which only an engine that places layers [`Placement::InPlace`] is given, is the size that the host
    /// chooses.
    ///
    /// # Errors
    /// A size that is too small; what the host cannot do. What was written is the caller's to remove.
    fn create_sandbox(&self, sandbox: &Layer, size: u64) -> Result<(), Error>;

    /// Makes a sandbox larger, mounted or not. Its present size changes nothing.
    ///
    /// # Errors
    /// A size smaller than it has; what the host does not permit. Its size stays.
    fn expand(&self, sandbox: &Place, size: u64) -> Result<(), Error>;

    /// Makes what a layer or sandbox shows readable.
    ///
    /// # Errors
    /// What could not be mounted and why.
    fn activate(&self, layer: &Layer) -> Result<(), Error>;

    /// Puts a sandbox's writable storage on top of what [`Engine::activate`] shows; of a layer, whatever it
    /// takes to read it.
    ///
    /// # Errors
    /// What could not be mounted and why.
    fn prepare(&self, layer: &Layer) -> Result<(), Error>;

    /// Where an activated layer or prepared sandbox is to be found: what a container sees as `C:\`.
    ///
    /// # Errors
    /// When the engine does not know.
    fn mount_path(&self, layer: &Layer) -> Result<PathBuf, Error>;

    /// Undoes [`Engine::prepare`]; what is not prepared stays as it is.
    ///
    /// # Errors
    /// What is in use stays prepared, and the error says who uses it.
    fn unprepare(&self, place: &Place) -> Result<(), Error>;

    /// Undoes [`Engine::activate`]; what is not active stays as it is.
    ///
    /// # Errors
    /// What is in use stays active, and the error says who uses it.
    fn deactivate(&self, place: &Place) -> Result<(), Error>;

    /// Undoes what a process that died may have left of [`Engine::activate`] and [`Engine::prepare`].
    ///
    /// # Errors
    /// What is in use stays.
    fn reset(&self, place: &Place) -> Result<(), Error> {
        self.unprepare(place)?;
        self.deactivate(place)
    }

    /// Undoes [`Engine::prepare`] and [`Engine::activate`] though they are in use: nobody finds the mounts
    /// any more, and they go with their last user.
    ///
    /// # Errors
    /// When the host refuses.
    fn detach(&self, place: &Place) -> Result<(), Error>;

    /// Whether what was prepared still is; reading it may have failed half-way. [`Engine::prepare`] mends
    /// that.
    fn is_prepared(&self, _place: &Place) -> bool {
        true
    }

    /// Lets a prepared sandbox go on that a process which died had stopped in order to read it. The caller
    /// sees to it that nobody reads it now.
    ///
    /// # Errors
    /// When the host refuses.
    fn thaw(&self, _place: &Place) -> Result<(), Error> {
        Ok(())
    }

    /// Whether a path that [`Engine::mount_path`] gave still shows its layer, as far as this process sees
    /// mounts.
    ///
    /// # Errors
    /// When that cannot be known.
    fn is_mounted(&self, path: &Path) -> Result<bool, Error>;

    /// Who may do what with the store's directories, where there are access lists to ask.
    fn access(&self) -> Option<&dyn ::hcs::AccessControl> {
        None
    }

    /// Whether anything is mounted in [`Place::mounts`], as far as this process sees mounts.
    ///
    /// # Errors
    /// When that cannot be known.
    fn has_mounts(&self, _place: &Place) -> Result<bool, Error> {
        Ok(false)
    }

    /// Who uses what the layer is made of, here or where this process does not see it, such as in another
    /// mount namespace: the words that follow `is in use`. `None` if it is free.
    ///
    /// # Errors
    /// When that cannot be known.
    fn in_use(&self, _place: &Place) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// As [`Engine::in_use`], once those had a moment who are about to end.
    ///
    /// # Errors
    /// When that cannot be known.
    fn stays_in_use(&self, _place: &Place) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Shows what is at `path` at the directory `target`, too.
    ///
    /// # Errors
    /// What could not be mounted and why.
    fn bind(&self, path: &Path, target: &Path) -> Result<(), Error>;

    /// Undoes [`Engine::bind`]; where nothing is shown any more, nothing is done.
    ///
    /// # Errors
    /// What is in use stays, and the error says who uses it.
    fn unbind(&self, target: &Path) -> Result<(), Error>;

    /// The layer's tar: of a committed layer the bytes that came in, of a sandbox what it changed up to now.
    /// `guard` is dropped when the stream is. A mounted layer stays usable, or is again when the stream is
    /// dropped.
    ///
    /// # Errors
    /// What cannot be read; what no Windows layer can hold; what `options` limit, or the engine cannot do.
    fn diff(
        &self,
        layer: &Layer,
        mounted: bool,
        options: DiffOptions,
        guard: Guard,
    ) -> Result<Box<dyn Read + Send>, Error>;

    /// What the layer adds, modifies and deletes, sorted by path.
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

    /// What the layer shows, for reading without a mount. Of a sandbox: what its parents show.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the engine needs a mount; damaged files.
    fn view(&self, layer: &Layer) -> Result<View, Error> {
        Err(Error::Unsupported {
            what: format!("reading {} without mounting it", layer.place.id),
            needs: "the portable engine",
        })
    }

    /// Whether [`Engine::tar`] has the bytes of a layer's tar as they came in. The record of each layer has
    /// their digest then.
    fn keeps_tars(&self) -> bool {
        true
    }

    /// A committed layer's tar as it came in.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the engine keeps none.
    fn tar(&self, layer: &Place) -> Result<File, Error>;

    /// Whether [`Engine::diff`] needs its `guard` for what is of this kind. What never changes needs none.
    fn reads_under_guard(&self, kind: LayerKind) -> bool {
        kind == LayerKind::Sandbox
    }

    /// Refuses a chain that [`Engine::activate`] could never show. Its nearest layer may be one that was
    /// staged. Calls `chain` only if it looks.
    ///
    /// # Errors
    /// Why it cannot be shown.
    fn check_chain(&self, _chain: ReadChain<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// What is not true of a layer's or sandbox's own files. What is derived from its parents is in
    /// [`Engine::check_view`].
    fn check(&self, _layer: &Examined<'_>) -> Vec<Violation> {
        Vec::new()
    }

    /// Names of the files that this engine makes in a layer's directory; `None` if it does not know them all.
    fn layer_files(&self) -> Option<&'static [&'static str]> {
        None
    }

    /// Makes anew what the engine derives from a layer's own content, which must be intact, and returns what
    /// its record must be then.
    ///
    /// # Errors
    /// Content that is damaged, too.
    fn rebuild(&self, _layer: &Place, record: LayerRecord) -> Result<LayerRecord, Error> {
        Ok(record)
    }

    /// Compares what the engine keeps of a whole chain beside its nearest layer with what the layers give,
    /// which must be in order. Calls `chain` (base first) only if it keeps something.
    ///
    /// # Errors
    /// The first thing that differs.
    fn check_view(&self, _layer: &Place, _chain: ReadChain<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Makes anew what [`Engine::check_view`] compares.
    ///
    /// # Errors
    /// Layers that are not in order.
    fn rebuild_view(&self, _layer: &Place, _chain: ReadChain<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// What the engine has outside of layers and needs no more, or cannot use. With `repair` what is damaged
    /// goes; [`Engine::clean_up`] removes the rest.
    ///
    /// # Errors
    /// When it cannot be looked at.
    fn leftovers(&self, _repair: bool) -> Result<Vec<Leftover>, Error> {
        Ok(Vec::new())
    }

    /// Removes what processes that died have left of the engine's own.
    ///
    /// # Errors
    /// What stays.
    fn clean_up(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The kind of file system that `dir` is on, where the host tells it.
    ///
    /// # Errors
    /// When the host cannot be asked.
    fn file_system(&self, _dir: &Path) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Whether the host knows the layer, whose records are there.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn exists(&self, _place: &Place) -> Result<bool, Error> {
        Ok(true)
    }

    /// Sees to it that what was made where it stays outlasts a power loss: called when the layer is complete
    /// and nobody sees it yet, and once more when it can be seen.
    ///
    /// # Errors
    /// When the disk cannot take it.
    fn make_durable(&self, _place: &Place) -> Result<(), Error> {
        Ok(())
    }

    /// Ends whatever the host itself does with a layer that nobody has mounted and that is about to go.
    ///
    /// # Errors
    /// What could not be ended; the layer stays.
    fn end_host_use(&self, _place: &Place) -> Result<(), Error> {
        Ok(())
    }

    /// Renames the layer's directory to `to`, which is not there.
    ///
    /// # Errors
    /// Why it stays.
    fn retire(&self, place: &Place, to: &Path) -> Result<(), Error> {
        match scanners::replace(&place.dir, to) {
            // Windows renames no directory in which a file is open.
            Err(e) if cfg!(windows) && e.kind() == io::ErrorKind::PermissionDenied => {
                Err(Error::Busy { id: place.id.clone() })
            }
            other => other.at("remove", &place.dir),
        }
    }

    /// Deletes a directory that [`Engine::retire`] has renamed, or that was never complete.
    ///
    /// # Errors
    /// What could not be deleted.
    fn destroy(&self, dir: &Path) -> Result<(), Error> {
        remove_tree(dir).at("remove", dir)
    }

    /// The number of the mount namespace that this process sees, where the host has such; another namespace
    /// may get it once this one is gone.
    fn namespace(&self) -> Option<u64> {
        #[cfg(unix)]
        return fs::metadata("/proc/self/ns/mnt").ok().map(|file| std::os::unix::fs::MetadataExt::ino(&file));
        #[cfg(not(unix))]
        None
    }

    /// Something that is another after every start of the machine, since then nothing is mounted.
    fn boot(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
    }
}
