//! Running other programs, and paths in this repository, for the tasks, the test bed and tests.
//!
//! It does not depend on the product: `cargo xtask` needs it before anything of the product is built.

pub mod error;
pub mod mounts;
pub mod process;
pub mod workspace;
