//! Which engine a store is opened with.

use windowsfilter::{LayerStore, StorageOptions};

use crate::background;
use crate::error::Error;
use crate::global::{EngineChoice, Global};

/// Opens the store that the options name; creates it if it is missing and `make` says so.
pub(crate) fn open(global: &Global, make: bool) -> Result<LayerStore, Error> {
    let root = global.root();
    let hcs = match global.engine {
        EngineChoice::Auto => LayerStore::is_hcs(&root),
        EngineChoice::Portable => false,
        EngineChoice::Hcs => true,
    };
    if hcs {
        return open_hcs(global);
    }
    let options = StorageOptions::default();
    let store =
        if make { LayerStore::open(&root, options) } else { LayerStore::open_existing(&root, options) }?;
    Ok(store.reclaim_with(background::reclaim))
}

#[cfg(not(windows))]
fn open_hcs(global: &Global) -> Result<LayerStore, Error> {
    let what = format!("the hcs engine on {}", global.root().display());
    Err(windowsfilter::Error::Unsupported { what, needs: "Windows" }.into())
}

#[cfg(windows)]
fn open_hcs(global: &Global) -> Result<LayerStore, Error> {
    use windowsfilter::hcs_engine::ImportProcess;

    let import = if global.imports_here() {
        tracing::warn!(
            "layers are imported in this process, for looking for errors: do not use this otherwise"
        );
        ImportProcess::Here
    } else {
        let program = std::env::current_exe().map_err(|source| Error::Io {
            action: "find",
            path: "this program".into(),
            source,
        })?;
        let library = global
            .hcs_library
            .iter()
            .flat_map(|path| ["--hcs-library".to_owned(), path.to_string_lossy().into_owned()]);
        ImportProcess::Child { program, arguments: library.collect() }
    };
    let store = LayerStore::open_hcs(&global.root(), StorageOptions::default(), host(global)?, import)?;
    Ok(store)
}

/// Windows, or what stands in for it.
#[cfg(windows)]
pub(crate) fn host(global: &Global) -> Result<hcs::windows::System, Error> {
    match &global.hcs_library {
        Some(path) => hcs::windows::System::with_stand_in(path)
            .map_err(|error| windowsfilter::Error::Hcs { id: path.display().to_string(), error }.into()),
        None => Ok(hcs::windows::System::new()),
    }
}
