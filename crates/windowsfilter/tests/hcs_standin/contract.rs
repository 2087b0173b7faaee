//! The suite for every engine, `../contract/suite.rs`, with the stand-in.

use std::path::Path;

use windowsfilter::LayerStore;

use crate::suite::{self, Plain, Rig, View};
use crate::support::Windows;

impl Rig for Windows {
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
        self.another()
    }

    fn view<'a>(&'a self, layer: &str, path: &Path) -> Box<dyn View + 'a> {
        let is_sandbox = self.home().join(layer).join("sandbox.vhdx").exists();
        Box::new(Plain(if is_sandbox { path.to_owned() } else { path.join("Files") }))
    }

    fn names(&self) -> Vec<String> {
        let names = self.store.layers().unwrap().into_iter().map(|layer| layer.to_string());
        names.chain(self.leftovers()).collect()
    }

    fn problems(&self) -> Vec<String> {
        let findings = self.store.fsck(false).unwrap().into_iter().map(|finding| finding.problem);
        findings.chain(self.leftovers()).collect()
    }
}

suite::suite! {
    Windows,
    run: [
        graphtest: changes_tell_added_modified_and_deleted_apart,
        every_engine: a_deletion_and_a_replacement_are_what_a_view_shows,
        graphtest: create_base_and_snap_show_what_the_base_has,
        graphtest: a_missing_parent_is_an_error_and_leaves_nothing_behind,
        every_engine: remove_of_a_parent_is_refused_naming_all_children_and_changes_nothing,
        every_engine: two_diffs_of_one_sandbox_are_the_same_bytes,
        every_engine: a_diff_dropped_half_way_leaves_the_mount_alive,
        every_engine: an_init_layer_adds_nothing_to_the_chain,
        every_engine: a_layer_without_its_chain_is_damaged_and_not_missing,
        every_engine: metadata_of_an_unknown_layer_is_an_error,
        every_engine: the_parent_of_a_diff_is_checked,
        graphtest: create_empty_gives_an_empty_view,
        graphtest: gets_are_counted_and_the_last_put_unmounts,
        every_engine: a_mounted_layer_is_not_removed,
        every_engine: a_hundred_threads_share_one_mount,
    ],
    leave_out: [
        a_file_is_read_through_125_layers: "the stand-in copies what the parents have into each layer: minutes of Wine",
        a_diff_of_10_000_files_applies_and_reads_back: "the stand-in keeps a file of its own for each: minutes of Wine",
        a_full_sandbox_says_no_space_and_the_store_is_unharmed: "the stand-in's sandboxes are directories without a limit",
    ]
}
