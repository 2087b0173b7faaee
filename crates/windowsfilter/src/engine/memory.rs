//! An engine that keeps layers in memory and mounts nothing: the least that a third engine must implement.
//!
//! It shows that the driver needs only the methods of [`Engine`]. It runs the tests of the suite that need no
//! mount.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{EMPTY_TAR, Engine, Examined, Guard, ImportRequest, Imported, Layer, Place, Reading, portable};
use crate::diff_options::DiffOptions;
use crate::digest::{DiffId, Digest};
use crate::driver::{Change, DiffGetter};
use crate::error::{Error, IoContext};
use crate::findings::{Breaks, Violation};
use crate::invariants::Invariant;
use crate::limits::{DiffLimits, Limits};
use crate::record::LayerKind;
use crate::store::file;

/// Tars by their digest, because a layer's directory may be renamed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    tars: Arc<Mutex<HashMap<DiffId, Arc<[u8]>>>>,
}

impl Memory {
    fn content(&self, diff_id: Option<DiffId>) -> Option<Arc<[u8]>> {
        self.tars.lock().unwrap_or_else(PoisonError::into_inner).get(&diff_id?).cloned()
    }
}

fn unsupported<T>(what: String) -> Result<T, Error> {
    Err(Error::Unsupported { what, needs: "an engine that mounts" })
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn stage(&self, dir: &Path, request: ImportRequest<'_>, limits: &Limits) -> Result<Imported, Error> {
        let imported = portable::import::spool(dir, request, limits)?;
        let path = dir.join(file::TAR);
        let tar = fs::read(&path).at("read", &path)?;
        fs::remove_file(&path).at("remove", &path)?;
        let mut tars = self.tars.lock().unwrap_or_else(PoisonError::into_inner);
        tars.insert(imported.diff_id, tar.into());
        Ok(imported)
    }

    fn create_sandbox(&self, _: &Layer, _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn expand(&self, _: &Place, _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn activate(&self, layer: &Layer) -> Result<(), Error> {
        unsupported(format!("mounting {}", layer.place.id))
    }

    fn prepare(&self, layer: &Layer) -> Result<(), Error> {
        unsupported(format!("mounting {}", layer.place.id))
    }

    fn mount_path(&self, layer: &Layer) -> Result<PathBuf, Error> {
        unsupported(format!("mounting {}", layer.place.id))
    }

    fn unprepare(&self, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    fn deactivate(&self, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    fn detach(&self, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    fn is_mounted(&self, _: &Path) -> Result<bool, Error> {
        Ok(false)
    }

    fn bind(&self, path: &Path, _: &Path) -> Result<(), Error> {
        unsupported(format!("showing {} elsewhere", path.display()))
    }

    fn unbind(&self, _: &Path) -> Result<(), Error> {
        Ok(())
    }

    fn diff(&self, layer: &Layer, _: bool, _: DiffOptions, _: Guard) -> Result<Box<dyn Read + Send>, Error> {
        // Nothing can be written to a sandbox that is never mounted.
        let of_layer = layer.chain.last().filter(|_| layer.kind == LayerKind::Layer);
        match of_layer.map(|layer| self.content(layer.diff_id)) {
            Some(Some(tar)) => Ok(Box::new(Cursor::new(tar.to_vec()))),
            Some(None) => Err(lost(&layer.place)),
            None => Ok(Box::new(Cursor::new(EMPTY_TAR))),
        }
    }

    fn changes(&self, layer: &Layer, _: bool, _: &DiffLimits) -> Result<Vec<Change>, Error> {
        match layer.kind {
            LayerKind::Layer => unsupported(format!("listing the changes of layer {}", layer.place.id)),
            LayerKind::Sandbox | LayerKind::Empty => Ok(Vec::new()),
        }
    }

    fn changed_bytes(&self, _: &Layer, _: bool, _: &DiffLimits) -> Result<u64, Error> {
        Ok(0)
    }

    fn files(&self, layer: &Place) -> Result<Box<dyn DiffGetter>, Error> {
        unsupported(format!("opening files of layer {}", layer.id))
    }

    fn tar(&self, layer: &Place) -> Result<File, Error> {
        let record = crate::record::read_record(&layer.dir, &layer.id)?;
        let content = self.content(record.diff_id).ok_or_else(|| lost(layer))?;
        let mut tar = tempfile::tempfile().at("open", &layer.dir)?;
        tar.write_all(&content).at("write", &layer.dir)?;
        std::io::Seek::rewind(&mut tar).at("rewind", &layer.dir)?;
        Ok(tar)
    }

    fn check(&self, layer: &Examined<'_>) -> Vec<Violation> {
        if layer.record.kind != LayerKind::Layer {
            return Vec::new();
        }
        let Some(content) = self.content(layer.record.diff_id) else {
            return vec![Violation { invariant: Invariant::TarSize, error: lost(layer.place) }];
        };
        let Reading::Bytes(progress) = layer.reading else { return Vec::new() };
        progress.blob_bytes(content.len() as u64);
        let (expected, actual) = (layer.record.diff_id, DiffId(Digest::of(&content)));
        let matches = if expected == Some(actual) { Ok(()) } else { Err(lost(layer.place)) };
        matches.breaks(Invariant::TarDigest).err().into_iter().collect()
    }

    fn layer_files(&self) -> Option<&'static [&'static str]> {
        Some(&[])
    }
}

fn lost(layer: &Place) -> Error {
    Error::Damaged { id: layer.id.clone(), file: file::TAR, reason: "it is not in memory".into() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Memory;
    use crate::engine::suite::{self, Rig, View};
    use crate::{LayerStore, StorageOptions};

    struct InMemory {
        dir: tempfile::TempDir,
        engine: Memory,
        store: LayerStore,
    }

    fn open(dir: &Path, engine: &Memory) -> LayerStore {
        LayerStore::open_over(dir, StorageOptions::default(), engine.clone()).unwrap()
    }

    impl Rig for InMemory {
        const TELLS_ADDED: bool = false;
        const SANDBOXES_WITHOUT_PARENT: bool = true;
        const VIEWS_END: bool = true;

        fn new() -> Self {
            let (dir, engine) = (tempfile::tempdir().unwrap(), Memory::default());
            let store = open(dir.path(), &engine);
            Self { dir, engine, store }
        }

        fn store(&self) -> &LayerStore {
            &self.store
        }

        fn another(&self) -> LayerStore {
            open(self.dir.path(), &self.engine)
        }

        fn view<'a>(&'a self, layer: &str, _: &Path) -> Box<dyn View + 'a> {
            panic!("{layer} cannot be mounted")
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.dir.path().join("layers")).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }

        fn problems(&self) -> Vec<String> {
            let all = self.store.verify_all(std::num::NonZeroUsize::MIN, &()).unwrap().findings;
            let findings = self.store.fsck(false).unwrap().into_iter().chain(all);
            findings.map(|finding| finding.problem).collect()
        }
    }

    suite::suite! {
        InMemory,
        run: [
            graphtest: a_missing_parent_is_an_error_and_leaves_nothing_behind,
            every_engine: remove_of_a_parent_is_refused_naming_all_children_and_changes_nothing,
            every_engine: an_init_layer_adds_nothing_to_the_chain,
            every_engine: a_layer_without_its_chain_is_damaged_and_not_missing,
            every_engine: metadata_of_an_unknown_layer_is_an_error,
            every_engine: the_parent_of_a_diff_is_checked,
        ],
        leave_out: [
            create_empty_gives_an_empty_view: "it looks at a view, which takes a mount",
            create_base_and_snap_show_what_the_base_has: "it looks at a view, which takes a mount",
            a_file_is_read_through_125_layers: "it looks at a view, which takes a mount",
            a_diff_of_10_000_files_applies_and_reads_back: "it writes in a view, which takes a mount",
            changes_tell_added_modified_and_deleted_apart: "it writes in a view, which takes a mount",
            a_full_sandbox_says_no_space_and_the_store_is_unharmed: "it writes in a view, which takes a mount",
            gets_are_counted_and_the_last_put_unmounts: "it counts mounts, and there are none",
            a_mounted_layer_is_not_removed: "it counts mounts, and there are none",
            two_diffs_of_one_sandbox_are_the_same_bytes: "it writes in a view, which takes a mount",
            a_diff_dropped_half_way_leaves_the_mount_alive: "it writes in a view, which takes a mount",
            a_hundred_threads_share_one_mount: "it counts mounts, and there are none",
            a_deletion_and_a_replacement_are_what_a_view_shows: "it looks at a view, which takes a mount",
        ]
    }
}
