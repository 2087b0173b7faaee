//! The layer store: Docker's `windowsfilter` graph driver, on any host.
//!
//! A [`LayerStore`] keeps Windows layers as they came in, shows a chain of them as Windows would (a [`View`],
//! without a mount or rights), mounts it on Linux, and keeps what a container writes in a sandbox, whose
//! changes are a layer again. Names of images are `windowsfilter-image`'s; formats are `wclayer`'s.
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
//! All calls are the store's own; [`Driver`] has the same ones under Docker's names (`apply_diff` for
//! [`LayerStore::import`], `get` for [`LayerStore::mount`]), for programs that speak those.
//! `ARCHITECTURE.md` in the repository is the map of the code.

#![forbid(unsafe_code)]

// Tests that every engine runs, `tests/contract/suite.rs`, are shared with those beside this crate.
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

/// How a layer comes in: [`LayerStore::stage`] and what it is given.
pub mod import {
    pub use crate::compressed::CompressedFormat;
    pub use crate::engine::portable::import::MAX_ZSTD_WINDOW_LOG;
    pub use crate::engine::{Expect, ImportRequest, Imported, Progress};
    pub use crate::layer_store::StagedDirectory;
}

/// How changes come out: options of [`LayerStore::diff_with`], and what a diff leaves out.
pub mod diff {
    pub use crate::diff_options::{DiffOptions, LeftOut};
    pub use crate::layer_store::Spooled;
}

/// What [`LayerStore::fsck`] and [`LayerStore::verify_all`] find.
pub mod fsck {
    pub use crate::findings::Finding;
    pub use crate::invariants::Invariant;
    pub use crate::layer_store::Verified;
}

/// Win32 metadata of a file, and the extended attributes that a mounted view and a sandbox have it in.
pub mod metadata {
    pub use crate::engine::StreamForm;
    pub use crate::engine::portable::xattrs::{Origin, Stream, StreamContent, Win32Metadata};
}

/// The engine over Windows' own Host Compute Service: [`LayerStore::open_hcs`] and the process it imports in.
pub mod hcs_engine {
    pub use crate::engine::hcs::{ImportProcess, read_chain, write_layer};
}

/// What the crates of this project share beside the layer store. It changes without notice.
#[doc(hidden)]
pub mod support {
    pub use layer_mounts::remove_tree;

    pub use crate::access::Exposed;
    pub use crate::digest::Hashed;
    /// The fuzz targets give it trees of their own.
    #[cfg(target_os = "linux")]
    pub use crate::engine::portable::sandbox_diff;
    pub use crate::error::TarContent;
    pub use crate::json_name::{JsonName, serialize_path};
    pub use crate::layer_store::{Chains, Doomed, Reclaimer, StoreFiles, StoreLock};
    /// Records that are sealed by a checksum.
    pub mod sealed {
        pub use crate::sealed::{seal, unseal};
    }
    pub use crate::temporary::NewFile;
}
