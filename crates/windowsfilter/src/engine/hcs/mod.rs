//! The engine over Windows' Host Compute Service. It makes the same calls as the original driver.
//!
//! A layer is a directory that the service identifies by its path. `creation` creates layers and sandboxes.
//! `install` fills a layer from its tar in a child process, which runs `write_layer` (`layer_writer` with
//! `base_writer` and `delta_writer`). `mounting` mounts layers, `diff` reads their changes (`layer_reader`),
//! `files` opens single files, `removal` removes layers. All calls to Windows go through [`hcs::Host`], so
//! that everything here also runs, and is tested, without Windows.
//!
//! Source: moby `daemon/graphdriver/windows/windows.go`; hcsshim `internal/wclayer`. `docs/windows-engine.md`
//! compares them call by call.

mod base_writer;
mod boot_store;
mod bounded;
mod creation;
mod delta_writer;
mod diff;
mod directory_times;
mod files;
mod install;
mod layer_reader;
mod layer_writer;
mod mounting;
mod paths;
mod removal;
mod scanners;
mod target;
// These run on a fake Windows whose files need Unix. On Windows `tests/hcs_standin` runs instead.
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod transport_directory;
mod utility_vm;
mod write_layer;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hcs::{DriverInfo, Guid, Host, LayerDescriptor};

use crate::diff_options::DiffOptions;
use crate::driver::{Change, DiffGetter};
use crate::durable;
use crate::engine::{ChainLayer, EMPTY_TAR, Engine, Guard, ImportRequest, Imported, Layer, Place, Placement};
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::limits::{DiffLimits, Limits};
use crate::record::LayerKind;
use crate::store::{Paths, file};
use crate::temporary::{Temporaries, TemporaryDirectory};

pub use install::{ImportProcess, read_chain};
pub use write_layer::write_layer;

/// Bytes that are handed to `BackupWrite`, and read of a file, at once.
const BUFFER: usize = 64 << 10;

/// The engine.
#[derive(Debug)]
pub(crate) struct Hcs<H> {
    host: Arc<H>,
    info: DriverInfo,
    temporaries: Temporaries,
    /// Lock file, held while a layer is prepared: one thread at a time, across processes.
    prepare_lock: PathBuf,
    import: ImportProcess,
}

impl<H> Clone for Hcs<H> {
    fn clone(&self) -> Self {
        Self {
            host: Arc::clone(&self.host),
            info: self.info.clone(),
            temporaries: self.temporaries.clone(),
            prepare_lock: self.prepare_lock.clone(),
            import: self.import.clone(),
        }
    }
}

impl<H: Host> Hcs<H> {
    pub(crate) fn new(host: H, paths: &Paths, import: ImportProcess) -> Self {
        Self {
            host: Arc::new(host),
            info: DriverInfo::filter(&paths::plain(&paths.layers())),
            temporaries: paths.temporaries(),
            prepare_lock: paths.prepare_lock(),
            import,
        }
    }

    /// The descriptors of parents, nearest first, built like `layerPathsToDescriptors` in hcsshim.
    fn descriptors(&self, id: &LayerId, parents: &[PathBuf]) -> Result<Vec<LayerDescriptor>, Error> {
        descriptors(&*self.host, parents).for_layer(id)
    }

    /// The directories of the layers below, nearest first.
    fn parents(&self, below: &[ChainLayer]) -> Vec<PathBuf> {
        below.iter().rev().map(|layer| self.info.layer(layer.id.as_str())).collect()
    }

    /// Like [`Self::parents`], but asks the service for the path of the nearest one, as the original does
    /// when it creates a layer on it.
    fn asked_parents(&self, id: &LayerId, below: &[ChainLayer]) -> Result<Vec<PathBuf>, Error> {
        let mut parents = self.parents(below);
        if let (Some(nearest), Some(parent)) = (parents.first_mut(), below.last()) {
            let path = self.host.layer_mount_path(&self.info, parent.id.as_str()).for_layer(id)?;
            if let Some(path) = path {
                *nearest = paths::plain(&path);
            }
        }
        Ok(parents)
    }

