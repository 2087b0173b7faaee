//! The start: the store and its mounts become what the records say, wherever the last server stopped.

use windowsfilter::{Driver, ErrorKind, LayerId, LayerKind, LayerStore};

use super::Snapshotter;
use crate::error::{Error, chain};
use crate::records::{Kind, Record};

impl Snapshotter {
    pub(super) fn restore(&self) -> Result<(), Error> {
        // First what somebody waits for with a lock that cleanup would take.
        self.find_unpacked()?;
        self.release_mounts()?;
        self.remove_sandboxes()?;
        self.release_layers()?;
        for record in self.records.all() {
            if let Err(error) = self.restore_one(&record) {
                let key = &record.key;
                tracing::error!(key, "a snapshot does not have what it needs: {}", chain(&error));
            }
        }
        for number in self.sources.linked()? {
            let shown = self.records.numbered(number);
            if !shown.is_some_and(|record| matches!(record.kind, Kind::View | Kind::Sandbox)) {
                self.sources.unlink(number)?;
            }
        }
        Ok(self.store.cleanup()?)
    }

    /// Layers that were applied and not committed.
    fn find_unpacked(&self) -> Result<(), Error> {
        for record in self.records.all().iter().filter(|record| record.kind == Kind::Unpack) {
            if let Some(staged) = self.store.resume(&self.layer_id(record.number)?)? {
                self.unpacks.found(record.number, staged);
            }
        }
        Ok(())
    }

    /// Mounts that were held for what is gone.
    fn release_mounts(&self) -> Result<(), Error> {
        for (layer, holders) in self.store.held()? {
            for holder in holders {
                let Some(number) = self.owned_by(&holder) else { continue };
                let needed = self.records.numbered(number).is_some_and(|record| match record.kind {
                    Kind::Sandbox => layer.as_str() == holder,
                    Kind::View => record.layer.as_ref() == Some(&layer),
                    Kind::Unpack | Kind::Committed => false,
                });
                if needed {
                    continue;
                }
                // A sandbox is its snapshot's own, and goes with it.
                let is_sandbox = layer.as_str() == holder;
                let end = if is_sandbox { LayerStore::abandon } else { LayerStore::release };
                self.report(&layer, end(self.store, &layer, &holder));
            }
        }
        Ok(())
    }

    /// Sandboxes that are no snapshot's.
    fn remove_sandboxes(&self) -> Result<(), Error> {
        for id in self.store.layers()? {
            let Some(number) = self.owned_by(id.as_str()) else { continue };
            let needed = self.records.numbered(number).is_some_and(|record| record.kind == Kind::Sandbox);
            if !needed {
                self.report(&id, self.store.remove(&id));
            }
        }
        Ok(())
    }

    /// Layers that belong to what is gone; those on top first.
    fn release_layers(&self) -> Result<(), Error> {
        let mut released = Vec::new();
        for id in self.store.layers()? {
            for owner in self.store.owners(&id).unwrap_or_default() {
                let Some(number) = self.owned_by(&owner) else { continue };
                let needed = self.records.numbered(number).is_some_and(|record| {
                    record.kind == Kind::Committed && record.layer.as_ref() == Some(&id)
                });
                if !needed {
                    released.push((
                        self.store.chain_ids(&id).map_or(0, |chain| chain.len()),
                        id.clone(),
                        owner,
                    ));
                }
            }
        }
        released.sort_by_key(|(depth, ..)| std::cmp::Reverse(*depth));
        let images = self.images()?;
        for (_, id, owner) in released {
            self.report(&id, images.release_shared(&id, &owner));
        }
        Ok(())
    }

    /// Makes what one snapshot needs true again.
    fn restore_one(&self, record: &Record) -> Result<(), Error> {
        match (record.kind, &record.layer) {
            (Kind::Committed, Some(layer)) => {
                let kind = self.store.record(layer)?.kind;
                if kind != LayerKind::Layer {
                    let (expected, actual) = (LayerKind::Layer.as_str(), kind.as_str());
                    return Err(
                        windowsfilter::Error::WrongKind { id: layer.clone(), expected, actual }.into()
                    );
                }
                Ok(self.store.own(layer, &self.owner(record.number))?)
            }
            _ => self.show(record).map(drop),
        }
    }

    /// Says what could not be put right; the start goes on, and the next one tries again.
    fn report<T, E: Into<Error>>(&self, id: &LayerId, result: Result<T, E>) {
        if let Err(error) = result {
            let error = error.into();
            let gone = matches!(&error, Error::Store(error) if error.kind() == ErrorKind::NotFound);
            if !gone {
                tracing::warn!(
                    set = self.set,
                    "cannot remove what a snapshot left of {id}: {}",
                    chain(&error)
                );
            }
        }
    }
}
