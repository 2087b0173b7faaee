//! Writes a layer without parents. Its files are restored at their final paths, then the service makes hives
//! and disks from them.
//!
//! Source: hcsshim `internal/wclayer/baselayerwriter.go`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use hcs::{BackupTarget, Host, RelativePath, Tree};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::layer_tar::{LayerEntry, LayerSink};
use wclayer::name;

use super::directory_times::DirectoryTimes;
use super::target::Target;
use super::{BUFFER, paths, utility_vm};
use crate::error::Error;

/// The directories that a layer may have. Anything else would mix with the service's files and ours.
const PARTS: [&[u8]; 3] = [b"Files", b"Hives", b"UtilityVM"];
const UTILITY_VM_FILES: &[u8] = b"UtilityVM\\Files";

/// The file that the next bytes belong to.
enum State<W: Write> {
    /// No file: nothing was added yet, or a link.
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
    /// Added entries, by folded path.
    added: BTreeMap<Vec<u8>, Added>,
    /// Links whose target has not come in the tar yet: path and target, by folded path.
    open_links: BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
}

/// The kind of an added entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    File,
    Directory,
    /// A directory that is a reparse point, so it has no entries.
    ReparseDirectory,
}

impl<'a, T: Tree> BaseWriter<'a, T> {
    pub(super) fn new(layer: &'a T) -> Self {
        Self {
            layer,
            state: State::Between,
            has_utility_vm: false,
            directories: DirectoryTimes::default(),
            added: BTreeMap::new(),
            open_links: BTreeMap::new(),
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between => Ok(()),
            State::Restoring(mut file) => file.flush(),
        }
    }

    /// Makes room for an entry: a later entry replaces an earlier one of the same path, whose other hard
    /// links keep their content. A directory that stays a directory is kept; then returns true.
    fn make_room(&mut self, path: &[u8], name: &RelativePath, added: Added) -> hcs::Result<bool> {
        let key = name::fold(path);
        self.open_links.remove(&key);
        match self.added.insert(key.clone(), added) {
            None => return Ok(false),
            Some(Added::Directory) if added == Added::Directory => return Ok(true),
            Some(Added::Directory) => {
                forget_below(&mut self.added, &key);
                forget_below(&mut self.open_links, &key);
            }
            Some(Added::File | Added::ReparseDirectory) => {}
        }
        self.layer.remove_tree(name)?;
        Ok(false)
    }

    /// Makes the links whose targets came later. In a chain of links, starts with the one that is nearest to
    /// the file.
    fn close_links(&mut self) -> hcs::Result<()> {
        let mut open = std::mem::take(&mut self.open_links);
        while let Some(first) = open.keys().next().cloned() {
            let mut chain = vec![first];
            while let Some((path, target)) = open.get(&chain[chain.len() - 1]) {
                let next = name::fold(target);
                if !open.contains_key(&next) {
                    break;
                }
                if chain.len() > open.len() {
                    let both =
                        format!("{}, {}", String::from_utf8_lossy(path), String::from_utf8_lossy(target));
                    let error = hcs::Error::new("link", both, hcs::Code::FILE_NOT_FOUND);
                    return Err(hcs::Error { text: "the link leads back to itself".into(), ..error });
                }
                chain.push(next);
            }
            for (path, target) in chain.iter().rev().filter_map(|key| open.remove(key)) {
                self.link(&path, &target)?;
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> hcs::Result<()> {
        let (name, target_name) = (paths::relative(path)?, paths::relative(target)?);
        if !paths::is_below(&name::fold(target), &name::fold(path)) {
            self.make_room(path, &name, Added::File)?;
            return self.layer.link(&name, self.layer, &target_name);
        }
        // The target is inside the directory that the link replaces, so link it aside before removing the
        // directory.
        let aside = paths::relative(&[path, b".$wcikept$"].concat())?;
        self.layer.link(&aside, self.layer, &target_name)?;
        self.make_room(path, &name, Added::File)?;
        self.layer.link(&name, self.layer, &aside)?;
        self.layer.remove(&aside)
    }

    /// Sets directory times last, children first, because adding an entry changes the directory's times.
    pub(super) fn commit<H: Host<Tree = T>>(mut self, host: &H, target: &Target<'_>) -> Result<(), Error> {
        self.complete().map_err(|source| Error::Io {
            action: "restore a file of",
            path: target.dir(),
            source,
        })?;
        self.close_links().map_err(|error| target.error(error))?;
        let is_directory = |path: &RelativePath| {
            let added = self.added.get(&name::fold(&paths::bytes(path)));
            added.is_some_and(|added| *added != Added::File)
        };
        self.directories.retain(is_directory);
        self.directories.apply(self.layer).map_err(|error| target.error(error))?;
        host.process_base_image(&target.dir()).map_err(|error| target.error(error))?;
        if self.has_utility_vm { utility_vm::process(host, self.layer, target) } else { Ok(()) }
    }
}

impl<T: Tree> LayerSink for BaseWriter<'_, T> {
    fn remove(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a layer without parents has nothing to delete"))
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.complete()?;
        let (path, mut target) = (part_of_layer(path)?, part_of_layer(target)?);
        // A link to an open link gets that link's target.
        if let Some((_, its_target)) = self.open_links.get(&name::fold(&target)) {
            target.clone_from(its_target);
        }
        // A directory at this path is either replaced by a file later, or is not a valid target: keep the
        // link open.
        let added = self.added.get(&name::fold(&target));
        if added.is_some_and(|added| *added != Added::Directory) {
            return if name::eq(&path, &target) { Ok(()) } else { Ok(self.link(&path, &target)?) };
        }
        let name = paths::relative(&path)?;
        if self.added.contains_key(&name::fold(&path)) {
            self.make_room(&path, &name, Added::File)?;
            self.added.remove(&name::fold(&path));
        }
        self.open_links.insert(name::fold(&path), (path, target));
        Ok(())
    }

    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()> {
        self.complete()?;
        let path = part_of_layer(path)?;
        self.has_utility_vm |= path == UTILITY_VM_FILES;
        let name = paths::relative(&path)?;
        let info = paths::basic_info(&entry.info());
        let is_directory = entry.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        let added = match (is_directory, &entry.reparse) {
            (true, None) => Added::Directory,
            (true, Some(_)) => Added::ReparseDirectory,
            (false, _) => Added::File,
        };
        let target = match self.make_room(&path, &name, added)? {
            true => BackupTarget::Existing,
            false if is_directory => BackupTarget::NewDirectory,
            false => BackupTarget::NewFile,
        };
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

/// Removes the entries below a directory from the map.
fn forget_below<V>(names: &mut BTreeMap<Vec<u8>, V>, directory: &[u8]) {
    let below = [directory, b"\\"].concat();
    let keys = names.range(below.clone()..).map(|(key, _)| key).take_while(|key| key.starts_with(&below));
    for key in keys.cloned().collect::<Vec<_>>() {
        names.remove(&key);
    }
}

/// The clean path, if it is in `Files`, `Hives` or `UtilityVM`.
pub(super) fn part_of_layer(path: &[u8]) -> io::Result<Vec<u8>> {
    let path = paths::clean(path);
    if PARTS.iter().any(|part| path == *part || paths::is_below(&path, part)) {
        return Ok(path);
    }
    let text = format!("{} is not in Files, Hives or UtilityVM", String::from_utf8_lossy(&path));
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
