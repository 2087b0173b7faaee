//! The transport directory: the form in which `ImportLayer` and `ExportLayer` of the Host Compute Service
//! take and give a layer.
//!
//! ```text
//! Files\                        what the container sees
//!   Windows\                    a directory: empty, or with the layer's files
//!   Windows.$wcidirs$           beside it: attribute word, backup stream
//!   Windows\notepad.exe         a file: attribute word, backup stream; its own times are the file's
//! Hives\System_Delta …          registry hives, plain files
//! UtilityVM\Files\…             the utility VM, plain files
//! tombstones.txt                deletions below Files, see [`crate::tombstones`]
//! ```
//! The attribute word is `FILE_ATTRIBUTE_*` as four bytes, little-endian. Times are not in the stream: they
//! are those of the file that holds it. A directory that is a reparse point exists only at the very end, so
//! that nothing can be put into what it points to.
//!
//! [`Writer`] takes what [`import()`](crate::layer_tar::import()) gives, [`Reader`] gives what
//! [`export()`](crate::layer_tar::export()) takes, both over a [`Directory`]: this crate makes no system
//! calls.
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

/// What the container sees.
const FILES: &[u8] = b"Files";
/// Registry hives.
const HIVES: &[u8] = b"Hives";
/// The utility VM; everything of it is below `Files` in it.
const UTILITY_VM: &[u8] = b"UtilityVM";
/// The utility VM's files.
const UTILITY_VM_FILES: &[u8] = b"UtilityVM\\Files";
/// Deletions.
const TOMBSTONES: &[u8] = b"tombstones.txt";
/// What the file with a directory's metadata is called beside the directory.
const DIRECTORY_SUFFIX: &[u8] = b".$wcidirs$";
/// Not part of a layer, whatever is in it.
const RECYCLE_BIN: &[u8] = b"Files\\$Recycle.Bin";
/// Bytes of the attribute word.
const ATTRIBUTE_SIZE: u64 = 4;

/// Where in a layer a path is, which decides how its files are stored.
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

/// The area of a clean path with backslashes. Spelling counts, as in hcsshim.
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

/// A path without `.` and empty elements, with backslashes; of `..` only those that lead out of the layer are
/// left, in front.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let slashes: Vec<u8> = path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    windows_path(&path::clean(&slashes))
}

/// The directory a clean path is in; empty for the root.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'\\').map_or(&[], |end| &path[..end])
}
