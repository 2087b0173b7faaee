//! Unmounting a layer when its last user is gone.

use std::path::Path;

use crate::engine::Place;
use crate::error::{Error, ErrorKind};
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::lock::Lock;

impl LayerStore {
    /// Ends that `holder` needs `id` mounted; nothing changes if it does not. A layer without users is
    /// unmounted, even if somebody still has a file of it open: it then goes with the last such file.
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

    /// As [`Self::unhold`], of a sandbox that is to be removed: what was written to it last need not be
    /// saved, and readers, who may take minutes, are not waited for.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody reads it, mounts it or unmounts it; when it cannot be unmounted.
    pub fn abandon(&self, id: &LayerId, holder: &str) -> Result<(), Error> {
        let lock = |id: &LayerId| self.try_mount_lock(id)?.ok_or_else(|| Error::Busy { id: id.clone() });
        self.end_hold(id, holder, lock, |id| {
            self.engine.thaw(&self.place(id)?)?;
            self.detach(id)
        })
    }

    /// Ends that `holder` needs `id` mounted, and has it unmounted with `unmount` if there is no other user.
    /// `lock` gets the mount lock.
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

    /// Undoes one mount; the last one unmounts everything. A place where it was asked to appear goes first,
    /// the last of several.
    ///
    /// # Errors
    /// [`Error::NotMounted`]; a busy mount names who uses it, and stays mounted and counted.
    pub fn unmount(&self, id: &LayerId) -> Result<(), Error> {
        self.unmount_from(id, None)
    }

    /// As [`Self::unmount`], but undoes the mount that was asked to appear at `target`, if that is one.
    ///
    /// # Errors
    /// As there.
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

    /// Unmounts whatever is mounted for `id` and removes its directory.
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

    /// The answer is whether it was done. That something cannot be saved is an error only once: the kernel
    /// does not try a second time, so staying mounted would save nothing.
    pub(super) fn unprepare(&self, id: &LayerId, place: &Place, loss_was_said: bool) -> Result<bool, Error> {
        match self.engine.unprepare(place) {
            Ok(()) => Ok(true),
            Err(error) if error.is_loss() && loss_was_said => Ok(false),
            Err(error) if error.is_loss() => Err(error.with_undo(self.remember_loss(id))),
            Err(error) => Err(error),
        }
    }
}
