//! The portable engine: the same layers without Windows.
//!
//! `import` stores a layer tar and indexes it, `chain` merges the indexes of a chain by Windows' rules
//! (`merge`, `link_targets`), `view` reads the result without mounting. `layer_changes` and `layer_files`
//! read one layer alone. `host` has the operations of the host: on Linux it mounts (`linux`) and writes the
//! changes of a sandbox as a layer tar (`sandbox_diff`); elsewhere it returns errors.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use crate::diff_options::DiffOptions;
use crate::driver::{Change, DiffGetter};
use crate::engine::{EMPTY_TAR, Engine, Examined, Guard, ImportRequest, Imported, Layer, Place, ReadChain};
use crate::error::{Error, IoContext};
use crate::findings::{Leftover, Violation};
use crate::limits::{DiffLimits, Limits};
use crate::record::{LayerKind, LayerRecord};
use crate::store::file;
use crate::temporary::Temporaries;

mod any_case;
pub(crate) mod chain;
mod entry_memory;
mod fsck;
#[cfg(target_os = "linux")]
mod host;
#[cfg(not(target_os = "linux"))]
#[path = "no_host.rs"]
mod host;
pub(crate) mod import;
mod layer_changes;
mod layer_files;
mod link_targets;
mod long_names;
mod merge;
#[cfg(target_os = "linux")]
pub mod sandbox_diff;
#[cfg(target_os = "linux")]
mod template_record;
pub(crate) mod view;
pub(crate) mod xattrs;

use layer_files::LayerFiles;
use view::View;

/// The engine.
#[derive(Debug)]
pub(crate) struct Portable {
    templates: PathBuf,
    temporaries: Temporaries,
}

/// Access control for this engine's directories, on systems without modes.
pub(crate) fn access() -> Option<&'static dyn hcs::AccessControl> {
    #[cfg(windows)]
    return Some(&hcs::windows::Access);
    #[cfg(not(windows))]
    return None;
}

impl Portable {
    /// `templates` is a directory for empty sandboxes, whose content may be deleted at any time.
    pub(crate) fn new(templates: PathBuf, temporaries: Temporaries) -> Self {
        Self { templates, temporaries }
    }

    /// The view below the layer; `None` if it has no parents.
    fn view_below(&self, layer: &Layer) -> Result<Option<View>, Error> {
        let below = layer.below();
        let Some(nearest) = below.last() else { return Ok(None) };
        let index = chain::ready(below, &nearest.dir, &self.temporaries)?;
        View::open(nearest.id.clone(), &index, below).map(Some)
    }
}