    fn chain_descriptors(&self, layer: &Layer) -> Result<Vec<LayerDescriptor>, Error> {
        self.descriptors(&layer.place.id, &self.parents(layer.below()))
    }
}

/// See [`Hcs::descriptors`].
fn descriptors<H: Host>(host: &H, parents: &[PathBuf]) -> hcs::Result<Vec<LayerDescriptor>> {
    let descriptor = |path: &PathBuf| {
        let id: Guid = host.name_to_guid(&paths::last_element(path))?;
        Ok(LayerDescriptor { id, flags: 0, path: path.clone() })
    };
    parents.iter().map(descriptor).collect()
}

/// Adds the layer to an error of Windows.
trait ForLayer<T> {
    fn for_layer(self, id: &LayerId) -> Result<T, Error>;
}

impl<T> ForLayer<T> for hcs::Result<T> {
    fn for_layer(self, id: &LayerId) -> Result<T, Error> {
        self.map_err(|error| Error::Hcs { id: id.to_string(), error })
    }
}

impl<H: Host> Engine for Hcs<H> {
    fn name(&self) -> &'static str {
        "hcs"
    }

    fn placement(&self) -> Placement {
        Placement::InPlace
    }

    fn stage(&self, dir: &Path, request: ImportRequest<'_>, limits: &Limits) -> Result<Imported, Error> {
        super::portable::import::spool(dir, request, limits)
    }

    fn install(&self, layer: &Layer, staged: &Path) -> Result<(), Error> {
        self.install_layer(layer, staged)
    }

    fn create(&self, layer: &Layer, parent: Option<&LayerId>) -> Result<(), Error> {
        self.create_layer(layer, parent)
    }

    fn create_sandbox(&self, sandbox: &Layer, size: u64) -> Result<(), Error> {
        self.create_sandbox_layer(sandbox, size)
    }

    fn expand(&self, sandbox: &Place, size: u64) -> Result<(), Error> {
        self.expand_sandbox(&sandbox.id, size)
    }

    fn activate(&self, layer: &Layer) -> Result<(), Error> {
        self.activate_layer(&layer.place.id)
    }

    fn prepare(&self, layer: &Layer) -> Result<(), Error> {
        self.prepare_active(layer)
    }

    fn is_prepared(&self, place: &Place) -> bool {
        !mounting::filter_is_off(place).exists()
    }

    fn mount_path(&self, layer: &Layer) -> Result<PathBuf, Error> {
        self.layer_mount_path(&layer.place.id)
    }

    fn unprepare(&self, place: &Place) -> Result<(), Error> {
        self.unprepare_active(place)
    }

    fn deactivate(&self, place: &Place) -> Result<(), Error> {
        self.deactivate_active(place)
    }

    fn reset(&self, place: &Place) -> Result<(), Error> {
        self.reset_layer(place);
        Ok(())
    }

    fn detach(&self, place: &Place) -> Result<(), Error> {
        self.unprepare(place)?;
        self.deactivate(place)
    }

    fn is_mounted(&self, path: &Path) -> Result<bool, Error> {
        self.is_shown(path)
    }

    fn access(&self) -> Option<&dyn hcs::AccessControl> {
        Some(&*self.host)
    }

    fn bind(&self, path: &Path, target: &Path) -> Result<(), Error> {
        let what = format!("showing {} at {}", path.display(), target.display());
        Err(Error::Unsupported { what, needs: "the portable engine; use the path as it is" })
    }

    fn unbind(&self, _: &Path) -> Result<(), Error> {
        Ok(())
    }

    fn diff(
        &self,
        layer: &Layer,
        mounted: bool,
        options: DiffOptions,
        guard: Guard,
    ) -> Result<Box<dyn Read + Send>, Error> {
        if options.newest.is_some() || options.strict {
            let what = format!("a diff of {} with other times or without some attributes", layer.place.id);
            return Err(Error::Unsupported { what, needs: "the portable engine" });
        }
        self.read_layer(layer, mounted, options.limits, guard)
    }

    fn changes(&self, layer: &Layer, mounted: bool, limits: &DiffLimits) -> Result<Vec<Change>, Error> {
        self.layer_changes(layer, mounted, limits)
    }

    fn changed_bytes(&self, sandbox: &Layer, mounted: bool, limits: &DiffLimits) -> Result<u64, Error> {
        self.layer_changed_bytes(sandbox, mounted, limits)
    }

    fn files(&self, layer: &Place) -> Result<Box<dyn DiffGetter>, Error> {
        Ok(Box::new(files::LayerFiles::new(Arc::clone(&self.host), &self.info, &layer.id)))
    }

    fn keeps_tars(&self) -> bool {
        false
    }

    fn tar(&self, layer: &Place) -> Result<File, Error> {
        Err(Error::Unsupported {
            what: format!("the original tar of layer {}", layer.id),
            needs: "the portable engine: the compute service does not keep it",
        })
    }

    /// Reading any layer of the service activates it.
    fn reads_under_guard(&self, _: LayerKind) -> bool {
        true
    }

    fn exists(&self, place: &Place) -> Result<bool, Error> {
        self.host.layer_exists(&self.info, place.id.as_str()).for_layer(&place.id)
    }

    /// The service writes the files, so flush the whole volume.
    fn make_durable(&self, place: &Place) -> Result<(), Error> {
        self.host.flush_volume(&self.info.layer(place.id.as_str())).for_layer(&place.id)
    }

    fn end_host_use(&self, place: &Place) -> Result<(), Error> {
        self.terminate_template_vms(&place.id)
    }

    fn retire(&self, place: &Place, to: &Path) -> Result<(), Error> {
        self.hide_layer(place, to)
    }

    fn destroy(&self, dir: &Path) -> Result<(), Error> {
        self.destroy_directory(dir)
    }

    fn boot(&self) -> String {
        self.host.boot()
    }
}

