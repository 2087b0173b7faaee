//! What a Windows layer store asks of Windows, in safe Rust: the layer functions and compute systems of the
//! Host Compute Service (`vmcompute.dll`), the backup API, privileges, virtual disks, and file access that no
//! reparse point can lead astray.
//!
//! [`Host`], [`Tree`] and [`ComputeSystem`] say it without Windows, so that what is built on them can be
//! driven by a recording stand-in on any system. `windows::System` is the real thing and the only place of
//! the project with foreign functions: all of them are found at run time through one table, which may also be
//! given a library that stands in for Microsoft's.
//!
//! Every failure says the call, its arguments, the code and its text ([`Error`]).
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

/// Target of the log's lines about calls of foreign functions, at level trace: name, arguments, what was
/// returned. `windows-host-check` puts them into its report.
pub const CALL_LOG: &str = "hcs::call";
