//! The layer store: Docker's `windowsfilter` graph driver, on any host.
//!
//! A [`LayerStore`] keeps Windows layers as they came in, shows a chain of them as Windows would (a [`View`],
//! without a mount or rights), mounts it on Linux, and keeps what a container writes in a sandbox, whose
//! changes are a layer again. Names of images are `windowsfilter-image`'s; formats are `wclayer`'s.
//!
//! ```
//! use windowsfilter::{Driver, LayerId, LayerStore, NodeKind, StorageOptions};
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
//! store.apply_diff(&base, None, &mut &tar[..])?;
//!
//! let view = store.view(&base)?;
//! let file = view.lookup(br"C:\EMPTY.TXT", true)?.expect("any case");
//! assert_eq!((file.kind(), file.size()), (NodeKind::File, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Driver`] has Docker's names for what a store does: `apply_diff`, `get`, `put`, `diff`, `remove`.
//! `ARCHITECTURE.md` in the repository is the map of the code.

#![forbid(unsafe_code)]

// Tests that every engine runs, `tests/contract/suite.rs`, are shared with those beside this crate.
#[cfg(test)]
extern crate self as windowsfilter;

mod access;
mod cancel;
mod compressed;
mod diff_options;
mod digest;
pub mod driver;
#[doc(hidden)]
pub mod engine;
mod error;
mod findings;
mod id;
mod invariants;
mod json_name;
mod layer_store;
mod limits;
mod lock;
pub mod metadata;
mod options;
mod path_text;
mod record;
mod scanners;
pub mod sealed;
mod store;
mod temporary;

pub use access::Exposed;
pub use cancel::{Cancel, CancelReader, Cancelled, PipeReader, is_cancelled};
pub use compressed::CompressedFormat;
pub use diff_options::{DiffOptions, LeftOut};
pub use digest::{DiffId, Digest, Hashed};
pub use driver::{Applied, Change, ChangeKind, DiffGetter, Driver, Presence};
pub use engine::hcs as hcs_engine;
pub use engine::portable::import::MAX_ZSTD_WINDOW_LOG;
pub use engine::{Expect, ImportRequest, Imported, Node, NodeKind, Progress, View};
pub use error::{Error, ErrorKind, TarContent};
pub use findings::Finding;
pub use id::LayerId;
pub use invariants::Invariant;
pub use json_name::{JsonName, serialize_path};
pub use layer_mounts::remove_tree;
pub use layer_store::{
    Chains, Doomed, LayerStore, MountState, Reclaimer, Spooled, StagedDirectory, StagedLayer, StoreLock,
    Verified,
};
pub use limits::{DiffLimits, Exceeded, Limit, Limits};
pub use metadata::{Origin, Stream, StreamContent, StreamForm, Win32Metadata};
pub use options::{
    DEFAULT_SANDBOX_SIZE, MAXIMUM_SANDBOX_SIZE, MINIMUM_SANDBOX_SIZE, StorageOptions, parse_size,
};
pub use record::{LayerKind, LayerRecord};
pub use temporary::NewFile;
