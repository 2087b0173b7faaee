//! [`LayerStore`] under Docker's names: each method of [`Driver`] calls one of the store.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use super::LayerStore;
use crate::diff_options::DiffOptions;
use crate::driver::{Applied, Change, DiffGetter, Driver, Presence};
use crate::error::Error;
use crate::id::LayerId;
use crate::options::StorageOptions;

impl Driver for LayerStore {
    fn status(&self) -> Result<Vec<(String, String)>, Error> {
        self.facts()
    }

    fn exists(&self, id: &LayerId) -> Result<Presence, Error> {
        self.presence(id)
    }

    fn create(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<(), Error> {
        self.create_empty(id, parent)
    }

    fn create_read_write(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        options: StorageOptions,
        mount_label: &str,
    ) -> Result<(), Error> {
        say_label_is_ignored(id, mount_label);
        self.create_sandbox(id, parent, options, None)
    }

    fn apply_diff(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        tar: &mut (dyn Read + Send),
    ) -> Result<Applied, Error> {
        self.import(id, parent, tar)
    }

    fn get(&self, id: &LayerId, mount_label: &str) -> Result<PathBuf, Error> {
        say_label_is_ignored(id, mount_label);
        self.mount(id, None)
    }

    fn put(&self, id: &LayerId) -> Result<(), Error> {
        self.unmount(id)
    }

    fn diff(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Box<dyn Read + Send>, Error> {
        self.check_parent(id, parent)?;
        self.diff_with(id, DiffOptions::default())
    }

    fn changes(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<Vec<Change>, Error> {
        self.check_parent(id, parent)?;
        LayerStore::changes(self, id)
    }

    fn diff_size(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<u64, Error> {
        self.check_parent(id, parent)?;
        self.changed_bytes(id)
    }

    fn get_metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>, Error> {
        self.facts_of(id)
    }

    fn remove(&self, id: &LayerId) -> Result<(), Error> {
        LayerStore::remove(self, id)
    }

    fn cleanup(&self) -> Result<(), Error> {
        self.clean_up()
    }

    fn diff_getter(&self, id: &LayerId) -> Result<Box<dyn DiffGetter>, Error> {
        self.layer_files(id)
    }
}

/// The original accepts labels silently.
fn say_label_is_ignored(id: &LayerId, mount_label: &str) {
    if !mount_label.is_empty() {
        tracing::warn!("mount label {mount_label:?} of {id} is ignored: Windows has no SELinux labels");
    }
}
