//! A layer on top of others: its files go through a transport directory that the service imports, and what only then can be done is done
//! then: deletions, hard links, directory times, the utility VM.
//!
//! Source: `legacyLayerWriter` in hcsshim `internal/wclayer/legacy.go`, `legacyLayerWriterWrapper.Close` in `importlayer.go`.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use hcs::{Host, RelativePath, Tree};
use wclayer::attributes::FILE_ATTRIBUTE_DIRECTORY;
use wclayer::layer_tar::{LayerEntry, LayerSink};
use wclayer::name;
use wclayer::transport::{Link, Writer};

use super::directory_times::DirectoryTimes;
use super::layer_writer::process_utility_vm;
use super::transport_directory::TransportDirectory;
use super::write_layer::Target;
use super::{descriptors, paths, utility_vm};
use crate::error::Error;

const UTILITY_VM_FILES: &[u8] = b"UtilityVM\\Files";

/// Writes a layer on top of others.
pub(super) struct DeltaWriter<'a, T: Tree> {
    files: Writer<'a, TransportDirectory<'a, T>>,
    layer: &'a T,
    /// Nearest first.
    parents: &'a [T],
    transport: &'a Path,
    directories: DirectoryTimes,
    /// Deletions by folded path, and how many there were when the path was added again.
    added: HashMap<Vec<u8>, usize>,
    deletions: usize,
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
            added: HashMap::new(),
            deletions: 0,
        }
    }

    /// Lets the service import the layer, and does what remains.
    pub(super) fn commit<H: Host<Tree = T>>(mut self, host: &H, target: &Target<'_>) -> Result<(), Error> {
        let transport_error =
            |source: io::Error| Error::Io { action: "write", path: self.transport.to_owned(), source };
        let has_utility_vm = self.files.directory().has_utility_vm();
        let deferred = self.files.finish().map_err(|error| transport_error(error.into()))?;
        for loss in &deferred.losses {
            tracing::warn!("layer {}: {loss}", target.id);
        }
        let fail = |error| target.error(error);
        let links = links(&deferred.links, self.layer, self.parents).map_err(fail)?;
        let parents = descriptors(host, target.parents).map_err(fail)?;
        host.import_layer(target.info, target.id, self.transport, &parents).map_err(fail)?;
        for (number, path) in deferred.tombstones.iter().enumerate() {
            // What the layer deletes and then has is what it has.
            if self.added.get(&name::fold(path)).is_none_or(|&deletions| deletions <= number) {
                remove(self.layer, &paths::relative(path).map_err(fail)?).map_err(fail)?;
            }
        }
        for link in &links {
            remove(self.layer, &link.path).map_err(fail)?;
            self.layer.link(&link.path, link.from, &link.target).map_err(fail)?;
        }
        self.directories.apply(self.layer).map_err(fail)?;
        if has_utility_vm { process_utility_vm(host, self.layer, target) } else { Ok(()) }
    }

    fn note_added(&mut self, path: &[u8]) {
        self.added.insert(name::fold(path), self.deletions);
    }
}

/// A link with the layer that has its file.
struct ResolvedLink<'a, T> {
    path: RelativePath,
    from: &'a T,
    target: RelativePath,
}

/// Finds the file of each link: in this layer, for the utility VM in its clone, otherwise in the nearest parent that has it. The service
/// has imported nothing yet when one cannot be found.
fn links<'a, T: Tree>(
    links: &[Link],
    layer: &'a T,
    parents: &'a [T],
) -> hcs::Result<Vec<ResolvedLink<'a, T>>> {
    let resolve = |link: &Link| {
        let (path, target) = (paths::relative(&link.path)?, paths::relative(&link.target)?);
        let candidates: Vec<&T> = match link.is_in_layer {
            true => return Ok(ResolvedLink { path, from: layer, target }),
            false if paths::is_below(&link.target, UTILITY_VM_FILES) => vec![layer],
            false => parents.iter().collect(),
        };
        for from in candidates {
            match from.status(&target) {
                Ok(_) => return Ok(ResolvedLink { path, from, target }),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let both = format!("{path}, {target}");
        Err(hcs::Error {
            text: "neither the layer nor its parents have the link's file".into(),
            ..hcs::Error::new("link", both, hcs::Code::FILE_NOT_FOUND)
        })
    };
    links.iter().map(resolve).collect()
}

/// Removes what is there, if anything is.
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
            self.files.remove(path)?;
            self.deletions += 1;
            return Ok(());
        }
        // The clone is there to be changed, and what comes later in the tar may put something in the same place.
        self.files.complete()?;
        self.files.directory().need_utility_vm()?;
        utility_vm::remove(self.layer, &paths::relative(&clean)?)
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.files.add_link(path, target)?;
        self.note_added(&paths::clean(path));
        Ok(())
    }

    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()> {
        let clean = paths::clean(path);
        let is_directory = entry.attributes & FILE_ATTRIBUTE_DIRECTORY != 0;
        if is_directory && entry.reparse.is_some() && paths::is_below(&clean, UTILITY_VM_FILES) {
            // A directory with something in it cannot become a reparse point.
            self.files.complete()?;
            self.layer.remove_tree(&paths::relative(&clean)?)?;
        }
        self.files.add(path, entry)?;
        if is_directory {
            self.directories.remember(paths::relative(&clean)?, paths::basic_info(&entry.info()));
        }
        self.note_added(&clean);
        Ok(())
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        self.files.write(stream)
    }
}
