//! Windows layers for containerd on Linux: a snapshotter and differ, as two gRPC services on one socket.
//!
//! `services/` receives containerd's calls; `snapshotter/` keeps snapshots on top of the layer store, with
//! durable records in `records.rs`. `containerd.rs` reads and writes layer blobs in the content store of
//! the calling containerd. `server.rs` ties them together.
//!
//! `docs/containerd.md` says how to configure containerd, and why.

#![cfg(target_os = "linux")]

mod api;
mod call;
mod config;
mod containerd;
mod error;
mod filter;
mod find_layer;
mod fsck;
mod key;
mod labels;
mod listen;
#[cfg(any(test, feature = "fuzzing"))]
mod machine;
mod metrics;
mod mounts;
mod pieces;
mod records;
mod server;
mod services;
mod snapshotter;
mod stop;
mod users;

#[cfg(test)]
mod tests;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use config::{Configured, Version, configuration};
pub use error::{Error, ShortKey};
pub use fsck::{Finding, fsck};
pub use records::Kind;
pub use server::{ServeOptions, serve};
pub use snapshotter::SnapshotterOptions;
pub use users::{Snapshot, users};
