//! The two services: requests in containerd's messages become calls of the snapshotter, and answers go back.

pub(crate) mod diff;
pub(crate) mod snapshots;
mod unpack;
