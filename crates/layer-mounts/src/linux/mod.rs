//! The Linux side: mounts, loop devices, sandbox images, and files written past the cache.
//!
//! Each module wraps one facility of the kernel and knows nothing of layers. Everything here needs
//! `CAP_SYS_ADMIN` except [`direct_writer`] and [`sandbox_image`]'s files. Needs Linux 5.16 (EROFS on several
//! devices). Newer kernels can do more, and the docs of each use name the fallback; the tests of this folder
//! pass on 6.1, 6.12 and 6.18.

pub mod aligned_buffer;
pub mod bind;
pub mod confine;
pub mod direct_writer;
mod e2fsprogs;
pub mod erofs_mount;
pub mod error;
mod fs_context;
mod holders;
pub mod in_use;
pub mod loop_device;
pub mod mount_table;
pub mod sandbox_image;
pub mod sandbox_mount;
pub mod snapshot;
pub mod sparse_copy;
mod sys;
#[cfg(test)]
pub(crate) mod test_support;
pub mod upper;
mod xattrs;

pub use error::{Holder, LinuxError};
