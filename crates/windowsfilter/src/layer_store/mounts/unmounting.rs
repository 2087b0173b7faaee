//! Unmounting a layer when its last user is gone.

use std::path::Path;

use crate::engine::Place;
use crate::error::{Error, ErrorKind};
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::lock::Lock;

impl LayerStore {
    /// Drops `holder`'s hold on `id`; no-op if it has none. A layer without users is unmounted, even if files
    /// in it are still open: the mount then ends when the last one is closed.
    ///
    /// # Errors
    /// When it cannot be unmounted.
    pub fn unhold(&self, id: &LayerId, holder: &str) -> Result<(), Error> {
        let lock = |id: &LayerId| self.mount_lock(id);
        self.end_hold(id, holder, lock, |id| match self.tear_down(id) {
            Err(error) if error.kind() == ErrorKind::InUse => self.detach(id),
            other => other,
        })
    }

    /// Like [`Self::unhold`], for a sandbox that is about to be removed: its last writes need not be saved,
    /// and it does not wait for readers, which may take minutes.
    ///
    /// # Errors
    /// [`Error::Busy`] while another process or thread reads, mounts or unmounts it; when it cannot be
    /// unmounted.
    pub fn abandon(&self, id: &LayerId, holder: &str) -> Result<(), Error> {
        let lock = |id: &LayerId| self.try_mount_lock(id)?.ok_or_else(|| Error::Busy { id: id.clone() });
        self.end_hold(id, holder, lock, |id| {
            self.engine.thaw(&self.place(id)?)?;
            self.detach(id)
        })
    }

    /// Drops `holder`'s hold on `id`, and calls `unmount` if it was the last user. `lock` takes the mount
    /// lock.
    fn end_hold(
        &self,
        id: &LayerId,
        holder: &str,
        lock: impl FnOnce(&LayerId) -> Result<Lock, Error>,
        unmount: impl FnOnce(&LayerId) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let id = self.resolve(id)?;
        if !self.is_known(&id) {
            return Ok(());
        }
        let _lock = lock(&id)?.for_changes()?;
        let mut state = self.mounts(&id)?;
        if !state.holders.remove(holder) {
            return Ok(());
        }
        if state.users() > 0 { self.save_mounts(&id, &state) } else { unmount(&id) }
    }

    /// Unmounts `id` although it is in use.
    fn detach(&self, id: &LayerId) -> Result<(), Error> {
        let place = self.place(id)?;
        self.engine.detach(&place)?;
        self.forget(&place)
    }

    /// Undoes one mount; the last one unmounts everything. Also unbinds the latest target, if there is one.
    ///
    /// # Errors
    /// [`Error::NotMounted`]; a layer in use stays mounted and counted, and the error names its users.
    pub fn unmount(&self, id: &LayerId) -> Result<(), Error> {
        self.unmount_from(id, None)
    }

    /// Like [`Self::unmount`], but unbinds `target`, if it is one of the layer's targets.
    ///
    /// # Errors
    /// As [`Self::unmount`].
    pub fn unmount_from(&self, id: &LayerId, target: Option<&Path>) -> Result<(), Error> {
        let id = self.resolve(id)?;
        if !self.is_known(&id) {
            return Err(Error::NoSuchLayer { id: id.to_string() });
        }
        let _lock = self.mount_lock(&id)?.for_changes()?;
        let mut state = self.mounts(&id)?;
        if state.count == 0 {
            if let Some(by) = self.used_elsewhere(&self.place(&id)?)? {
                return Err(Error::InUse { id, by });
            }
            if state.users() == 0 {
                self.tear_down(&id)?;
            }
            return Err(if self.contains(&id) {
                Error::NotMounted { id }
            } else {
                Error::NoSuchLayer { id: id.to_string() }
            });
        }
        let asked = target.and_then(|target| state.targets.iter().position(|place| place == target));
        if let Some(number) = asked.or(state.targets.len().checked_sub(1)) {
            self.engine.unbind(&state.targets[number])?;
            state.targets.remove(number);
        }
        if state.users() > 1 {
            state.count -= 1;
            return self.save_mounts(&id, &state);
        }
        self.tear_down(&id)
    }

    /// Unmounts everything of `id` and removes its mount directory.
    pub(in crate::layer_store) fn tear_down(&self, id: &LayerId) -> Result<(), Error> {
        let place = self.place(id)?;
        if !place.mounts.exists() {
            return Ok(());
        }
        let mut state = self.mounts(id)?;
        if state.users() == 0 {
            return self.clear(id);
        }
        for target in state.targets.iter().rev() {
            self.engine.unbind(target)?;
        }
        let loss_was_said = self.loss_was_said(id);
        let unprepared = state.unprepared || self.unprepare(id, &place, loss_was_said)?;
        if loss_was_said {
            tracing::warn!("{id} is unmounted without what could not be saved before");
        }
        if let Err(error) = self.engine.deactivate(&place) {
            state.unprepared = unprepared;
            return Err(error.with_undo(self.save_mounts(id, &state)));
        }
        self.forget(&place)
    }

    /// Returns whether the layer was unprepared. A lost write is reported only once: the kernel does not
    /// retry, so staying mounted would save nothing, and the next attempt unmounts.
    pub(super) fn unprepare(&self, id: &LayerId, place: &Place, loss_was_said: bool) -> Result<bool, Error> {
        match self.engine.unprepare(place) {
            Ok(()) => Ok(true),
            Err(error) if error.is_loss() && loss_was_said => Ok(false),
            Err(error) if error.is_loss() => Err(error.with_undo(self.remember_loss(id))),
            Err(error) => Err(error),
        }
    }
}
