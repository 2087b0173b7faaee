//! Windows itself.
//!
//! `table` finds the functions, and all calls use `strings` and `handle`. `layers`, `systems`, `disks`,
//! `files`, `backup`, `access`, `privileges`, `holders`, `job` and `machine` are the calls by subject; `host`
//! puts them together as [`Host`](crate::Host).
#![allow(unsafe_code, reason = "this is where the project calls foreign functions")]

mod access;
mod backup;
mod disks;
mod files;
mod handle;
mod holders;
mod host;
mod job;
mod layers;
mod machine;
mod privileges;
mod strings;
mod systems;
mod table;

pub use access::Access;
pub use backup::{BackupReader, BackupWriter};
pub use disks::AttachedDisk;
pub use files::Directory;
pub use host::System;
pub use privileges::ThreadPrivileges;
