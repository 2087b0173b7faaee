//! Commit: an active snapshot becomes a layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use windowsfilter::diff::DiffOptions;
use windowsfilter::import::{Expect, ImportRequest};
use windowsfilter::{LayerId, StagedLayer};

use super::unpacks::Progress;
use super::{Snapshotter, now};
use crate::error::Error;
use crate::key;
use crate::records::{Kind, Record, State};
use crate::stop::{Stop, Stoppable};

impl Snapshotter {
    /// Commits the active snapshot `key` as `name`. An applied layer only gets its name; a sandbox's
    /// changes become a new layer. `given` is the parent that containerd passes for a snapshot prepared
    /// without one.
    ///
    /// # Errors
    /// Those of containerd's own snapshotters; [`Error::NeverApplied`], [`Error::GivenUp`]; changes that no
    /// Windows layer can hold.
    pub(crate) fn commit(
        &self,
        name: &str,
        key: &str,
        labels: BTreeMap<String, String>,
        given: &str,
        stop: &Stop,
    ) -> Result<(), Error> {
        key::check(name)?;
        let _claim = self.claims.claim(&[key, name], stop)?;
        let record = self.records.look(|state| check(state, name, key))?;
        let parent = adopted(&record, given)?;
        let below = self.records.look(|state| committed(state, name, parent))?;
        self.records.begin(&[record.number])?;
        let layer = match self.make_layer(&record, below.as_ref(), stop) {
            Ok(layer) => layer,
            Err(error) => {
                self.records.ended(record.number);
                return Err(error);
            }
        };
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
            applied: false,
            thrown: false,
            ..Record::clone(&record)
        };
        let named = self
            .records
            .change(Some(key), Some(new.clone()), |state| committed(state, name, parent).map(drop));
        if let Err(error) = named {
            self.release(new);
            return Err(error);
        }
        // The new record keeps the number and the layer; release what only the active snapshot needed.
        let layer = record.layer.clone().filter(|layer| new.layer.as_ref() != Some(layer));
        self.release(Record { layer, ..Record::clone(&record) });
        Ok(())
    }

    /// Makes the layer of an active snapshot and owns it. A failure leaves nothing, and gives up an applied
    /// layer.
    fn make_layer(&self, record: &Record, below: Option<&LayerId>, stop: &Stop) -> Result<LayerId, Error> {
        if let Some(layer) = self.present_layer(record, below)? {
            return Ok(layer);
        }
        let staged = match record.kind {
            Kind::Sandbox => self.stage_changes(record, stop)?,
            _ => self.applied(record)?,
        };
        let published = self.images.publish_shared(staged, below, &self.owner(record.number)?);
        if published.is_err() && record.kind == Kind::Unpack {
            self.set_applied(record.number, false)?;
        }
        Ok(published?)
    }

    /// The layer of a snapshot that needs no unpacking; the snapshot owns it already.
    fn present_layer(&self, record: &Record, below: Option<&LayerId>) -> Result<Option<LayerId>, Error> {
        let Some(layer) = record.layer.clone().filter(|_| record.kind == Kind::Unpack) else {
            return Ok(None);
        };
        if self.unpacks.look(record.number, |_| ()).is_some() {
            // The client applied the layer anyway.
            return Ok(None);
        }
        if self.store.chain_ids(&layer)?.first() != below {
            return Err(Error::OtherLayerBelow { key: record.short_key(), layer: layer.to_string() });
        }
        Ok(Some(layer))
    }

    fn applied(&self, record: &Record) -> Result<StagedLayer, Error> {
        self.unpacks.take(record.number).map_err(|progress| match progress {
            Progress::Running => Error::BeingApplied { action: "commit", key: record.short_key() },
            Progress::GivenUp => Error::GivenUp { key: record.short_key() },
            Progress::None if record.applied => Error::AppliedIsGone { key: record.short_key() },
            _ if record.thrown => Error::NeverMounted { key: record.short_key() },
            _ => Error::NeverApplied { key: record.short_key() },
        })
    }

    /// Stages the sandbox's changes up to now as a layer. Containers may go on using the sandbox.
    fn stage_changes(&self, record: &Record, stop: &Stop) -> Result<StagedLayer, Error> {
        let id = self.layer_id(record.number)?;
        let request = ImportRequest {
            blob: Box::new(Stoppable::new(self.store.diff_with(&id, DiffOptions::default())?, stop)),
            expect: Expect::default(),
            progress: &(),
            label: format!("changes of snapshot {}", record.short_key()),
        };
        match self.store.stage(&id, request) {
            Err(_) if stop.is_set() => Err(Error::Abandoned),
            other => Ok(other?),
        }
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

/// The parent's layer; an error if the parent is missing or not committed.
pub(super) fn committed(state: &State, name: &str, parent: &str) -> Result<Option<LayerId>, Error> {
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
