//! Layers made for the check.

use std::io;

use wclayer::attributes::{FILE_ATTRIBUTE_ARCHIVE, FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT};
use wclayer::filetime::FileTime;
use wclayer::layer_tar::{BackupSource, FileInfo, LayerEntry, Writer};

use programs::error::{Error, Result};

/// The time of everything in them.
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

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Unexpected(format!("a layer for the check cannot be made: {error}"))
}

/// A layer tar, entry by entry. Each has `Hives`, as with all builders of Windows layers.
struct Tar(Writer<Vec<u8>>);

impl Tar {
    fn new() -> Result<Self> {
        Self(Writer::new(Vec::new())).directory("Hives")?.directory("Files")
    }

    fn directory(mut self, name: &str) -> Result<Self> {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), info(FILE_ATTRIBUTE_DIRECTORY));
        self.0.write_file(&entry, &mut io::empty()).map_err(failed)?;
        Ok(self)
    }

    fn file(mut self, name: &str, content: &[u8]) -> Result<Self> {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), info(FILE_ATTRIBUTE_ARCHIVE));
        let entry = LayerEntry { size: content.len() as u64, ..entry };
        self.0.write_file(&entry, &mut &content[..]).map_err(failed)?;
        Ok(self)
    }

    fn link(mut self, name: &str, target: &str) -> Result<Self> {
        let entry = LayerEntry::new(name.as_bytes().to_vec(), info(FILE_ATTRIBUTE_ARCHIVE));
        self.0.write_link(&entry, target.as_bytes()).map_err(failed)?;
        Ok(self)
    }

    fn junction(mut self, path: &str, target: &str) -> Result<Self> {
        let reparse = wclayer::reparse::encode_go(target, true).map_err(failed)?;
        let mut stream = wclayer::backup_stream::Writer::new(Vec::new());
        stream.record(wclayer::backup_stream::REPARSE_DATA, &reparse).map_err(failed)?;
        let stream = stream.finish().map_err(failed)?;
        let junction = info(FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT);
        self.0
            .write_backup_stream(path.as_bytes(), 0, junction, BackupSource::Forward(&mut &stream[..]))
            .map_err(failed)?;
        Ok(self)
    }

    fn deletion(mut self, path: &str) -> Result<Self> {
        self.0.write_whiteout(path.as_bytes()).map_err(failed)?;
        Ok(self)
    }

    fn finish(self) -> Result<Vec<u8>> {
        self.0.finish().map_err(failed)
    }
}

/// A base layer with a program and a utility VM. It cannot run a container.
///
/// # Errors
/// Never: writing to memory does not fail. The same holds for the functions below.
pub fn base() -> Result<Vec<u8>> {
    Tar::new()?
        .directory("Files/Windows")?
        .file("Files/Windows/notepad.exe", b"MZ notepad")?
        .directory("UtilityVM")?
        .directory("UtilityVM/Files")?
        .directory("UtilityVM/Files/EFI")?
        .directory("UtilityVM/Files/EFI/Microsoft")?
        .directory("UtilityVM/Files/EFI/Microsoft/Boot")?
        .file("UtilityVM/Files/EFI/Microsoft/Boot/BCD", b"regf boot store")?
        .file("UtilityVM/Files/kernel.exe", b"MZ kernel")?
        .finish()
}

/// A layer on top of one with the file `made`: a link to it, a junction to `C:\Windows`, and the deletion
/// of the file.
///
/// # Errors
/// Like [`base`].
#[cfg_attr(not(windows), expect(dead_code, reason = "the rows are for Windows"))]
pub(crate) fn delta(made: &str) -> Result<Vec<u8>> {
    Tar::new()?
        .link("Files/linked.txt", &format!("Files/{made}"))?
        .junction(r"Files\junction", r"C:\Windows")?
        .deletion(&format!(r"Files\{made}"))?
        .finish()
}

/// A layer with one file of `size` bytes.
///
/// # Errors
/// Like [`base`].
#[cfg_attr(not(windows), expect(dead_code, reason = "the rows are for Windows"))]
pub(crate) fn one_file(name: &str, size: usize) -> Result<Vec<u8>> {
    Tar::new()?.file(name, &vec![b'x'; size])?.finish()
}

/// A file and a directory with a file, for a sandbox to delete.
///
/// # Errors
/// Like [`base`].
#[cfg_attr(not(windows), expect(dead_code, reason = "the rows are for Windows"))]
pub(crate) fn doomed() -> Result<Vec<u8>> {
    Tar::new()?
        .file("Files/doomed.txt", b"goes")?
        .directory("Files/doomed")?
        .file("Files/doomed/inside.txt", b"goes with it")?
        .file("Files/stays.txt", b"stays")?
        .finish()
}

/// A layer that adds a file to its parents' utility VM.
///
/// # Errors
/// Like [`base`].
#[cfg_attr(not(windows), expect(dead_code, reason = "the rows are for Windows"))]
pub(crate) fn utility_vm(name: &str) -> Result<Vec<u8>> {
    Tar::new()?
        .directory("UtilityVM")?
        .directory("UtilityVM/Files")?
        .file(&format!("UtilityVM/Files/{name}"), b"added")?
        .finish()
}

/// A layer with a path of more than 300 characters, and that path's tar name.
///
/// # Errors
/// Like [`base`].
#[cfg_attr(not(any(windows, test)), expect(dead_code, reason = "the rows are for Windows"))]
pub(crate) fn deep() -> Result<(Vec<u8>, String)> {
    let mut path = "Files".to_owned();
    let mut tar = Tar::new()?;
    while path.len() < 300 {
        path.push_str("/node_modules_of_some_package");
        tar = tar.directory(&path)?;
    }
    let file = format!("{path}/index.js");
    Ok((tar.file(&file, b"deep")?.finish()?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_hives_and_the_deep_one_is_deep() {
        let (deep, name) = deep().unwrap();
        assert!(name.len() > 300);
        for tar in [base().unwrap(), deep] {
            let mut reader = wclayer::tar::Reader::new(&tar[..]);
            let mut names = Vec::new();
            while let Some(header) = reader.next().unwrap() {
                names.push(String::from_utf8_lossy(&header.name).into_owned());
            }
            assert!(names.contains(&"Hives".to_owned()), "{names:?}");
        }
    }
}
