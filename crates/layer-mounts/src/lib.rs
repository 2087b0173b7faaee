//! Mounts of container layers on Linux, and the images of writable ones: EROFS over tars, overlayfs over ext4
//! in a sparse file, loop devices, who has an image in use, direct writes, confined threads.
//!
//! It knows nothing of what a layer is. Everything of the kernel is in [`linux`]; [`ext4`] reads superblocks
//! on any host, and [`Cancel`] ends long work on any.

mod cancel;
pub mod ext4;
#[cfg(target_os = "linux")]
pub mod linux;
mod remove_tree;

pub use cancel::{Cancel, CancelReader, Cancelled, PipeReader, any_cause, is_cancelled};
pub use remove_tree::{remove_any, remove_tree};

/// Least size of a sandbox in bytes: a journal of ext4's least size (4 MiB), the inode tables, and something
/// to use.
pub const MINIMUM_SANDBOX_SIZE: u64 = 16 << 20;
/// Largest size of a sandbox in bytes: that of the largest VHDX (64 TB), which is what Windows keeps
/// sandboxes in. What ext4 notes of each of its groups takes 32 MiB then.
pub const MAXIMUM_SANDBOX_SIZE: u64 = 64 << 40;
