//! The server on a real socket, with a fake containerd that each test controls. Needs root to mount.

mod applying;
mod buildkit;
mod diffing;
mod fake_containerd;
mod fsck;
mod full_disk;
mod layers;
mod listing;
mod lost_records;
pub(crate) mod small_disk;
mod snapshots;
mod start;
mod support;