/// Refuses a volume that the service cannot keep layers on (`InitFilter`).
///
/// # Errors
/// [`Error::Unsupported`] for ReFS.
pub(crate) fn check_home<H: Host>(host: &H, home: &Path) -> Result<(), Error> {
    let file_system =
        host.file_system(home).map_err(|error| Error::Hcs { id: home.display().to_string(), error })?;
    if file_system.eq_ignore_ascii_case("refs") {
        return Err(Error::Unsupported {
            what: format!("{} is on an ReFS volume; keeping layers there", home.display()),
            needs: "an NTFS volume",
        });
    }
    Ok(())
}

/// The path of the tar in a staging directory, see [`Engine::stage`].
fn staged_tar(staged: &Path) -> PathBuf {
    staged.join(file::TAR)
}

/// A directory for passing a layer to or from the service; dropping it removes it.
fn transport(temporaries: &Temporaries) -> Result<TemporaryDirectory, Error> {
    temporaries.directory()
}

/// Removes a transport directory after use. Scanners open the files written to it; if one takes too long, the
/// layer is still good, and cleanup removes the directory.
fn remove_transport<H: Host>(host: &H, id: &str, transport: TemporaryDirectory) {
    let dir = paths::plain(&transport.keep());
    if let Err(error) = scanners::outlast(host, &format!("layer {id}"), || host.remove_directory(&dir)) {
        tracing::warn!("layer {id}: {error}; the next cleanup will try again");
    }
}

/// Creates the directory of a layer, unless the service has created it.
fn make_layer_directory(dir: &Path) -> Result<(), Error> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.at("create directory", dir),
    }?;
    durable::sync_dir(dir.parent().unwrap_or(dir))
}
