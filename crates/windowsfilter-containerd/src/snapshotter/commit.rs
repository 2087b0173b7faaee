//! Commit: an active snapshot becomes a layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use windowsfilter::{Driver, Expect, ImportRequest, LayerId, StagedLayer};

use super::unpacks::Progress;
use super::{Snapshotter, now};
use crate::error::Error;
use crate::key;
use crate::records::{Kind, Record, State};

impl Snapshotter {
    /// Makes the active snapshot `key` the committed snapshot `name`. A layer that was applied only gets its name; of a sandbox, the changes
    /// become a layer. `given` is the parent that containerd gives a snapshot it prepared without one.
    ///
    /// # Errors
    /// As containerd's own snapshotters; [`Error::NeverApplied`], [`Error::GivenUp`]; what no Windows layer can hold.
    pub(crate) fn commit(
        &self,
        name: &str,
        key: &str,
        labels: BTreeMap<String, String>,
        given: &str,
    ) -> Result<(), Error> {
        key::check(name)?;
        let _claim = self.claims.claim(&[key, name]);
        let record = self.records.look(|state| check(state, name, key))?;
        let parent = adopted(&record, given)?;
        let below = self.records.look(|state| committed(state, name, parent))?;
        let staged = match record.kind {
            Kind::Sandbox => self.stage_changes(&record)?,
            _ => self.applied(&record)?,
        };
        let owner = self.owner(record.number);
        let layer = self.images()?.publish_shared(staged, below.as_ref(), &owner)?;
        let time = now();
        let new = Record {
            key: name.to_owned(),
            kind: Kind::Committed,
            parent: parent.to_owned(),
            labels,
            created: time,
            updated: time,
            layer: Some(layer),
            empty: None,
            ..Record::clone(&record)
        };
        let named = self
            .records
            .change(Some(key), Some(new.clone()), |state| committed(state, name, parent).map(drop));
        if let Err(error) = named {
            self.release(new);
            return Err(error);
        }
        // It has the number of the layer now, but what it needed as a sandbox goes.
        self.release(Record::clone(&record));
        Ok(())
    }

    fn applied(&self, record: &Record) -> Result<StagedLayer<'static>, Error> {
        self.unpacks.take(record.number).map_err(|progress| match progress {
            Progress::Running => Error::BeingApplied { action: "commit", key: record.short_key() },
            Progress::GivenUp => Error::GivenUp { key: record.short_key() },
            _ => Error::NeverApplied { key: record.short_key() },
        })
    }

    /// What the sandbox changed up to now, as a layer. Its users may go on.
    fn stage_changes(&self, record: &Record) -> Result<StagedLayer<'static>, Error> {
        let id = self.layer_id(record.number)?;
        let request = ImportRequest {
            blob: self.store.diff(&id, None)?,
            expect: Expect::default(),
            progress: &(),
            label: format!("changes of snapshot {}", record.short_key()),
        };
        Ok(self.store.stage(&id, request)?)
    }
}

fn check(state: &State, name: &str, key: &str) -> Result<Arc<Record>, Error> {
    if state.contains(name) {
        return Err(Error::SnapshotExists { key: name.into() });
    }
    let record = state.get(key)?;
    if !record.kind.is_active() {
        return Err(Error::WrongKind { action: "commit", key: key.into(), kind: record.kind });
    }
    Ok(record)
}

/// The parent that the committed snapshot will have.
fn adopted<'a>(record: &'a Record, given: &'a str) -> Result<&'a str, Error> {
    if given.is_empty() || given == record.parent {
        return Ok(&record.parent);
    }
    if record.parent.is_empty() {
        return Ok(given);
    }
    Err(Error::OtherParent {
        key: record.short_key(),
        given: given.into(),
        actual: record.parent.as_str().into(),
    })
}

/// The layer of the parent, which has to be there and committed.
fn committed(state: &State, name: &str, parent: &str) -> Result<Option<LayerId>, Error> {
    if parent.is_empty() {
        return Ok(None);
    }
    let missing = |_| Error::NoParent { key: name.into(), parent: parent.into() };
    let record = state.get(parent).map_err(missing)?;
    match &record.layer {
        Some(layer) if record.kind == Kind::Committed => Ok(Some(layer.clone())),
        _ => Err(Error::ParentNotCommitted { key: name.into(), parent: parent.into(), kind: record.kind }),
    }
}
