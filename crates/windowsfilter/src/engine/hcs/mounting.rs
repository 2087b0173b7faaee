//! Showing layers (`Get` and `Put` of the original).

use std::path::PathBuf;
use std::time::Duration;

use hcs::{Code, Host, LayerDescriptor};

use super::{ForLayer, Hcs, paths};
use crate::engine::{Layer, Place};
use crate::error::Error;
use crate::id::LayerId;
use crate::lock;

/// How often mounting is tried when the disk is not there yet. Source: hcsshim `internal/layers/wcow_mount.go`.
const ATTEMPTS: u32 = 5;
/// How long to wait before the next attempt. Same source.
const PAUSE: Duration = Duration::from_millis(100);

/// What happens under load on Windows Server 2019 although nothing is wrong. Same source.
fn is_not_ready(error: &hcs::Error) -> bool {
    matches!(error.code, Code::NOT_READY | Code::DEVICE_NOT_CONNECTED)
}

impl<H: Host> Hcs<H> {
    pub(super) fn activate_layer(&self, id: &LayerId) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            match self.host.activate_layer(&self.info, id.as_str()) {
                Err(error) if is_not_ready(&error) && attempt < ATTEMPTS => self.wait(id, &error),
                other => return other.for_layer(id),
            }
            attempt += 1;
        }
    }

    /// Prepares an active layer. Another attempt starts from the beginning: the layer is taken off and put on again.
    pub(super) fn prepare_layer(&self, layer: &Layer) -> Result<(), Error> {
        let id = &layer.place.id;
        let parents = self.chain_descriptors(layer)?;
        let mut attempt = 1;
        loop {
            match self.prepare_alone(id, &parents)? {
                Err(error) if is_not_ready(&error) && attempt < ATTEMPTS => {
                    self.host.deactivate_layer(&self.info, id.as_str()).for_layer(id)?;
                    self.wait(id, &error);
                    self.activate_layer(id)?;
                }
                other => return other.for_layer(id),
            }
            attempt += 1;
        }
    }

    /// Calls that overlap time out (hcsshim `internal/wclayer/preparelayer.go`), those of other processes too.
    fn prepare_alone(&self, id: &LayerId, parents: &[LayerDescriptor]) -> Result<hcs::Result<()>, Error> {
        let _alone = lock::exclusive(&self.prepare_lock, "preparing a layer")?;
        Ok(self.host.prepare_layer(&self.info, id.as_str(), parents))
    }

    fn wait(&self, id: &LayerId, error: &hcs::Error) {
        tracing::warn!("layer {id}: {error}; trying again");
        self.host.pause(PAUSE);
    }

    /// The volume of a mounted sandbox; a read-only layer's directory, which is also where the service says that it is.
    pub(super) fn layer_mount_path(&self, id: &LayerId) -> Result<PathBuf, Error> {
        let path = self.host.layer_mount_path(&self.info, id.as_str()).for_layer(id)?;
        Ok(path.unwrap_or_else(|| paths::plain(&self.info.layer(id.as_str()))))
    }

    /// What a process that died has left is taken off. The service refuses what is not on, and cannot be asked.
    pub(super) fn reset_layer(&self, place: &Place) {
        let id = place.id.as_str();
        for result in [self.host.unprepare_layer(&self.info, id), self.host.deactivate_layer(&self.info, id)]
        {
            if let Err(error) = result {
                tracing::debug!("layer {id} was not mounted any more: {error}");
            }
        }
    }
}
