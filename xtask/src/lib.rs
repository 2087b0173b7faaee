//! Set-up, demo, tests and benchmarks of this repository, as `cargo xtask`. One file a task.
//!
//! Also a library, so that tests and benchmarks elsewhere can make [`sample`] images without a process.

#[cfg(unix)]
pub mod bench;
#[cfg(unix)]
pub mod containerd;
pub mod demo;
pub mod deny;
pub mod error;
pub mod fuzz;
pub mod man;
pub mod mutants;
pub mod packages;
pub mod process;
pub mod readme;
pub mod sample;
pub mod sample_docker_store;
pub mod sample_image;
pub mod test;
pub mod tools;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod torture;
pub mod windows;
pub mod windows_host_check;
pub mod workspace;
