//! The server over a real socket, with a containerd that does what a test wants it to. Needs root, as mounting does.

mod applying;
mod diffing;
mod fake_containerd;
mod fsck;
mod layers;
mod listing;
mod snapshots;
mod start;
mod support;
