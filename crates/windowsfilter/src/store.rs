//! The store on disk: which file is where, and how files appear in it.
//!
//! ```text
//! <root>/                        mode 0700; on Windows an access list for administrators, see `access.rs`
//!   lock                         the store lock, see `lock.rs`
//!   layers/<id>/layer.tar        exact uncompressed bytes
//!               layer.erofs      index of this layer's own entries
//!               chain.erofs      merged index of this layer and its parents; rebuildable
//!               chain-plain.erofs  the same for mounts with plain streams
//!               layerchain.json  parents, nearest first
//!               layer.json       what the layer is, see `record.rs`
//!               sandbox.img      sandboxes only
//!               layerID          optional alternate ID
//!               owners.json      programs that need the layer, see `owners.rs`
//!          <id>-importing/       being filled; with staged.json if it is kept, see `staging.rs`
//!          <id>-removing/        removed from the store, its bytes are being deleted
//!   mounts/<id>/                 mount points and state.json, the mount record, see `mounts.rs`
//!          <id>.lock             held while mounting, unmounting, and reading a sandbox
//!   templates/                   empty sandbox images, one per size, and a record of each; may be deleted
//!             lock, making/      held while one is made, and the directory it is made in
//!   tmp/, tmp.lock               files being written, see `temporary.rs`
//!   images/                      windowsfilter-image's: refs/, blobs/sha256/, layer-blobs/, lock,
//!                                import.lock
//!   containerd/<set>/            windowsfilter-containerd's: snapshots.redb, snapshots.reserve (room for it
//!                                on a full disk), snapshots.lost (records that were given up), mounts/
//!                                (links to held mounts), nothing/ (an empty directory), thrown/
//!                                (layers that clients unpack themselves)
//! ```
//!
//! For an engine that makes layers in place, the root is what the original calls home: layers lie directly in
//! it, as Docker keeps them. Our own files outside of layers are in a directory whose name is not a valid
//! layer ID.
//!
//! ```text
//! <home>/<id>/                   the service's own files
//!             layerchain.json    parents, nearest first, with their paths, as Docker writes it
//!             layer.json, owners.json, layerID
//!        <id>-removing/
//! <home>/.windowsfilter/         lock, mounts/, tmp/, tmp.lock, images/ as above
//!                       staging/<id>-importing/   tars that become layers
//!                       incomplete/<id>           marks of incomplete layers, which are hidden
//!                       locks/<id>                held while a layer's directory is changed
//!                       prepare.lock              held while a layer is prepared
//! ```
//!
//! Where directories cannot be locked, a `.lock` file beside the directory is locked instead and exists only
//! meanwhile (`lock.rs`).
//!
//! Everything that readers rely on is synced first and then appears by one rename: a file in
//! [`Temporaries::write`], a layer by renaming its whole directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hcs::AccessControl;

use crate::access;
use crate::cancel::Cancel;
use crate::engine::Placement;
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::lock::{self, Lock};
use crate::record::ChainForm;
use crate::temporary::Temporaries;

/// Names of the files in a layer's directory.
pub(crate) mod file {
    pub(crate) const TAR: &str = "layer.tar";
    pub(crate) const INDEX: &str = "layer.erofs";
    pub(crate) const CHAIN_INDEX: &str = "chain.erofs";
    pub(crate) const PLAIN_CHAIN_INDEX: &str = "chain-plain.erofs";
    pub(crate) const CHAIN: &str = "layerchain.json";
    pub(crate) const RECORD: &str = "layer.json";
    pub(crate) const OWNERS: &str = "owners.json";
    pub(crate) const SANDBOX: &str = "sandbox.img";
    /// The compute service's: the disk of a sandbox, and the files of a layer that a container sees.
    pub(crate) const WINDOWS_DISK: &str = "sandbox.vhdx";
    pub(crate) const WINDOWS_FILES: &str = "Files";
    /// The original reads `layerID` and writes `layerId` (`windows.go`, `resolveID` and `setID`): we use one
    /// name for both.
    pub(crate) const ALTERNATE_ID: &str = "layerID";
}

/// Paths of a store.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Where layers are.
    layers: PathBuf,
    /// Where everything else is.
    own: PathBuf,
    root: PathBuf,
    placement: Placement,
    cancel: Cancel,
}

/// The directory of our files in a home of the original. Layer IDs do not start with a dot.
const OWN: &str = ".windowsfilter";

