//! [`LayerStore`] as the driver's contract.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use super::LayerStore;
use super::removal::Users;
use crate::diff_options::DiffOptions;
use crate::driver::{Applied, Change, DiffGetter, Driver, Presence};
use crate::engine::{Expect, ImportRequest};
use crate::error::Error;
use crate::id::LayerId;
use crate::options::StorageOptions;
use crate::record::LayerKind;

impl Driver for LayerStore {
    fn status(&self) -> Result<Vec<(String, String)>, Error> {
        self.facts()
    }

    fn exists(&self, id: &LayerId) -> Result<Presence, Error> {
        match self.record(id).and_then(|_| self.chain_of(id)) {
            Ok(_) if self.engine.exists(&self.place(id)?)? => Ok(Presence::Present),
            Ok(_) => Ok(Presence::Damaged { reason: format!("layer {id}: the host does not know it") }),
            Err(Error::NoSuchLayer { .. }) => Ok(Presence::Absent),
            Err(e @ Error::Damaged { .. }) => Ok(Presence::Damaged { reason: e.to_string() }),
            Err(e) => Err(e),
        }
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
        // Both known before the first byte is read; publishing checks again, under the lock.
        if self.contains(id) && self.record(id)?.kind != LayerKind::Empty {
            return Err(self.layer_exists(id));
        }
        if let Some(parent) = parent
            && !self.contains(parent)
        {
            return Err(Error::MissingParent { id: id.clone(), parent: parent.clone() });
        }
        let label = format!("layer {id}");
        self.stage(
            id,
            ImportRequest { blob: Box::new(tar), expect: Expect::default(), progress: &(), label },
        )?
        .publish(parent)
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
        self.read_changes(id)
    }

    fn diff_size(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<u64, Error> {
        self.check_parent(id, parent)?;
        let record = self.record(id)?;
        match record.kind {
            LayerKind::Sandbox => self.changed_bytes(id),
            // Another program has not counted.
            LayerKind::Layer if record.diff_id.is_none() => self.changed_bytes(id),
            LayerKind::Layer | LayerKind::Empty => Ok(record.size),
        }
    }

    fn get_metadata(&self, id: &LayerId) -> Result<BTreeMap<String, String>, Error> {
        let record = self.record(id)?;
        let mut facts = BTreeMap::from([
            ("dir".to_owned(), self.dir(id)?.display().to_string()),
            ("kind".to_owned(), record.kind.as_str().to_owned()),
            (
                "chain".to_owned(),
                self.chain_ids(id)?.iter().map(LayerId::as_str).collect::<Vec<_>>().join(" "),
            ),
            ("mounts".to_owned(), self.mounts(id)?.count.to_string()),
        ]);
        if let Some(diff_id) = record.diff_id {
            facts.insert("diff_id".to_owned(), diff_id.to_string());
        }
        if let Some(size) = record.sandbox_size {
            facts.insert("size".to_owned(), size.to_string());
        }
        Ok(facts)
    }

    fn remove(&self, id: &LayerId) -> Result<(), Error> {
        self.remove_layer(id, None, Users::Keep)
    }

    fn cleanup(&self) -> Result<(), Error> {
        self.clean_up()
    }

    fn diff_getter(&self, id: &LayerId) -> Result<Box<dyn DiffGetter>, Error> {
        self.layer_files(id)
    }
}

/// The original takes labels and says nothing.
fn say_label_is_ignored(id: &LayerId, mount_label: &str) {
    if !mount_label.is_empty() {
        tracing::warn!("mount label {mount_label:?} of {id} is ignored: Windows has no SELinux labels");
    }
}
