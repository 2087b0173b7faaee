//! Writes a layer's tar into a layer of the service: a base layer or one on top of others.

use std::io;
use std::path::Path;

use hcs::Host;
use wclayer::layer_tar::{LayerEntry, LayerSink, import};
use wclayer::name;
use wclayer::tar::type_flag;

use super::base_writer::BaseWriter;
use super::boot_store::BootStoreBackup;
use super::delta_writer::DeltaWriter;
use super::paths;
use super::target::Target;
use super::transport_directory::TransportDirectory;
use crate::error::Error;

/// The two ways in which a layer is written.
enum Way<'a, H: Host> {
    /// Directly into its directory.
    Base(BaseWriter<'a, H::Tree>),
    /// Through a transport directory that the service imports.
    Delta(Box<DeltaWriter<'a, H::Tree>>),
}

/// Writes a layer. If it is dropped before the layer is complete, the service does not finish the layer.
pub(super) struct LayerWriter<'a, H: Host> {
    host: &'a H,
    way: Way<'a, H>,
    boot_store: BootStoreBackup<'a, H::Tree>,
    /// Whether the bytes of the last added entry are discarded.
    passes_over: bool,
}

impl<'a, H: Host> LayerWriter<'a, H> {
    /// For a layer without parents.
    pub(super) fn base(host: &'a H, layer: &'a H::Tree) -> Self {
        Self::new(host, Way::Base(BaseWriter::new(layer)), layer)
    }

    /// For a layer on top of `parents`, nearest first; `directory` is the one at `transport`.
    pub(super) fn delta(
        host: &'a H,
        directory: &'a mut TransportDirectory<'a, H::Tree>,
        layer: &'a H::Tree,
        parents: &'a [H::Tree],
        transport: &'a Path,
    ) -> Self {
        let way = Way::Delta(Box::new(DeltaWriter::new(directory, layer, parents, transport)));
        Self::new(host, way, layer)
    }

    fn new(host: &'a H, way: Way<'a, H>, layer: &'a H::Tree) -> Self {
        Self { host, way, boot_store: BootStoreBackup::new(layer), passes_over: false }
    }

    /// Writes the whole tar and has the service finish the layer. Returns the total size of its files in
    /// bytes.
    pub(super) fn write(mut self, tar: impl io::BufRead, target: &Target<'_>) -> Result<u64, Error> {
        let imported = import(tar, &mut self)?;
        for loss in &imported.losses {
            tracing::warn!("layer {}: {loss}", target.id);
        }
        self.boot_store.end().map_err(|source| Error::Io {
            action: "back up the boot store of",
            path: target.dir(),
            source,
        })?;
        match self.way {
            Way::Base(writer) => writer.commit(self.host, target),
            Way::Delta(writer) => writer.commit(self.host, target),
        }?;
        Ok(imported.total_size)
    }

    fn sink(&mut self) -> &mut dyn LayerSink {
        match &mut self.way {
            Way::Base(writer) => writer,
            Way::Delta(writer) => &mut **writer,
        }
    }
}

impl<H: Host> LayerSink for LayerWriter<'_, H> {
    fn remove(&mut self, path: &[u8]) -> io::Result<()> {
        self.boot_store.end()?;
        self.sink().remove(&layer_path(path))
    }

    fn add_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.boot_store.end()?;
        self.sink().add_link(&layer_path(path), &layer_path(target))
    }

    fn add(&mut self, path: &[u8], entry: &LayerEntry) -> io::Result<()> {
        self.boot_store.end()?;
        let path = layer_path(path);
        // A global header, or the directory that contains the layer's own, is not part of the layer.
        if entry.type_flag == type_flag::GLOBAL || is_top(&path) {
            self.passes_over = true;
            return Ok(());
        }
        // The tar reader does not recognize a deletion with backslashes in its name and treats it as a file.
        let deleted = deleted_path(&path);
        self.passes_over = deleted.is_some();
        if let Some(deleted) = deleted {
            return self.sink().remove(&deleted);
        }
        self.sink().add(&path, entry)?;
        self.boot_store.begin(&path)
    }

    fn write(&mut self, stream: &[u8]) -> io::Result<()> {
        if self.passes_over {
            return Ok(());
        }
        self.sink().write(stream)?;
        self.boot_store.write(stream)
    }
}

/// A path with the names of a layer's top directories in the case that the service expects. Like the portable
/// engine, accepts them in any case.
fn layer_path(path: &[u8]) -> Vec<u8> {
    let mut path = paths::clean(path);
    for known in [&b"Files"[..], b"Hives", b"UtilityVM\\Files", b"UtilityVM"] {
        let (start, rest) = path.split_at(known.len().min(path.len()));
        if name::eq(start, known) && rest.first().is_none_or(|&byte| byte == b'\\') {
            path[..known.len()].copy_from_slice(known);
            break;
        }
    }
    path
}

/// Whether a clean path is the root of the layer: `./` in the tars of some builders.
fn is_top(path: &[u8]) -> bool {
    matches!(path, b"" | b"." | b"\\")
}

/// The path that a name starting with `.wh.` deletes; `None` for other names.
fn deleted_path(path: &[u8]) -> Option<Vec<u8>> {
    let start = path.iter().rposition(|&byte| byte == b'\\').map_or(0, |at| at + 1);
    let deleted = path[start..].strip_prefix(b".wh.")?;
    Some([&path[..start], deleted].concat())
}