/// Whether there is a store at `root`; fails if `root` is not a directory, or if we may not read the store.
pub(crate) fn is_store(root: &Path, placement: Placement) -> Result<bool, Error> {
    let found = match fs::metadata(root) {
        // A path below a file does not exist, either.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(false),
        other => other.at("look at", root)?,
    };
    if !found.is_dir() {
        let what = if found.is_file() { "file" } else { "device, pipe or socket" };
        return Err(Error::NotAStore { root: root.to_owned(), what });
    }
    if placement == Placement::InPlace {
        return Ok(Paths::is_in_place(root));
    }
    let layers = root.join("layers");
    match fs::read_dir(&layers) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(source) if source.kind() == ErrorKind::PermissionDenied => {
            let owner = owner(&fs::metadata(&layers).unwrap_or(found));
            Err(Error::ForeignStore { root: root.to_owned(), owner, source })
        }
        Err(e) => Err(e).at("list", &layers),
    }
}

/// The owner, for messages.
#[cfg(unix)]
fn owner(of: &fs::Metadata) -> String {
    match std::os::unix::fs::MetadataExt::uid(of) {
        0 => "root".to_owned(),
        user => format!("user {user}"),
    }
}

#[cfg(not(unix))]
fn owner(_: &fs::Metadata) -> String {
    "another user".to_owned()
}

impl Paths {
    /// Creates the missing directories of a store below `root`.
    ///
    /// # Errors
    /// [`Error::Exposed`] if `access` is given and others can write to one of them.
    pub(crate) fn create(
        root: &Path,
        placement: Placement,
        access: Option<&dyn AccessControl>,
    ) -> Result<Self, Error> {
        is_store(root, placement)?;
        match access {
            Some(access) if !root.is_dir() => access::create(access, root)?,
            _ => create_private_dir(root)?,
        }
        // If `root` is a link, both it and its target are checked.
        refuse_exposed(access, root)?;
        // Recorded mounts and messages must use one path, however the root was spelled.
        let root = root.canonicalize().at("resolve", root)?;
        let paths = match placement {
            Placement::Aside => {
                let (layers, own) = (root.join("layers"), root.clone());
                Self { layers, own, root, placement, cancel: Cancel::default() }
            }
            Placement::InPlace => Self::beside_layers(&root),
        };
        refuse_exposed(access, &paths.root)?;
        for dir in paths.directories() {
            create_private_dir(&dir)?;
            refuse_exposed(access, &dir)?;
        }
        Ok(paths)
    }

