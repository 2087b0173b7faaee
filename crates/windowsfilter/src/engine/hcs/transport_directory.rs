//! The transport directory on Windows' file system. It does not contain the utility VM, which is written into
//! the layer itself.

use std::io::{self, BufReader, BufWriter};

use hcs::{BackupTarget, FileStatus, Tree};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::layer_tar::FileInfo;
use wclayer::transport::{Directory, Metadata};

use super::{BUFFER, paths, utility_vm};

const UTILITY_VM: &[u8] = b"UtilityVM";

/// The layer whose utility VM is being made, and the parent it is cloned from.
struct UtilityVm<'a, T> {
    layer: &'a T,
    parent: &'a T,
    is_cloned: bool,
}

/// A transport directory.
pub(super) struct TransportDirectory<'a, T: Tree> {
    files: &'a T,
    utility_vm: Option<UtilityVm<'a, T>>,
}

impl<'a, T: Tree> TransportDirectory<'a, T> {
    /// For an import: files go to `files`, the utility VM into `layer`, cloned from `parent`.
    pub(super) fn for_import(files: &'a T, layer: &'a T, parent: &'a T) -> Self {
        Self { files, utility_vm: Some(UtilityVm { layer, parent, is_cloned: false }) }
    }

    /// A directory that the service exported to `files`.
    pub(super) fn exported(files: &'a T) -> Self {
        Self { files, utility_vm: None }
    }

    /// Creates `Hives` if the layer has none. All makers of Windows layers write it, even empty (Docker's
    /// exports, BuildKit `util/winlayers`, buildpacks `imgutil`), so it is unknown how the service treats a
    /// layer without it.
    pub(super) fn need_hives(&self) -> hcs::Result<()> {
        let name = paths::known("Hives");
        match self.files.status(&name) {
            Err(error) if error.is_not_found() => self.files.make_directory(&name),
            other => other.map(drop),
        }
    }

    /// Whether the layer has a utility VM.
    pub(super) fn has_utility_vm(&self) -> bool {
        self.utility_vm.as_ref().is_some_and(|vm| vm.is_cloned)
    }

    /// The layer, if `path` belongs to its utility VM.
    fn layer_for(&self, path: &[u8]) -> Option<&'a T> {
        let vm = self.utility_vm.as_ref()?;
        (path == UTILITY_VM || paths::is_below(path, UTILITY_VM)).then_some(vm.layer)
    }

    /// Clones the parent's utility VM, unless that is done.
    pub(super) fn need_utility_vm(&mut self) -> io::Result<()> {
        if let Some(vm) = self.utility_vm.as_mut().filter(|vm| !vm.is_cloned) {
            utility_vm::clone(vm.parent, vm.layer).map_err(|error| {
                io::Error::new(error.kind(), format!("cloning the parent's utility VM failed: {error}"))
            })?;
            vm.is_cloned = true;
        }
        Ok(())
    }

    fn check_cloned(&self, path: &[u8]) -> io::Result<()> {
        if self.has_utility_vm() {
            return Ok(());
        }
        let text = format!("{} comes before the directory UtilityVM", String::from_utf8_lossy(path));
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

fn metadata(status: &FileStatus) -> Metadata {
    Metadata {
        info: paths::file_info(&status.info),
        size: status.size,
        is_directory: status.is_directory() && !status.is_reparse_point(),
        link_id: (status.links > 1).then_some(status.id),
    }
}

impl<T: Tree> Directory for TransportDirectory<'_, T> {
    type Source = BufReader<T::File>;
    type BackupSource = BufReader<T::BackupReader>;
    type Sink = BufWriter<T::File>;
    type BackupSink = BufWriter<T::BackupWriter>;

    fn list(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let names = self.files.list(&paths::relative(path)?)?;
        Ok(names.iter().map(|name| wclayer::name::from_utf16(name)).collect())
    }

    fn metadata(&self, path: &[u8]) -> io::Result<Metadata> {
        Ok(metadata(&self.files.status(&paths::relative(path)?)?))
    }

    fn open(&self, path: &[u8]) -> io::Result<Self::Source> {
        Ok(BufReader::with_capacity(BUFFER, self.files.open_file(&paths::relative(path)?)?))
    }

    fn backup_read(&self, path: &[u8]) -> io::Result<Self::BackupSource> {
        Ok(BufReader::with_capacity(BUFFER, self.files.backup_read(&paths::relative(path)?, false)?))
    }

    fn create_directory(&mut self, path: &[u8]) -> io::Result<()> {
        let name = paths::relative(path)?;
        match self.layer_for(path) {
            None => Ok(self.files.make_directory(&name)?),
            Some(_) if path == UTILITY_VM => self.need_utility_vm(),
            Some(layer) => {
                self.check_cloned(path)?;
                utility_vm::make_directory(layer, &name)
            }
        }
    }

    fn create(&mut self, path: &[u8], info: &FileInfo) -> io::Result<Self::Sink> {
        let file = self.files.create_file(&paths::relative(path)?, &paths::basic_info(info))?;
        Ok(BufWriter::with_capacity(BUFFER, file))
    }

    fn backup_write(
        &mut self,
        path: &[u8],
        info: &FileInfo,
        with_security: bool,
    ) -> io::Result<Self::BackupSink> {
        let name = paths::relative(path)?;
        let is_directory = info.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        let tree = match self.layer_for(path) {
            None => self.files,
            Some(layer) => {
                self.check_cloned(path)?;
                if !is_directory {
                    utility_vm::make_room(layer, &name)?;
                }
                layer
            }
        };
        let there = is_directory || tree.status(&name).is_ok_and(|status| status.is_directory());
        let target = if there { BackupTarget::Existing } else { BackupTarget::NewFile };
        let file = tree.backup_write(&name, target, &paths::basic_info(info), with_security)?;
        Ok(BufWriter::with_capacity(BUFFER, file))
    }

    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let name = paths::relative(path)?;
        let tree = self.layer_for(path).unwrap_or(self.files);
        tree.status(&name)?;
        Ok(tree.remove_tree(&name)?)
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        if let (Some(layer), Some(_)) = (self.layer_for(path), self.layer_for(target)) {
            return Ok(layer.link(&paths::relative(path)?, layer, &paths::relative(target)?)?);
        }
        Ok(self.files.link(&paths::relative(path)?, self.files, &paths::relative(target)?)?)
    }
}
