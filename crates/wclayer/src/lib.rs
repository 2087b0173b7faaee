//! Windows container layer formats.

pub mod attributes;
pub mod backup_stream;
pub mod ea;
pub mod filetime;
pub mod layer_chain;
pub mod layer_tar;
pub mod name;
pub mod pax_time;
pub mod reparse;
pub mod security;
pub mod tar;
pub mod tombstones;
pub mod transport;
