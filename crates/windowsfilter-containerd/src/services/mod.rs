//! The two services: translate containerd's requests into calls of the snapshotter, and the results back.

pub(crate) mod diff;
pub(crate) mod snapshots;
mod unpack;
