//! The layer store: Docker's `windowsfilter` graph driver, on any host.
//!
//! A [`LayerStore`] keeps Windows layers exactly as imported, shows a chain of them as Windows would (a
//! [`View`] needs neither a mount nor privileges), and mounts it on Linux. A container writes to a sandbox;
//! the changes of a sandbox can be exported as a new layer. Image names are handled by `windowsfilter-image`,
//! formats by `wclayer`.
//!
//! ```
//! use windowsfilter::{Follow, LayerId, LayerStore, NodeKind, StorageOptions};
//!
//! # use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};
//! # let mut layer = Writer::new(Vec::new());
//! # let directory = FileInfo { attributes: 0x10, ..FileInfo::default() };
//! # layer.write_file(&LayerEntry::new("Files", directory), &mut std::io::empty())?;
//! # layer.write_file(&LayerEntry::new("Files/empty.txt", FileInfo::default()), &mut std::io::empty())?;
//! # let tar = layer.finish()?;
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path();
//! let store = LayerStore::open(root, StorageOptions::default())?;
//! // `tar` is a layer's tar, plain or compressed.
//! let base = LayerId::new("base")?;
//! store.import(&base, None, &mut &tar[..])?;
//!
//! let view = store.view(&base)?;
//! let file = view.lookup(br"C:\EMPTY.TXT", Follow::Always)?.expect("any case");
//! assert_eq!((file.kind(), file.size()), (NodeKind::File, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! All methods are the store's own; [`Driver`] offers the same ones under Docker's names (`apply_diff` for
//! [`LayerStore::import`], `get` for [`LayerStore::mount`]), for programs that use those. `ARCHITECTURE.md`
//! in the repository is the map of the code.

#![forbid(unsafe_code)]

// The tests of every engine, `tests/contract/suite.rs`, are shared with the integration tests.
#[cfg(test)]
extern crate self as windowsfilter;

mod access;
pub mod cancel;
mod compressed;
mod diff_options;
mod digest;
pub mod driver;
mod durable;
mod engine;
mod error;
mod findings;
mod id;
mod invariants;
mod json_name;
mod layer_store;
pub mod limits;
mod lock;
pub mod options;
mod path_text;
mod record;
mod scanners;
mod sealed;
mod store;
mod temporary;

pub use cancel::Cancel;
pub use digest::{DiffId, Digest};
pub use driver::Driver;
pub use engine::{Follow, Node, NodeKind, View};
pub use error::{Error, ErrorKind};
pub use id::LayerId;
pub use layer_store::{LayerStore, MountState, StagedLayer};
pub use limits::Limits;
pub use options::StorageOptions;
pub use record::{LayerKind, LayerRecord};

/// Importing a layer: the parameters and results of [`LayerStore::stage`].
pub mod import {
    pub use crate::compressed::CompressedFormat;
    pub use crate::engine::portable::import::MAX_ZSTD_WINDOW_LOG;
    pub use crate::engine::{Expect, ImportRequest, Imported, Progress};
    pub use crate::layer_store::StagedDirectory;
}

/// Exporting changes: the options of [`LayerStore::diff_with`], and what a diff leaves out.
pub mod diff {
    pub use crate::diff_options::{DiffOptions, LeftOut};
    pub use crate::layer_store::Spooled;
}

/// The findings of [`LayerStore::fsck`] and [`LayerStore::verify_all`].
pub mod fsck {
    pub use crate::findings::Finding;
    pub use crate::invariants::Invariant;
    pub use crate::layer_store::Verified;
}

/// Win32 metadata of a file, and the extended attributes in which mounted views and sandboxes store it.
pub mod metadata {
    pub use crate::engine::StreamForm;
    pub use crate::engine::portable::xattrs::{Origin, Stream, StreamContent, Win32Metadata};
}

/// The engine over Windows' own Host Compute Service: [`LayerStore::open_hcs`] and the process it imports in.
pub mod hcs_engine {
    pub use crate::engine::hcs::{ImportProcess, read_chain, write_layer};
}

/// Items that the crates of this project share besides the layer store. They change without notice.
#[doc(hidden)]
pub mod support {
    pub use layer_mounts::remove_tree;

    pub use crate::access::Exposed;
    pub use crate::digest::Hashed;
    /// For the fuzz targets, which pass it their own trees.
    #[cfg(target_os = "linux")]
    pub use crate::engine::portable::sandbox_diff;
    pub use crate::error::TarContent;
    pub use crate::json_name::{JsonName, serialize_path};
    pub use crate::layer_store::{Chains, Doomed, Reclaimer, StoreFiles, StoreLock};
    /// Records sealed by a checksum.
    pub mod sealed {
        pub use crate::sealed::{seal, unseal};
    }
    pub use crate::temporary::NewFile;
}
