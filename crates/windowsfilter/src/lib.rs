//! The layer store: Docker's `windowsfilter` graph driver, on any host.
//!
//! [`driver`] is the contract, [`LayerStore`] the implementation; [`engine`] does the work that depends on
//! the host. See `ARCHITECTURE.md` in the repository for a map.

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