impl Engine for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn stage(&self, dir: &Path, request: ImportRequest<'_>, limits: &Limits) -> Result<Imported, Error> {
        import::import(dir, request, limits)
    }

    fn create_sandbox(&self, sandbox: &Layer, size: u64) -> Result<(), Error> {
        let image = sandbox.place.dir.join(file::SANDBOX);
        host::create_sandbox(&self.templates, &image, size, self.temporaries.cancel())
    }

    fn expand(&self, sandbox: &Place, size: u64) -> Result<(), Error> {
        host::expand(sandbox, size, &self.temporaries)
    }

    fn activate(&self, layer: &Layer) -> Result<(), Error> {
        let index = chain::ready_in_form(&layer.chain, &layer.place.dir, &self.temporaries, layer.streams)?;
        host::activate(layer, &index)
    }

    fn prepare(&self, layer: &Layer) -> Result<(), Error> {
        if layer.kind == LayerKind::Sandbox { host::prepare(layer) } else { Ok(()) }
    }

    fn mount_path(&self, layer: &Layer) -> Result<PathBuf, Error> {
        host::mount_path(layer)
    }

    fn unprepare(&self, place: &Place) -> Result<(), Error> {
        host::unprepare(place)
    }

    fn deactivate(&self, place: &Place) -> Result<(), Error> {
        host::deactivate(place)
    }

    fn detach(&self, place: &Place) -> Result<(), Error> {
        host::detach(place)
    }

    fn thaw(&self, place: &Place) -> Result<(), Error> {
        host::thaw(place)
    }

    fn access(&self) -> Option<&dyn hcs::AccessControl> {
        access()
    }

    fn is_mounted(&self, path: &Path) -> Result<bool, Error> {
        host::is_mounted(path)
    }

    fn has_mounts(&self, place: &Place) -> Result<bool, Error> {
        host::has_mounts(place)
    }

    fn in_use(&self, place: &Place) -> Result<Option<String>, Error> {
        host::in_use(place)
    }

    fn stays_in_use(&self, place: &Place) -> Result<Option<String>, Error> {
        host::stays_in_use(place)
    }

    fn bind(&self, path: &Path, target: &Path) -> Result<(), Error> {
        host::bind(path, target)
    }

    fn unbind(&self, target: &Path) -> Result<(), Error> {
        host::unbind(target)
    }

    fn diff(
        &self,
        layer: &Layer,
        _: bool,
        options: DiffOptions,
        guard: Guard,
    ) -> Result<Box<dyn Read + Send>, Error> {
        match layer.kind {
            LayerKind::Empty => Ok(Box::new(Cursor::new(EMPTY_TAR))),
            LayerKind::Layer => {
                // The tar never changes, so reading needs no lock: the open file even outlives the layer.
                Ok(Box::new(self.tar(&layer.place)?))
            }
            LayerKind::Sandbox => {
                let view = self.view(layer)?;
                host::read_sandbox(layer, view, options, guard, self.temporaries.cancel())
            }
        }
    }

    fn changes(&self, layer: &Layer, _: bool, limits: &DiffLimits) -> Result<Vec<Change>, Error> {
        match layer.kind {
            LayerKind::Empty => Ok(Vec::new()),
            LayerKind::Layer => layer_changes::list(&layer.place, self.view_below(layer)?.as_ref()),
            LayerKind::Sandbox => {
                let view = self.view(layer)?;
                host::sandbox_changes(layer, &view, limits, self.temporaries.cancel())
            }
        }
    }

    fn changed_bytes(&self, sandbox: &Layer, _: bool, limits: &DiffLimits) -> Result<u64, Error> {
        host::changed_bytes(sandbox, limits, self.temporaries.cancel())
    }

    fn files(&self, layer: &Place) -> Result<Box<dyn DiffGetter>, Error> {
        Ok(Box::new(LayerFiles::open(layer)?))
    }

    fn view(&self, layer: &Layer) -> Result<View, Error> {
        let index = chain::ready(&layer.chain, &layer.place.dir, &self.temporaries)?;
        View::open(layer.place.id.clone(), &index, &layer.chain)
    }

    fn tar(&self, layer: &Place) -> Result<File, Error> {
        let path = layer.dir.join(file::TAR);
        File::open(&path).at("open", &path)
    }

    /// Refuses a layer that links to a file that no parent has: it can be staged, but never shown.
    fn check_chain(&self, chain: ReadChain<'_>) -> Result<(), Error> {
        chain::check(&chain()?)
    }

    fn check(&self, layer: &Examined<'_>) -> Vec<Violation> {
        fsck::check(layer, self.temporaries.cancel())
    }

    fn layer_files(&self) -> Option<&'static [&'static str]> {
        Some(&fsck::FILES)
    }

    fn rebuild(&self, layer: &Place, record: LayerRecord) -> Result<LayerRecord, Error> {
        fsck::rebuild(layer, record, &self.temporaries)
    }

    fn check_view(&self, layer: &Place, chain: ReadChain<'_>) -> Result<(), Error> {
        fsck::check_view(layer, chain)
    }

    fn rebuild_view(&self, layer: &Place, chain: ReadChain<'_>) -> Result<(), Error> {
        fsck::rebuild_view(layer, chain, &self.temporaries)
    }

    fn leftovers(&self, repair: bool) -> Result<Vec<Leftover>, Error> {
        host::leftovers(&self.templates, repair)
    }

    fn clean_up(&self) -> Result<(), Error> {
        host::clean_up(&self.templates)
    }

    fn file_system(&self, dir: &Path) -> Result<Option<String>, Error> {
        host::file_system(dir)
    }
}
