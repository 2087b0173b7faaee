//! Creating layers and sandboxes (`create` of the original).

use hcs::Host;

use super::{ForLayer, Hcs, scanners};
use crate::engine::Layer;
use crate::error::Error;
use crate::id::LayerId;
use crate::store::file;

impl<H: Host> Hcs<H> {
    /// Creates an empty read-only layer. Asks for its parent's path first, so that nothing is created if that
    /// fails.
    pub(super) fn create_layer(&self, layer: &Layer, parent: Option<&LayerId>) -> Result<(), Error> {
        let id = &layer.place.id;
        self.asked_parents(id, &layer.chain)?;
        self.host.create_layer(&self.info, id.as_str(), parent.map_or("", LayerId::as_str)).for_layer(id)
    }

    /// Creates a sandbox of `size` bytes; 0 means the service's default. If it cannot be expanded, it is
    /// destroyed; the original leaves it behind.
    pub(super) fn create_sandbox_layer(&self, sandbox: &Layer, size: u64) -> Result<(), Error> {
        let id = &sandbox.place.id;
        let parents = self.descriptors(id, &self.asked_parents(id, &sandbox.chain)?)?;
        self.host.create_sandbox_layer(&self.info, id.as_str(), &parents).for_layer(id)?;
        if size == 0 {
            return Ok(());
        }
        self.expand_sandbox(id, size).map_err(|error| error.with_undo(self.destroy_layer(id.as_str())))
    }

    /// Expands a sandbox's disk, then its volume: mounting expands the volume only for some kinds of layers
    /// (hcsshim `internal/wclayer/expandscratchsize.go`).
    pub(super) fn expand_sandbox(&self, id: &LayerId, size: u64) -> Result<(), Error> {
        self.host.expand_sandbox_size(&self.info, id.as_str(), size).for_layer(id)?;
        let disk = self.info.layer(id.as_str()).join(file::WINDOWS_DISK);
        // Attached until the end of this function.
        let _attached = self.host.attach_virtual_disk(&disk).for_layer(id)?;
        match self.host.layer_mount_path(&self.info, id.as_str()).for_layer(id)? {
            Some(volume) => self.host.extend_volume(&volume).for_layer(id),
            None => Err(Error::Hcs {
                id: id.to_string(),
                error: hcs::Error::invalid(
                    "GetLayerMountPath",
                    disk.display().to_string(),
                    "it gave no path of the sandbox's volume",
                ),
            }),
        }
    }

    /// Destroys a layer by the name of its directory.
    pub(super) fn destroy_layer(&self, name: &str) -> Result<(), Error> {
        let destroy = || self.host.destroy_layer(&self.info, name);
        scanners::outlast(&*self.host, &format!("layer {name}"), destroy)
            .map_err(|error| Error::Hcs { id: name.to_owned(), error })
    }
}
