//! Writes a layer on top of others. Its files go through a transport directory that the service imports.
//! After the import come deletions, hard links, directory times and the processing of the utility VM.
//!
//! The rules are those of `docs/formats.md`, "What a layer means", as for the portable engine. The service
//! adds the parents' files to the layer's own, so the parents' files that the layer hides are removed after
//! the import. A deletion of a directory that the layer also has, and an opaque directory, hide everything in
//! the directory that the layer has not added.
//!
//! Source: `legacyLayerWriter` in hcsshim `internal/wclayer/legacy.go`, `legacyLayerWriterWrapper.Close` in
//! `importlayer.go`.

mod links;

use std::io;
use std::path::Path;

use hcs::{Host, RelativePath, Tree};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::layer_tar::{LayerEntry, LayerSink};
use wclayer::transport::{AddedNames, Writer};

use super::directory_times::DirectoryTimes;
use super::target::Target;
use super::transport_directory::TransportDirectory;
use super::{descriptors, paths, utility_vm};
use crate::error::Error;

const UTILITY_VM_FILES: &[u8] = b"UtilityVM\\Files";
/// The end of the name of an opaque directory's marker, after its `.wh.` prefix is removed.
const OPAQUE: &[u8] = b"\\.wh..opq";

/// Writes a layer on top of others.
pub(super) struct DeltaWriter<'a, T: Tree> {
    files: Writer<'a, TransportDirectory<'a, T>>,
    layer: &'a T,
    /// Nearest first.
    parents: &'a [T],
    transport: &'a Path,
    directories: DirectoryTimes,
}

impl<'a, T: Tree> DeltaWriter<'a, T> {
    pub(super) fn new(
        directory: &'a mut TransportDirectory<'a, T>,
        layer: &'a T,
        parents: &'a [T],
        transport: &'a Path,
    ) -> Self {
        Self {
            files: Writer::new(directory),
            layer,
            parents,
            transport,
            directories: DirectoryTimes::default(),
        }
    }

    /// Has the service import the layer, then applies deletions, links and directory times, and has the
    /// utility VM processed.
    pub(super) fn commit<H: Host<Tree = T>>(mut self, host: &H, target: &Target<'_>) -> Result<(), Error> {
        let transport_error =
            |source: io::Error| Error::Io { action: "write", path: self.transport.to_owned(), source };
        let has_utility_vm = self.files.directory().has_utility_vm();
        self.files.directory().need_hives().map_err(|error| target.error(error))?;
        let deferred = self.files.finish().map_err(|error| transport_error(error.into()))?;
        for loss in &deferred.losses {
            tracing::warn!("layer {}: {loss}", target.id);
        }
        let fail = |error| target.error(error);
        let links = links::resolve(&deferred.links, self.layer, self.parents).map_err(fail)?;
        let parents = descriptors(host, target.parents).map_err(fail)?;
        host.import_layer(target.info, target.id, self.transport, &parents).map_err(fail)?;
        for path in &deferred.tombstones {
            delete(self.layer, path, &deferred.added).map_err(fail)?;
        }
        for link in &links {
            remove(self.layer, &link.path).map_err(fail)?;
            self.layer.link(&link.path, link.from, &link.target).map_err(fail)?;
        }
        self.directories.retain(|path| deferred.added.is_any_directory(&paths::bytes(path)));
        self.directories.apply(self.layer).map_err(fail)?;
        if has_utility_vm { utility_vm::process(host, self.layer, target) } else { Ok(()) }
    }
}

/// Deletes what the parents have at a path, and nothing that the layer itself has.
fn delete<T: Tree>(layer: &T, path: &[u8], added: &AddedNames) -> hcs::Result<()> {
    if let Some(directory) = path.strip_suffix(OPAQUE) {
        // A file of the layer has replaced the whole directory.
        let is_replaced = added.is_directory(directory) == Some(false);
        return if is_replaced { Ok(()) } else { hide(layer, directory, added) };
    }
    match added.is_directory(path) {
        // Only Windows knows whether a parent's directory is really empty.
        None => match remove(layer, &paths::relative(path)?) {
            Err(error) if error.is_not_empty() => layer.remove_tree(&paths::relative(path)?),
            other => other,
        },
        Some(true) => hide(layer, path, added),
        Some(false) => Ok(()),
    }
}

/// Removes everything in a directory that the layer does not have, also in subdirectories that it has.
fn hide<T: Tree>(layer: &T, directory: &[u8], added: &AddedNames) -> hcs::Result<()> {
    let mut directories = vec![directory.to_vec()];
    while let Some(directory) = directories.pop() {
        let names = match layer.list(&paths::relative(&directory)?) {
            Err(error) if error.is_not_found() => continue,
            other => other?,
        };
        for name in names {
            let path = [&directory[..], b"\\", &wclayer::name::from_utf16(&name)].concat();
            match added.is_directory(&path) {
                None => layer.remove_tree(&paths::relative(&path)?)?,
                Some(true) => directories.push(path),
                Some(false) => {}
            }
        }
    }
    Ok(())
}

/// Removes `path`; no-op if it does not exist.
fn remove<T: Tree>(layer: &T, path: &RelativePath) -> hcs::Result<()> {
    match layer.remove(path) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

impl<T: Tree> LayerSink for DeltaWriter<'_, T> {
    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        let clean = paths::clean(path);
        if !paths::is_below(&clean, UTILITY_VM_FILES) {
            return self.files.remove(path);
        }
        // Delete from the clone at once: a later entry of the tar may create the same path.
        self.files.complete()?;
        self.files.directory().need_utility_vm()?;
        let added = self.files.added();
        if clean.ends_with(OPAQUE) || added.is_directory(&clean).is_some() {
            return Ok(delete(self.layer, &clean, added)?);
        }
        utility_vm::remove(self.layer, &paths::relative(&clean)?)
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.files.add_link(path, target)
    }

    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()> {
        let clean = paths::clean(path);
        let is_directory = entry.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        if is_directory && entry.reparse.is_some() && paths::is_below(&clean, UTILITY_VM_FILES) {
            // A directory that is not empty cannot become a reparse point.
            self.files.complete()?;
            self.layer.remove_tree(&paths::relative(&clean)?)?;
        }
        self.files.add(path, entry)?;
        if is_directory {
            self.directories.remember(paths::relative(&clean)?, paths::basic_info(&entry.info()));
        }
        Ok(())
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        self.files.write(stream)
    }
}
