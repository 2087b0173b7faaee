//! The start: brings the store and its mounts in line with the records, wherever the last server stopped.
//!
//! `health` has verified that the records match this store, so everything they do not need was being
//! created or removed.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use windowsfilter::{ErrorKind, LayerId, LayerKind};

use super::traces::{self, Trace, What};
use super::{Snapshotter, naming};
use crate::error::{Error, chain};
use crate::records::{Kind, Record};

impl Snapshotter {
    pub(super) fn restore(&self) -> Result<(), Error> {
        self.find_published()?;
        self.find_unpacked()?;
        self.remove_unneeded()?;
        self.remove_interrupted()?;
        for record in self.records.all() {
            if let Err(error) = self.restore_one(&record) {
                let key = &record.key;
                tracing::error!(key, "a snapshot does not have what it needs: {}", chain(&error));
            }
        }
        for number in self.sources.linked()? {
            let shown = self.records.numbered(number);
            if !shown.is_some_and(|record| record.thrown || matches!(record.kind, Kind::View | Kind::Sandbox))
            {
                self.sources.unlink(number)?;
            }
        }
        self.throw_away_leftovers()?;
        Ok(self.store.clean_up()?)
    }

    /// Takes up layers that were applied and not committed.
    fn find_unpacked(&self) -> Result<(), Error> {
        for record in self.records.all().iter().filter(|record| record.kind == Kind::Unpack) {
            match self.store.take_up_staged(&self.layer_id(record.number)?)? {
                Some(staged) => self.unpacks.found(record.number, staged),
                None if record.applied && record.layer.is_none() => {
                    tracing::error!(key = record.key, "the layer that was applied to a snapshot is gone");
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Takes up layers that a commit has published but not recorded: the next commit uses them.
    fn find_published(&self) -> Result<(), Error> {
        for trace in traces::of_set(&self.store, &self.set)? {
            let record = self.records.numbered(trace.number);
            let waits = record.is_some_and(|record| {
                record.kind == Kind::Unpack && record.applied && record.layer.is_none()
            });
            if let (What::Owned(layer), true) = (trace.what, waits) {
                self.records
                    .modify(trace.number, |record| Record { layer: Some(layer.clone()), ..record.clone() })?;
            }
        }
        Ok(())
    }

    /// Removes what has a snapshot's number but that snapshot does not need, or is gone: users first, then
    /// layers, children before parents.
    fn remove_unneeded(&self) -> Result<(), Error> {
        let mut unneeded = traces::of_set(&self.store, &self.set)?;
        unneeded.retain(|trace| !trace.is_needed(self.records.numbered(trace.number).as_deref()));
        let numbers: BTreeSet<u64> = unneeded.iter().map(|trace| trace.number).collect();
        let unnoted: Vec<u64> = numbers.difference(&self.records.pending()).copied().collect();
        if !unnoted.is_empty() {
            // Left by an earlier version. Mark them pending, so that they stay explained if this is
            // interrupted.
            self.records.begin(&unnoted)?;
        }
        unneeded.sort_by_cached_key(|trace| self.order(trace));
        let mut left = BTreeSet::new();
        for trace in unneeded {
            tracing::warn!(set = self.set, "removing what no snapshot needs: {trace}");
            if let Err(error) = self.remove_trace(&trace) {
                tracing::warn!(
                    set = self.set,
                    "cannot remove {trace}, the next start will: {}",
                    chain(&error)
                );
                left.insert(trace.number);
            }
        }
        for number in self.records.pending().difference(&left) {
            self.records.ended(*number);
        }
        Ok(())
    }

    fn order(&self, trace: &Trace) -> (u8, Reverse<usize>) {
        let depth = |id: &LayerId| self.store.chain_ids(id).map_or(0, |chain| chain.len());
        match &trace.what {
            What::Mount(_) => (0, Reverse(0)),
            What::Sandbox(_) => (1, Reverse(0)),
            What::Staged(_) => (2, Reverse(0)),
            What::Owned(id) => (3, Reverse(depth(id))),
        }
    }

    fn remove_trace(&self, trace: &Trace) -> Result<(), Error> {
        let owner = self.owner(trace.number)?;
        let removed = match &trace.what {
            // A sandbox belongs to its snapshot, and is removed with it.
            What::Mount(id) if id.as_str() == owner => self.store.abandon(id, &owner).map_err(Error::from),
            What::Mount(id) => self.store.unhold(id, &owner).map_err(Error::from),
            What::Sandbox(id) => self.store.remove(id).map_err(Error::from),
            What::Staged(id) => {
                self.store.take_up_staged(id)?.into_iter().for_each(windowsfilter::StagedLayer::discard);
                Ok(())
            }
            What::Owned(id) => self.images.disown_shared(id, &owner).map(drop).map_err(Error::from),
        };
        match removed {
            Err(Error::Store(error)) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes what was left of an import or sandbox that the last server was creating.
    fn remove_interrupted(&self) -> Result<(), Error> {
        for staged in self.store.staged()?.into_iter().filter(|staged| !staged.kept) {
            if naming::parts(staged.id.as_str()).is_some_and(|(set, _)| set == self.set) {
                tracing::warn!(set = self.set, "removing what was interrupted: {}-importing", staged.id);
                // Dropping it removes it, since no record needs it.
                drop(self.store.take_up_staged(&staged.id)?);
            }
        }
        Ok(())
    }

    /// Restores the mounts and links that one snapshot needs.
    fn restore_one(&self, record: &Record) -> Result<(), Error> {
        match (record.kind, &record.layer) {
            (Kind::Committed | Kind::Unpack, Some(layer)) => {
                let kind = self.store.record(layer)?.kind;
                if kind != LayerKind::Layer {
                    let (expected, actual) = (LayerKind::Layer.as_str(), kind.as_str());
                    return Err(
                        windowsfilter::Error::WrongKind { id: layer.clone(), expected, actual }.into()
                    );
                }
                Ok(self.store.own(layer, &self.owner(record.number)?)?)
            }
            _ => self.show(record).map(drop),
        }
    }
}
