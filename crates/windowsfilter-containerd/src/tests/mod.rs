//! The server over a real socket, with a containerd that does what a test wants it to. Needs root, as
//! mounting does.

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
