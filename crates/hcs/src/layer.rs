//! The arguments that name a layer to the compute service.

use std::path::{Path, PathBuf};

use crate::guid::Guid;

/// The flavour of a driver that keeps layers as directories with a file system filter over them
/// (`FilterDriver` of `GraphDriverType`).
pub const FILTER_DRIVER: u32 = 1;

/// The store that a layer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInfo {
    /// [`FILTER_DRIVER`].
    pub flavour: u32,
    /// Directory of the layers; a layer's ID is the name of its directory in it.
    pub home: PathBuf,
}

impl DriverInfo {
    /// The filter driver's layers in `home`.
    pub fn filter(home: &Path) -> Self {
        Self { flavour: FILTER_DRIVER, home: home.to_owned() }
    }

    /// The directory of a layer.
    pub fn layer(&self, id: &str) -> PathBuf {
        self.home.join(id)
    }
}

/// A parent as the service expects it: its path, and the GUID of its name. Source: `WC_LAYER_DESCRIPTOR`,
/// hcsshim `internal/wclayer/layerutils.go`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDescriptor {
    /// The result of `NameToGuid` for the last element of the path.
    pub id: Guid,
    /// Always 0 here: bit 31 would mark a layer that is a snapshot of a sandbox.
    pub flags: u32,
    /// The directory.
    pub path: PathBuf,
}
