//! How the tasks, the test bed and tests run other programs, and where things are in this repository.
//!
//! It knows nothing of layers: `cargo xtask` is built on it before anything of the product is.

pub mod error;
pub mod mounts;
pub mod process;
pub mod workspace;
