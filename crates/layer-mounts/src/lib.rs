//! Mounts of container layers on Linux, and the images of writable ones: EROFS over tars, overlayfs over ext4
//! in a sparse file, loop devices, the users of an image, direct writes, confined threads.
//!
//! It does not know what a layer is. [`linux`] has everything that needs the kernel; [`ext4`] reads
//! superblocks and [`Cancel`] ends long work on any host.

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
/// Largest size of a sandbox in bytes: that of the largest VHDX (64 TB), the format of Windows' sandboxes.
/// ext4's group descriptors then take 32 MiB.
pub const MAXIMUM_SANDBOX_SIZE: u64 = 64 << 40;
