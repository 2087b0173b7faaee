//! The formats of Windows container layers: what go-winio and hcsshim read and write, in safe Rust, on any
//! host.
//!
//! For programs that read or make Windows layers: scanners, builders, registries' tools. Everything is pure
//! data; no function here calls the operating system. Where the reference has a bug that digests depend on,
//! this has it too, and documents it. `vectors/` in the repository has the output of the reference, and tests
//! compare byte for byte.
//!
//! | module | what |
//! | --- | --- |
//! | [`layer_tar`] | what a tar entry means for Windows; tars from and to backup streams |
//! | [`tar`] | tars as Go's `archive/tar` reads and writes them |
//! | [`backup_stream`] | Win32 backup streams: a file's data, streams, security and attributes in one |
//! | [`security`] | security descriptors, SDDL, inheritance |
//! | [`reparse`] | symlinks and junctions |
//! | [`ea`] | extended attributes |
//! | [`attributes`], [`filetime`] | `FILE_ATTRIBUTE_*`, times in 100 ns since 1601 |
//! | [`transport`], [`tombstones`] | what ImportLayer and ExportLayer exchange: a directory, its deletions |
//! | [`layer_chain`] | Docker's `layerchain.json` |
//! | [`name`] | names as Windows compares them |
//!
//! A layer's entries with their security descriptors (`examples/sddl.rs` reads a file):
//!
//! ```
//! use wclayer::layer_tar::{FileInfo, LayerEntry, Writer};
//! use wclayer::security::SecurityDescriptor;
//! use wclayer::tar::Reader;
//!
//! let everybody = SecurityDescriptor::from_sddl("O:BAG:SYD:(A;;FR;;;WD)")?;
//! let mut layer = Writer::new(Vec::new());
//! let entry = LayerEntry {
//!     size: 5,
//!     security: Some(everybody.to_bytes()?),
//!     ..LayerEntry::new("Files/a.txt", FileInfo::default())
//! };
//! layer.write_file(&entry, &mut &b"hello"[..])?;
//!
//! let tar = layer.finish()?;
//! let mut reader = Reader::new(&tar[..]);
//! while let Some(header) = reader.next()? {
//!     let entry = LayerEntry::from_header(&header)?;
//!     let descriptor = SecurityDescriptor::parse(&entry.security.unwrap_or_default())?;
//!     assert_eq!(descriptor.to_sddl()?, "O:BAG:SYD:(A;;FR;;;WD)");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
