//! A layer without parents: its files are restored where they stay, then the service makes hives and disks from them.
//!
//! Source: hcsshim `internal/wclayer/baselayerwriter.go`.

use std::io::{self, BufWriter, Write};

use hcs::{BackupTarget, Host, Tree};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::layer_tar::{LayerEntry, LayerSink};

use super::directory_times::DirectoryTimes;
use super::layer_writer::process_utility_vm;
use super::paths;
use super::write_layer::Target;
use crate::error::Error;

/// What a layer has. Anything else would lie among the service's own files and ours.
const PARTS: [&[u8]; 3] = [b"Files", b"Hives", b"UtilityVM"];
const UTILITY_VM_FILES: &[u8] = b"UtilityVM\\Files";

/// Bytes that are handed to `BackupWrite` at once.
pub(super) const BUFFER: usize = 64 << 10;

/// What the next bytes belong to.
enum State<W: Write> {
    /// Nothing was added, or a link.
    Between,
    /// The file that was added last.
    Restoring(BufWriter<W>),
}

/// Writes a base layer.
pub(super) struct BaseWriter<'a, T: Tree> {
    layer: &'a T,
    state: State<T::BackupWriter>,
    has_utility_vm: bool,
    directories: DirectoryTimes,
}

impl<'a, T: Tree> BaseWriter<'a, T> {
    pub(super) fn new(layer: &'a T) -> Self {
        Self { layer, state: State::Between, has_utility_vm: false, directories: DirectoryTimes::default() }
    }

    fn complete(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between => Ok(()),
            State::Restoring(mut file) => file.flush(),
        }
    }

    /// Directory times are set last, children first: whatever was put into a directory has changed its own.
    pub(super) fn commit<H: Host<Tree = T>>(mut self, host: &H, target: &Target<'_>) -> Result<(), Error> {
        self.complete().map_err(|source| Error::Io {
            action: "restore a file of",
            path: target.dir(),
            source,
        })?;
        self.directories.apply(self.layer).map_err(|error| target.error(error))?;
        host.process_base_image(&target.dir()).map_err(|error| target.error(error))?;
        if self.has_utility_vm { process_utility_vm(host, self.layer, target) } else { Ok(()) }
    }
}

impl<T: Tree> LayerSink for BaseWriter<'_, T> {
    fn remove(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a layer without parents has nothing to delete"))
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.complete()?;
        let (path, target) = (part_of_layer(path)?, part_of_layer(target)?);
        Ok(self.layer.link(&paths::relative(&path)?, self.layer, &paths::relative(&target)?)?)
    }

    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()> {
        self.complete()?;
        let path = part_of_layer(path)?;
        self.has_utility_vm |= path == UTILITY_VM_FILES;
        let name = paths::relative(&path)?;
        let info = paths::basic_info(&entry.info());
        let is_directory = entry.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        let target = if is_directory { BackupTarget::NewDirectory } else { BackupTarget::NewFile };
        let file = self.layer.backup_write(&name, target, &info, true)?;
        if is_directory {
            self.directories.remember(name, info);
        }
        self.state = State::Restoring(BufWriter::with_capacity(BUFFER, file));
        Ok(())
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Between => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "no file was added before its data"))
            }
            State::Restoring(file) => file.write_all(stream),
        }
    }
}

/// The clean path, if it is in a part of a layer.
pub(super) fn part_of_layer(path: &[u8]) -> io::Result<Vec<u8>> {
    let path = paths::clean(path);
    if PARTS.iter().any(|part| path == *part || paths::is_below(&path, part)) {
        return Ok(path);
    }
    let text = format!("{} is not in Files, Hives or UtilityVM", String::from_utf8_lossy(&path));
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
