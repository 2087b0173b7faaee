//! Layers made for the check.

use std::io;

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{BackupSource, FileInfo, LayerEntry, Writer};

use crate::error::{Error, Result};

/// When everything in them was made.
const TIME: FileTime = FileTime(132_444_736_001_234_567);

fn info(attributes: u32) -> FileInfo {
    FileInfo {
        attributes,
        creation_time: TIME,
        last_access_time: TIME,
        last_write_time: TIME,
        change_time: TIME,
    }
}

fn directory(name: &str) -> LayerEntry {
    LayerEntry::new(name.as_bytes().to_vec(), info(FILE_ATTRIBUTE_DIRECTORY))
}

fn file(name: &str) -> LayerEntry {
    LayerEntry::new(name.as_bytes().to_vec(), info(FILE_ATTRIBUTE_ARCHIVE))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Unexpected(format!("a layer for the check cannot be made: {error}"))
}

/// A base layer with a program. No container runs on it.
///
/// # Errors
/// Never, but for what writing to memory could.
pub(crate) fn base() -> Result<Vec<u8>> {
    let content = b"MZ notepad";
    let mut tar = Writer::new(Vec::new());
    tar.write_file(&directory("Files"), &mut io::empty()).map_err(failed)?;
    tar.write_file(&directory("Files/Windows"), &mut io::empty()).map_err(failed)?;
    let program = LayerEntry { size: content.len() as u64, ..file("Files/Windows/notepad.exe") };
    tar.write_file(&program, &mut &content[..]).map_err(failed)?;
    tar.finish().map_err(failed)
}

/// A layer on one that has the file `made`: a link to it, a junction to `C:\Windows`, the file itself
/// deleted.
///
/// # Errors
/// As [`base`].
#[cfg_attr(not(windows), expect(dead_code, reason = "the rows are for Windows"))]
pub(crate) fn delta(made: &str) -> Result<Vec<u8>> {
    let mut tar = Writer::new(Vec::new());
    tar.write_file(&directory("Files"), &mut io::empty()).map_err(failed)?;
    tar.write_link(&file("Files/linked.txt"), format!("Files/{made}").as_bytes()).map_err(failed)?;
    let reparse = wclayer::reparse::encode_go(r"C:\Windows", true).map_err(failed)?;
    let mut stream = wclayer::backup_stream::Writer::new(Vec::new());
    stream.record(wclayer::backup_stream::REPARSE_DATA, &reparse).map_err(failed)?;
    let stream = stream.finish().map_err(failed)?;
    let junction = info(FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT);
    tar.write_backup_stream(br"Files\junction", 0, junction, BackupSource::Forward(&mut &stream[..]))
        .map_err(failed)?;
    tar.write_whiteout(format!(r"Files\{made}").as_bytes()).map_err(failed)?;
    tar.finish().map_err(failed)
}
