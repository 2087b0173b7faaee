//! Mounting layers (`Get` and `Put` of the original), and taking the filter off a mounted layer while it is
//! read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hcs::{Code, Host, LayerDescriptor};

use super::{ForLayer, Hcs, paths};
use crate::engine::{Layer, Place};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::lock;

/// Number of attempts to mount while the disk is not ready. Source: hcsshim `internal/layers/wcow_mount.go`.
const ATTEMPTS: u32 = 5;
/// Pause before the next attempt. Same source.
const PAUSE: Duration = Duration::from_millis(100);

/// A mark that exists while the filter is off a mounted layer, until the filter is back on. A process may die
/// or fail in between: the mark then tells the next one that the mount does not work.
pub(super) fn filter_is_off(place: &Place) -> PathBuf {
    place.mounts.join("filter-is-off")
}

/// Errors that occur under load on Windows Server 2019 although nothing is wrong. Same source.
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

    /// Prepares an active layer. Before each retry, the layer is deactivated and activated again.
    pub(super) fn prepare_layer(&self, layer: &Layer) -> Result<(), Error> {
        let id = &layer.place.id;
        let parents = self.chain_descriptors(layer)?;
        let mut attempt = 1;
        loop {
            match self.prepare_alone(id, &parents)? {
                Err(error) if is_not_ready(&error) && attempt < ATTEMPTS => {
                    let again = self.take_off_and_on(id, &error);
                    if again.is_err() {
                        return Err(Error::Hcs { id: id.to_string(), error }.with_undo(again));
                    }
                }
                other => return other.for_layer(id),
            }
            attempt += 1;
        }
    }

    fn take_off_and_on(&self, id: &LayerId, error: &hcs::Error) -> Result<(), Error> {
        self.host.deactivate_layer(&self.info, id.as_str()).for_layer(id)?;
        self.wait(id, error);
        self.activate_layer(id)
    }

    /// Prepares the layer under a lock, because overlapping calls time out (hcsshim
    /// `internal/wclayer/preparelayer.go`), also across processes.
    fn prepare_alone(&self, id: &LayerId, parents: &[LayerDescriptor]) -> Result<hcs::Result<()>, Error> {
        let _alone = lock::exclusive(&self.prepare_lock, "preparing a layer", self.temporaries.cancel())?;
        Ok(self.host.prepare_layer(&self.info, id.as_str(), parents))
    }

    fn wait(&self, id: &LayerId, error: &hcs::Error) {
        tracing::warn!("layer {id}: {error}; trying again");
        self.host.pause(PAUSE);
    }

    /// The volume of a mounted sandbox, or a read-only layer's directory, which is also the service's answer.
    /// Either can be opened as a directory: the service names a volume without the final backslash of its
    /// root, so it is added (as in moby `daemon/oci_windows.go`).
    pub(super) fn layer_mount_path(&self, id: &LayerId) -> Result<PathBuf, Error> {
        let path = self.host.layer_mount_path(&self.info, id.as_str()).for_layer(id)?;
        let path = path.unwrap_or_else(|| paths::plain(&self.info.layer(id.as_str())));
        Ok(paths::directory(&path))
    }

    /// Whether a path that was returned for a mounted layer is still a directory.
    pub(super) fn is_shown(&self, path: &Path) -> Result<bool, Error> {
        let gone = |error| Error::Hcs { id: path.display().to_string(), error };
        self.host.is_directory(&paths::directory(path)).map_err(gone)
    }

    /// Takes the filter off a mounted layer, so that it can be read.
    pub(super) fn take_filter_off(&self, place: &Place) -> Result<(), Error> {
        let mark = filter_is_off(place);
        if mark.exists() {
            // Left by an earlier reader: the filter may be on or off.
            return self.unprepare_active(place);
        }
        fs::write(&mark, "").at("write", &mark)?;
        self.host
            .unprepare_layer(&self.info, place.id.as_str())
            .for_layer(&place.id)
            .map_err(|error| error.with_undo(fs::remove_file(&mark).at("remove", &mark)))
    }

    /// Undoes [`Self::take_filter_off`].
    pub(super) fn put_filter_on_again(&self, layer: &Layer) -> Result<(), Error> {
        self.prepare_layer(layer)?;
        let mark = filter_is_off(&layer.place);
        fs::remove_file(&mark).at("remove", &mark)
    }

    /// Prepares an active layer. One that was left without its filter is mounted from scratch, since its
    /// state is unknown.
    pub(super) fn prepare_active(&self, layer: &Layer) -> Result<(), Error> {
        if !filter_is_off(&layer.place).exists() {
            return self.prepare_layer(layer);
        }
        self.reset_layer(&layer.place);
        self.activate_layer(&layer.place.id)?;
        self.put_filter_on_again(layer)
    }

    pub(super) fn unprepare_active(&self, place: &Place) -> Result<(), Error> {
        match self.host.unprepare_layer(&self.info, place.id.as_str()) {
            Err(error) if filter_is_off(place).exists() => {
                tracing::debug!("layer {} had no filter any more: {error}", place.id);
                Ok(())
            }
            other => other.for_layer(&place.id),
        }
    }

    /// Like [`Self::unprepare_active`], ignores an error if the filter is off: the layer may already have
    /// been deactivated before putting the filter back failed. A layer in use stays active.
    pub(super) fn deactivate_active(&self, place: &Place) -> Result<(), Error> {
        match self.host.deactivate_layer(&self.info, place.id.as_str()) {
            Err(error) if error.code != Code::SHARING_VIOLATION && filter_is_off(place).exists() => {
                tracing::debug!("layer {} was not active any more: {error}", place.id);
                Ok(())
            }
            other => other.for_layer(&place.id),
        }
    }

    /// Unprepares and deactivates what a process left when it died. Errors are only logged: the service
    /// refuses a layer that is not mounted, and there is no call that asks for the state.
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
