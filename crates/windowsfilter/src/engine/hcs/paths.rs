//! Converts names between tars (WTF-8), Windows (UTF-16) and the service (paths without a prefix).

use std::path::{Path, PathBuf};

use hcs::RelativePath;
use wclayer::filetime::FileTime;
use wclayer::layer_tar::FileInfo;

/// A path in the form that the service accepts: without the prefix that `canonicalize` adds.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.to_str().map_or_else(|| path.to_owned(), |text| PathBuf::from(hcs::long_path::strip_prefix(text)))
}

/// A path that can be opened as a directory, also if it is the name of a volume.
pub(super) fn directory(path: &Path) -> PathBuf {
    path.to_str().map_or_else(|| path.to_owned(), |text| PathBuf::from(hcs::long_path::directory(text)))
}

/// The last element of a path, from which a layer's GUID is computed (`filepath.Split` in hcsshim's
/// `LayerID`).
pub(super) fn last_element(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A path of a tar, cleaned and with backslashes, for use below a directory.
///
/// # Errors
/// A name that Windows cannot hold, or a path that leads out of the directory.
pub(super) fn relative(path: &[u8]) -> hcs::Result<RelativePath> {
    RelativePath::new(&units(path)?)
}

/// A name of a tar in UTF-16.
///
/// # Errors
/// A name that Windows cannot hold.
pub(super) fn units(name: &[u8]) -> hcs::Result<Vec<u16>> {
    wclayer::name::to_utf16(name).map_err(|error| hcs::Error {
        text: error.to_string(),
        ..hcs::Error::new("open relative", String::from_utf8_lossy(name), hcs::Code::INVALID_NAME)
    })
}

/// A path that is a constant of this program.
///
/// # Panics
/// If it is not relative.
pub(super) fn known(path: &str) -> RelativePath {
    RelativePath::from_text(path).expect("a relative path without dots and colons")
}

/// The path in the form of tars, WTF-8.
pub(super) fn bytes(path: &RelativePath) -> Vec<u8> {
    wclayer::name::from_utf16(path.units())
}

/// A clean path of a tar: backslashes, no empty elements and no dots; a path that leads out keeps a `..`,
/// which [`relative`] refuses.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    wclayer::transport::clean(path)
}

/// Whether a clean path lies below `directory`.
pub(super) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.len() > 1 && rest[0] == b'\\')
}

/// Attributes and times for Windows.
pub(super) fn basic_info(info: &FileInfo) -> hcs::BasicInfo {
    hcs::BasicInfo {
        creation_time: info.creation_time.0.cast_signed(),
        last_access_time: info.last_access_time.0.cast_signed(),
        last_write_time: info.last_write_time.0.cast_signed(),
        change_time: info.change_time.0.cast_signed(),
        attributes: info.attributes,
    }
}

/// Attributes and times from Windows.
pub(super) fn file_info(info: &hcs::BasicInfo) -> FileInfo {
    FileInfo {
        attributes: info.attributes,
        creation_time: FileTime(info.creation_time.cast_unsigned()),
        last_access_time: FileTime(info.last_access_time.cast_unsigned()),
        last_write_time: FileTime(info.last_write_time.cast_unsigned()),
        change_time: FileTime(info.change_time.cast_unsigned()),
    }
}
