//! The test suite of every engine, `tests/contract/suite.rs`, on the fake Windows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hcs::attribute;
use wclayer::attributes::FILE_ATTRIBUTE_ARCHIVE;
use wclayer::backup_stream as backup;

use super::fake_tree::{content, info, put, stream};
use super::{Fixture, names};
use crate::LayerStore;
use crate::engine::suite::{self, Rig, View};

/// Stands in for the filter. For a sandbox it shows its own files and behind them the nearest parent's, to
/// which the fake Windows has added those of the other parents. For a layer it shows the layer's directory.
struct Recorded<'a> {
    fixture: &'a Fixture,
    layer: String,
    own: PathBuf,
    parent: Option<PathBuf>,
}

impl Recorded<'_> {
    fn is_deleted(&self, path: &str) -> bool {
        let path = path.replace('/', r"\");
        let tombstones = &self.fixture.host.machine().tombstones;
        tombstones.iter().any(|(layer, deleted)| *layer == self.layer && *deleted == path)
    }
}

impl View for Recorded<'_> {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let own = self.own.join(path);
        if own.is_file() {
            return content(&self.fixture.host, &own);
        }
        let parents = self.parent.as_ref()?.join(path);
        (parents.is_file() && !self.is_deleted(path)).then(|| content(&self.fixture.host, &parents).unwrap())
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let file = self.own.join(path);
        for directory in file.parent().unwrap().ancestors().take_while(|at| at.starts_with(&self.own)) {
            if !directory.exists() {
                put(&self.fixture.host, directory, info(attribute::DIRECTORY), Vec::new());
            }
        }
        put(&self.fixture.host, &file, info(FILE_ATTRIBUTE_ARCHIVE), stream(backup::DATA, bytes));
    }

    fn make_directory(&self, path: &str) {
        put(&self.fixture.host, &self.own.join(path), info(attribute::DIRECTORY), Vec::new());
    }

    fn remove(&self, path: &str) {
        assert!(self.read(path).is_some(), "{path}");
        if self.own.join(path).is_file() {
            std::fs::remove_file(self.own.join(path)).unwrap();
        }
        let deleted = (self.layer.clone(), path.replace('/', r"\"));
        self.fixture.host.machine().tombstones.push(deleted);
    }

    fn names(&self) -> BTreeSet<String> {
        let roots = [Some(&self.own), self.parent.as_ref()].into_iter().flatten();
        let all = roots.filter(|root| root.is_dir()).flat_map(|root| names(root));
        all.filter(|name| self.own.join(name).exists() || !self.is_deleted(name)).collect()
    }
}

impl Rig for Fixture {
    const TELLS_ADDED: bool = false;
    const SANDBOXES_WITHOUT_PARENT: bool = false;
    const VIEWS_END: bool = false;

    fn new() -> Self {
        Self::new()
    }

    fn store(&self) -> &LayerStore {
        &self.store
    }

    fn another(&self) -> LayerStore {
        super::open(&self.home(), self.host.clone())
    }

    fn view<'a>(&'a self, layer: &str, path: &Path) -> Box<dyn View + 'a> {
        let dir = self.home().join(layer);
        let is_sandbox = dir.join("sandbox.vhdx").exists();
        assert!(is_sandbox || path == dir, "{}", path.display());
        let chain = self.store.chain_ids(&super::id(layer)).unwrap();
        let parent = chain.first().filter(|_| is_sandbox);
        Box::new(Recorded {
            fixture: self,
            layer: layer.to_owned(),
            own: dir.join("Files"),
            parent: parent.map(|parent| self.home().join(parent.as_str()).join("Files")),
        })
    }

    fn names(&self) -> Vec<String> {
        [self.names(), self.leftovers()].concat()
    }

    fn problems(&self) -> Vec<String> {
        let findings = self.store.fsck(false).unwrap().into_iter().map(|finding| finding.problem);
        findings.chain(self.leftovers()).collect()
    }
}

suite::suite! {
    Fixture,
    run: [
        graphtest: create_empty_gives_an_empty_view,
        graphtest: create_base_and_snap_show_what_the_base_has,
        graphtest: a_file_is_read_through_125_layers,
        graphtest: a_diff_of_10_000_files_applies_and_reads_back,
        graphtest: changes_tell_added_modified_and_deleted_apart,
        graphtest: gets_are_counted_and_the_last_put_unmounts,
        graphtest: a_missing_parent_is_an_error_and_leaves_nothing_behind,
        every_engine: remove_of_a_parent_is_refused_naming_all_children_and_changes_nothing,
        every_engine: a_mounted_layer_is_not_removed,
        every_engine: two_diffs_of_one_sandbox_are_the_same_bytes,
        every_engine: a_diff_dropped_half_way_leaves_the_mount_alive,
        every_engine: an_init_layer_adds_nothing_to_the_chain,
        every_engine: a_layer_without_its_chain_is_damaged_and_not_missing,
        every_engine: a_hundred_threads_share_one_mount,
        every_engine: metadata_of_an_unknown_layer_is_an_error,
        every_engine: the_parent_of_a_diff_is_checked,
        every_engine: a_deletion_and_a_replacement_are_what_a_view_shows,
    ],
    leave_out: [
        a_full_sandbox_says_no_space_and_the_store_is_unharmed: "the recorded Windows has no disk that could be full",
    ]
}