    /// The directories below the root that every store has.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let mut all = vec![self.own.clone(), self.layers(), self.images(), self.mounts(), self.tmp()];
        match self.placement {
            Placement::Aside => all.push(self.templates()),
            Placement::InPlace => all.extend([self.staging(), self.incomplete_dir(), self.locks()]),
        }
        all.retain(|dir| *dir != self.root);
        all
    }

    /// The paths of a store whose layers lie directly in `home`.
    pub(crate) fn beside_layers(home: &Path) -> Self {
        Self {
            layers: home.to_owned(),
            own: home.join(OWN),
            root: home.to_owned(),
            placement: Placement::InPlace,
            cancel: Cancel::default(),
        }
    }

    /// Whether `root` is a store, or a home of Docker's, whose layers lie directly in it.
    pub(crate) fn is_in_place(root: &Path) -> bool {
        root.join(OWN).is_dir()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn with_cancel(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// The [`Cancel`] that ends the work on this store.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.own.join("lock")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.layers.clone()
    }

    /// Where layers are staged.
    pub(crate) fn staging(&self) -> PathBuf {
        match self.placement {
            Placement::Aside => self.layers(),
            Placement::InPlace => self.own.join("staging"),
        }
    }

    /// The directory of the marks of incomplete layers that are made in place.
    pub(crate) fn incomplete_dir(&self) -> PathBuf {
        self.own.join("incomplete")
    }

    /// Passes `use_it` the form in which this store's chains name parents: Docker's form where Docker may
    /// read them.
    pub(crate) fn with_chain_form<T>(&self, use_it: impl FnOnce(ChainForm<'_>) -> T) -> T {
        match self.placement {
            Placement::Aside => use_it(ChainForm::Ids),
            Placement::InPlace => use_it(ChainForm::Paths(&hcs_path(&self.layers))),
        }
    }

    /// Whether the layer is marked as incomplete. A layer that was made aside is complete as soon as it
    /// exists.
    pub(crate) fn is_incomplete(&self, id: &LayerId) -> bool {
        self.placement == Placement::InPlace && self.incomplete(id).exists()
    }

    /// The mark of an incomplete layer; the process that makes the layer holds the lock of its directory.
    pub(crate) fn incomplete(&self, id: &LayerId) -> PathBuf {
        self.incomplete_dir().join(id.as_str())
    }

    fn locks(&self) -> PathBuf {
        self.own.join("locks")
    }

    /// Locks a layer's directory, waiting until it is free. For layers made in place the lock is a file of
    /// ours: the directory may not exist yet, and nothing in it may be open while the compute service works
    /// on it.
    pub(crate) fn lock_directory(&self, dir: &Path, what: &str) -> Result<Lock, Error> {
        match self.placement {
            Placement::Aside => lock::exclusive_dir(dir, what, &self.cancel),
            // On Windows the lock file is removed with its lock.
            Placement::InPlace if cfg!(windows) => {
                lock::exclusive_dir(&self.lock_file(dir), what, &self.cancel)
            }
            Placement::InPlace => lock::exclusive(&self.lock_file(dir), what, &self.cancel),
        }
    }

    /// Like [`Paths::lock_directory`], but `None` if it is locked.
    pub(crate) fn try_lock_directory(&self, dir: &Path) -> Result<Option<Lock>, Error> {
        match self.placement {
            Placement::Aside => lock::try_exclusive_dir(dir),
            Placement::InPlace if cfg!(windows) => lock::try_exclusive_dir(&self.lock_file(dir)),
            Placement::InPlace => lock::try_exclusive(&self.lock_file(dir)),
        }
    }

    /// The lock that a directory needs under its new name before a rename, where its present lock does not
    /// follow the rename.
    pub(crate) fn lock_new_name(&self, dir: &Path) -> Result<Option<Lock>, Error> {
        match self.placement {
            Placement::Aside => Lock::before_rename(dir),
            Placement::InPlace => self.try_lock_directory(dir),
        }
    }

    /// Whether `dir` is still the directory that was locked.
    pub(crate) fn is_locked(&self, lock: &Lock, dir: &Path) -> bool {
        match self.placement {
            Placement::Aside => lock.still_at(dir),
            Placement::InPlace => dir.is_dir(),
        }
    }

    fn lock_file(&self, dir: &Path) -> PathBuf {
        self.locks().join(dir.file_name().unwrap_or_default())
    }

    /// The file that is locked while a layer is prepared.
    pub(crate) fn prepare_lock(&self) -> PathBuf {
        self.own.join("prepare.lock")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.own.join("images")
    }

    pub(crate) fn mounts(&self) -> PathBuf {
        self.own.join("mounts")
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.own.join("templates")
    }

    fn tmp(&self) -> PathBuf {
        self.own.join("tmp")
    }

    pub(crate) fn temporaries(&self) -> Temporaries {
        Temporaries::new(self.tmp()).with_cancel(self.cancel.clone())
    }

    pub(crate) fn layer(&self, id: &LayerId) -> PathBuf {
        self.layers().join(id.as_str())
    }

    pub(crate) fn mount(&self, id: &LayerId) -> PathBuf {
        self.mounts().join(id.as_str())
    }
}

/// The path as Windows' own programs write it, without the prefix that `canonicalize` adds.
fn hcs_path(path: &Path) -> PathBuf {
    path.to_str().map_or_else(|| path.to_owned(), |text| PathBuf::from(hcs::long_path::strip_prefix(text)))
}

/// Refuses a directory that others can write to, if `access` is given.
fn refuse_exposed(access: Option<&dyn AccessControl>, dir: &Path) -> Result<(), Error> {
    match access.map(|access| access::exposed(access, dir)).transpose()?.flatten() {
        Some(exposed) => Err(Error::Exposed { exposed }),
        None => Ok(()),
    }
}

/// Creates `dir` and its parents, `dir` itself for its owner only. On Linux the original's mode 0 would make
/// it unusable.
fn create_private_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).at("create directory", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_root_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        Paths::create(&root, Placement::Aside, None).unwrap();
        for dir in ["", "layers", "images", "mounts", "templates", "tmp"] {
            let mode = fs::metadata(root.join(dir)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{dir:?}");
        }
    }

    #[test]
    fn a_store_beside_layers_has_its_files_where_no_layer_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::create(dir.path(), Placement::InPlace, None).unwrap();
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [OWN]);
        assert!(LayerId::new(OWN).is_err() && Paths::is_in_place(dir.path()));
        assert_eq!(paths.layers(), dir.path().canonicalize().unwrap());
    }
}
