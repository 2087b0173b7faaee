//! The driver's contract: Docker's graph driver interface, for Windows layers.
//!
//! Names and meaning are those of `graphdriver.Driver` and the original `windowsfilter` driver
//! (`windows.go`). A layer is read-only, on top of its parent's chain; a sandbox is a writable layer on top
//! of a chain. A typical sequence:
//!
//! 1. `apply_diff("base", None, tar)` imports a base layer, `apply_diff("app", Some("base"), tar)` one on
//!    top.
//! 2. `create_read_write("c1", Some("app"), …)` makes a sandbox; `get("c1")` mounts it and returns the path
//!    of its `C:\`.
//! 3. `changes("c1", …)` lists what was changed in it; `diff("c1", …)` exports the changes as a layer tar for
//!    `apply_diff`.
//! 4. `put("c1")` once for each `get`; `remove("c1")`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use crate::digest::DiffId;
use crate::error::Error;
use crate::id::LayerId;
use crate::options::StorageOptions;

/// Name the driver is registered under.
pub const NAME: &str = "windowsfilter";

/// Whether an ID names a layer. The original answers "no" to every error (`windows.go`, `Exists`); here
/// damage is a separate answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The layer exists and its records are readable.
    Present,
    /// No layer has this ID.
    Absent,
    /// A layer has this ID but its records are damaged.
    Damaged {
        /// The fault.
        reason: String,
    },
}

/// How a path changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum ChangeKind {
    /// The parent does not have it.
    #[serde(rename = "A")]
    Add,
    /// The parent has it too.
    #[serde(rename = "M")]
    Modify,
    /// The parent has it, this layer hides it.
    #[serde(rename = "D")]
    Delete,
}

impl ChangeKind {
    /// `A`, `M` or `D`.
    pub fn letter(self) -> char {
        match self {
            Self::Add => 'A',
            Self::Modify => 'M',
            Self::Delete => 'D',
        }
    }
}

/// One change of a layer relative to its parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Tar name: `Files/…`, `Hives/…` or `UtilityVM/…`, as the original reports them. WTF-8.
    pub path: Vec<u8>,
    /// How it changed.
    pub kind: ChangeKind,
}

/// The result of `apply_diff`.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Sum of the sizes of the files in the tar, bytes; streams not counted (the original's return value).
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Entries of the tar, named streams not counted.
    pub entries: u64,
    /// Remarks on parts of the tar that the view does not show, such as entries outside `Files`, `Hives` and
    /// `UtilityVM`.
    pub notes: Vec<String>,
}

/// The contract. Several threads and processes may call any of the methods at once.
pub trait Driver: Send + Sync {
    /// Name of the driver: [`NAME`].
    fn name(&self) -> &'static str {
        NAME
    }

    /// Facts for `docker info`, as name and value.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn status(&self) -> Result<Vec<(String, String)>, Error>;

    /// Whether `id` is a layer of this store.
    ///
    /// # Errors
    /// When the store cannot be read; a damaged layer is [`Presence::Damaged`].
    fn exists(&self, id: &LayerId) -> Result<Presence, Error>;

    /// Creates a read-only layer without content; [`Driver::apply_diff`] fills it.
    ///
    /// # Errors
    /// [`Error::LayerExists`], [`Error::MissingParent`]; nothing is left behind.
    fn create(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<(), Error>;

    /// Creates a sandbox on top of `parent`. A parent without `Files` (an empty `-init` layer or another
    /// sandbox) is left out of the chain, as the original does. The size in `options` overrides the store's
    /// default. The mount label is for SELinux and ignored.
    ///
    /// # Errors
    /// [`Error::LayerExists`], [`Error::MissingParent`], a size that is too small; nothing is left behind.
    fn create_read_write(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        options: StorageOptions,
        mount_label: &str,
    ) -> Result<(), Error>;

    /// Imports a layer tar (plain, gzip or zstd) as layer `id` on top of `parent`. The import is atomic.
    ///
    /// # Errors
    /// Bad data, naming the entry and the reason; [`Error::LayerExists`] unless `id` is an empty layer made
    /// by [`Driver::create`] with the same parent.
    fn apply_diff(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        tar: &mut (dyn Read + Send),
    ) -> Result<Applied, Error>;

    /// Mounts `id` unless it is mounted, counts the mount, and returns the path of its view.
    ///
    /// # Errors
    /// When mounting fails; the count stays the same.
    fn get(&self, id: &LayerId, mount_label: &str) -> Result<PathBuf, Error>;

    /// Undoes one [`Driver::get`]; the last one unmounts.
    ///
    /// # Errors
    /// [`Error::NotMounted`] if there was no `get` (the original accepts that); a busy mount stays mounted
    /// and counted.
    fn put(&self, id: &LayerId) -> Result<(), Error>;

    /// The layer's tar: for a layer exactly the imported bytes, for a sandbox its present changes. Its mount
    /// stays usable meanwhile.
    ///
    /// # Errors
    /// [`Error::NotTheParent`] if `parent` is given and is not the layer's.
    fn diff(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Box<dyn Read + Send>, Error>;

    /// The paths that `id` adds, modifies and deletes, sorted.
    ///
    /// # Errors
    /// As [`Driver::diff`].
    fn changes(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Vec<Change>, Error>;

    /// Bytes of file content in [`Driver::changes`]; hard links count once.
    ///
    /// # Errors
    /// As [`Driver::changes`].
    fn diff_size(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<u64, Error>;

    /// Facts about one layer; `dir` is its directory.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`]; the original answers for unknown IDs too.
    fn get_metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>, Error>;

    /// Removes a layer or sandbox: it disappears from the store at once, its bytes soon after.
    ///
    /// # Errors
    /// [`Error::HasChildren`], [`Error::MaybeNeeded`], [`Error::Mounted`]; [`Error::Leftover`] when it is
    /// removed but its bytes are not: [`Driver::cleanup`] will delete them.
    fn remove(&self, id: &LayerId) -> Result<(), Error>;

    /// Finishes interrupted removals and removes interrupted imports. Logs failures to remove something, as
    /// the original does.
    ///
    /// # Errors
    /// When the store cannot be listed.
    fn cleanup(&self) -> Result<(), Error>;

    /// Opens files of a layer by their tar names, for users of tar-split.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`], a damaged index.
    fn diff_getter(&self, id: &LayerId) -> Result<Box<dyn DiffGetter>, Error>;
}

/// Reads files of one layer by their names in its tar.
pub trait DiffGetter: Send {
    /// The content of the file `name` (`Files/…`). Boot store files that Windows changes are returned as they
    /// were in the tar.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`].
    fn get(&self, name: &[u8]) -> Result<Box<dyn Read + Send>, Error>;
}
