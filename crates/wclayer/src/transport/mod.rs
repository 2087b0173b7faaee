//! The transport directory: the form of a layer for `ImportLayer` and `ExportLayer` of the Host Compute
//! Service.
//!
//! ```text
//! Files\                        the container's files
//!   Windows\                    a directory: empty, or with the layer's files
//!   Windows.$wcidirs$           beside it: attribute word, backup stream
//!   Windows\notepad.exe         a file: attribute word, backup stream; its own times are the file's
//! Hives\System_Delta …          registry hives, plain files
//! UtilityVM\Files\…             the utility VM, plain files
//! tombstones.txt                deletions below Files, see [`crate::tombstones`]
//! ```
//! The attribute word is `FILE_ATTRIBUTE_*` as four bytes, little-endian. Times are not in the stream: they
//! are those of the file that holds it. A directory that is a reparse point is made at the very end, so that
//! nothing can be written through it.
//!
//! [`Writer`] takes the output of [`import()`](crate::layer_tar::import()), [`Reader`] is a source for
//! [`export()`](crate::layer_tar::export()), both over a [`Directory`]: this crate makes no system calls.
//!
//! Not in the format, and set by the reader as hcsshim does: creation and access times outside `Files` (the
//! write time), times of `Files` and `Hives` themselves (those of the system hive, as importing changes
//! them), security descriptors of plain files, the order of entries (depth-first, by the bytes of the names).
//!
//! Source: hcsshim `internal/wclayer/legacy.go`, `importlayer.go` and `exportlayer.go`.

mod directory;
mod error;
mod reader;
mod writer;

pub use directory::{Directory, Metadata};
pub use error::TransportError;
pub use reader::Reader;
pub use writer::{AddedNames, Deferred, Link, Writer};

use crate::layer_tar::windows_path;
use crate::tar::path;

/// The container's files.
const FILES: &[u8] = b"Files";
/// Registry hives.
const HIVES: &[u8] = b"Hives";
/// The utility VM; its files are below `Files` in it.
const UTILITY_VM: &[u8] = b"UtilityVM";
/// The utility VM's files.
const UTILITY_VM_FILES: &[u8] = b"UtilityVM\\Files";
/// Deletions.
const TOMBSTONES: &[u8] = b"tombstones.txt";
/// Suffix of the file beside a directory that has its metadata.
const DIRECTORY_SUFFIX: &[u8] = b".$wcidirs$";
/// Never part of a layer.
const RECYCLE_BIN: &[u8] = b"Files\\$Recycle.Bin";
/// Bytes of the attribute word.
const ATTRIBUTE_SIZE: u64 = 4;

/// The part of a layer that a path is in, which decides how its files are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    /// `Files` itself, `Hives` itself.
    Top,
    /// Below `Files`: attribute word and backup stream.
    Files,
    /// Below `Hives`: plain files.
    Hives,
    /// `UtilityVM`, `UtilityVM\Files` and below: plain files with security descriptors.
    UtilityVm,
}

/// The area of a clean path with backslashes. Case matters, as in hcsshim.
fn area(path: &[u8]) -> Option<Area> {
    if path == FILES || path == HIVES {
        Some(Area::Top)
    } else if is_below(path, FILES) {
        Some(Area::Files)
    } else if is_below(path, HIVES) {
        Some(Area::Hives)
    } else if path == UTILITY_VM || path == UTILITY_VM_FILES || is_below(path, UTILITY_VM_FILES) {
        Some(Area::UtilityVm)
    } else {
        None
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"\\") && rest.len() > 1)
}

/// A path without `.` and empty elements, with backslashes. Only those `..` remain, in front, that lead out
/// of the layer.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let slashes: Vec<u8> = path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    windows_path(&path::clean(&slashes))
}

/// The directory a clean path is in; empty for the root.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'\\').map_or(&[], |end| &path[..end])
}
