//! The Windows functions that a layer store needs, in safe Rust: the layer functions and compute systems of
//! the Host Compute Service (`vmcompute.dll`), the backup API, privileges, virtual disks, and file access
//! that follows no reparse point.
//!
//! [`Host`], [`Tree`] and [`ComputeSystem`] are traits, so that code on top of them runs on any system with a
//! recording stand-in. `windows::System` implements them and is the only place of the project with foreign
//! functions. It finds all of them at run time through one table, which can also use a library that stands in
//! for Microsoft's.
//!
//! Every failure names the call, its arguments, the code and its text ([`Error`]).
//!
//! Source: hcsshim `internal/wclayer`, `internal/vmcompute`, `internal/safefile`; go-winio `backup.go`,
//! `privilege.go`, `vhd`.

mod access;
mod error;
mod guid;
mod host;
mod layer;
pub mod long_path;
mod relative_path;
#[cfg(windows)]
pub mod windows;

pub use access::{AccessControl, User};
pub use error::{Code, Error, Result};
pub use guid::Guid;
pub use host::{
    BackupTarget, BasicInfo, ComputeSystem, FileStatus, Host, Privilege, Termination, Tree, attribute,
};
pub use layer::{DriverInfo, FILTER_DRIVER, LayerDescriptor};
pub use relative_path::{RelativePath, StreamName};

/// Log target of calls of foreign functions, at level trace: name, arguments, result. `windows-host-check`
/// puts them into its report.
pub const CALL_LOG: &str = "hcs::call";
