//! Remove, and releasing what a snapshot needs of the store.

use std::sync::PoisonError;

use super::Snapshotter;
use crate::error::{Error, chain};
use crate::records::{Kind, Record, State};
use crate::stop::Stop;

impl Snapshotter {
    /// Removes a snapshot; stops a running Apply for it and waits for its end. Unmounts even mounts that
    /// are in use.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], [`Error::HasChildren`].
    pub(crate) fn remove(&self, key: &str, stop: &Stop) -> Result<(), Error> {
        let _claim = self.claims.claim(&[key], stop)?;
        let record = self.records.get(key)?;
        self.records.remove(&record, |state| check(state, key))?;
        self.release(Record::clone(&record));
        Ok(())
    }

    /// Releases what a record needed that is no longer, or was never, written. On failure, the background
    /// work (every few seconds), Cleanup and the next start try again: for containerd the snapshot is gone.
    pub(super) fn release(&self, record: Record) {
        match self.try_release(&record) {
            Ok(()) => self.records.ended(record.number),
            Err(error) => {
                let (key, number) = (&record.key, record.number);
                tracing::warn!(
                    key,
                    number,
                    "a removed snapshot has left something, for now: {}",
                    chain(&error)
                );
                self.remember(record);
            }
        }
    }

    fn remember(&self, record: Record) {
        self.remains.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn try_release(&self, record: &Record) -> Result<(), Error> {
        let owner = self.owner(record.number)?;
        match (record.kind, &record.layer) {
            (Kind::Unpack, layer) => {
                self.unpacks.discard(record.number);
                if record.thrown {
                    self.throw_away(record.number)?;
                }
                if let Some(layer) = layer {
                    self.images.disown_shared(layer, &owner)?;
                }
            }
            (Kind::View, layer) => {
                self.sources.unlink(record.number)?;
                if let Some(layer) = layer {
                    self.store.unhold(layer, &owner)?;
                }
            }
            (Kind::Sandbox, _) => {
                self.sources.unlink(record.number)?;
                let id = self.layer_id(record.number)?;
                self.store.abandon(&id, &owner)?;
                if self.store.contains(&id) {
                    self.store.remove_abandoned(&id)?;
                }
            }
            (Kind::Committed, Some(layer)) => {
                self.images.disown_shared(layer, &owner)?;
            }
            (Kind::Committed, None) => {}
        }
        Ok(())
    }

    /// Retries what failed before: releases the remains of removed snapshots and refills the records'
    /// reserve.
    pub(crate) fn tidy(&self) {
        self.remove_remains();
        self.records.keep_room();
    }

    fn remove_remains(&self) {
        let mut remains = std::mem::take(&mut *self.remains.lock().unwrap_or_else(PoisonError::into_inner));
        // Children first: a layer's children have higher numbers.
        remains.sort_by_key(|record| std::cmp::Reverse(record.number));
        for record in remains {
            match self.try_release(&record) {
                Ok(()) => self.records.ended(record.number),
                Err(error) => {
                    let key = &record.key;
                    tracing::debug!(key, "what a removed snapshot left is still there: {}", chain(&error));
                    self.remember(record);
                }
            }
        }
    }
}

fn check(state: &State, key: &str) -> Result<(), Error> {
    match state.child_of(key) {
        Some(child) => Err(Error::HasChildren { key: key.into(), child: child.short_key() }),
        None => Ok(()),
    }
}
