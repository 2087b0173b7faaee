//! Windows layers for containerd on Linux: a snapshotter and differ, as two gRPC services on one socket.
//!
//! containerd asks `services/` for snapshots; `snapshotter/` keeps them on top of the layer store, with
//! `records.rs` for what must not be forgotten. Layers come from and go to `containerd.rs`: the content store
//! of the containerd that asks. `server.rs` puts it together.
//!
//! What containerd needs to be told, and why, is in `docs/containerd.md`.

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
