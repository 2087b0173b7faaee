//! Mounting a layer, as a counted mount or for a named holder.

use std::fs;
use std::path::{Path, PathBuf};

use super::MountState;
use crate::error::{Error, ErrorKind, IoContext};
use crate::id::LayerId;
use crate::layer_store::LayerStore;

impl LayerStore {
    /// Mounts `id`: a layer read-only, a sandbox writable. Every call counts. With `target`, also binds the
    /// view there. Returns the path of the view, or the target.
    ///
    /// # Errors
    /// When mounting fails; everything done before is undone.
    pub fn mount(&self, id: &LayerId, target: Option<&Path>) -> Result<PathBuf, Error> {
        let target = target.map(|target| self.mount_point(target)).transpose()?;
        if let Some(target) = &target
            && let Some(shown) = self.mounted_at(target)?
        {
            // A second mount would hide the first, and each unmount would remove the wrong one.
            return Err(Error::TargetTaken { id: id.clone(), target: target.clone(), shown });
        }
        self.mount_and(id, |store, id, state, view| store.count_mount(id, state, view, target))
    }

    /// Mounts `id` for `holder` until [`Self::unhold`]. Repeated calls have no further effect, so a program
    /// that keeps records can restore its mounts from them after a crash of the program or the machine.
    ///
    /// # Errors
    /// As [`Self::mount`].
    pub fn hold(&self, id: &LayerId, holder: &str) -> Result<PathBuf, Error> {
        self.mount_and(id, |store, id, state, view| {
            if state.holders.insert(holder.to_owned()) {
                store.save_mounts(id, state)?;
            }
            Ok(view.to_owned())
        })
    }

    /// Like [`Self::hold`], but does not wait for readers of `id` if `holder` already holds it.
    ///
    /// # Errors
    /// As [`Self::mount`].
    pub fn hold_or_find(&self, id: &LayerId, holder: &str) -> Result<PathBuf, Error> {
        let known = self.resolve(id)?;
        self.record(&known)?;
        if self.try_mount_lock(&known)?.is_none() {
            let state = self.mounts(&known)?;
            if let Some(path) = state.path.filter(|_| state.holders.contains(holder)) {
                return Ok(path);
            }
        }
        // Free, or not held by `holder`. `hold` also thaws it if a reader froze it and died.
        self.hold(id, holder)
    }

    /// Mounts `id` unless it is mounted, then calls `record` to record the user; undoes the mount if that
    /// fails.
    fn mount_and<T>(
        &self,
        id: &LayerId,
        record: impl FnOnce(&Self, &LayerId, &mut MountState, &Path) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let id = self.resolve(id)?;
        self.record(&id)?;
        let _lock = self.mount_lock(&id)?.for_changes()?;
        let mut state = self.mounts(&id)?;
        let first = state.users() == 0;
        if first {
            self.check_mountable(&id)?;
            let was_there = self.place(&id)?.mounts.exists();
            let stale = |source| Error::StaleMount { id: id.clone(), source: Box::new(source) };
            self.clear(&id)
                .map_err(|error| if error.kind() == ErrorKind::InUse { stale(error) } else { error })?;
            self.cancel().check()?;
            let view = self.set_up(&id, was_there)?;
            let (namespace, boot) = (self.engine.namespace(), self.engine.boot());
            state = MountState { path: Some(view), namespace, boot, ..MountState::default() };
        } else if state.unprepared || !self.engine.is_prepared(&self.place(&id)?) {
            self.engine.prepare(&self.layer(&id)?)?;
            state.unprepared = false;
            self.save_mounts(&id, &state)?;
        } else {
            self.engine.thaw(&self.place(&id)?)?;
        }
        let view = state.path.clone().ok_or_else(|| Error::NotMounted { id: id.clone() })?;
        let recorded =
            self.cancel().check().map_err(Error::from).and_then(|()| record(self, &id, &mut state, &view));
        match recorded {
            Err(e) if first => Err(e.with_undo(self.tear_down(&id))),
            other => other,
        }
    }

    fn count_mount(
        &self,
        id: &LayerId,
        state: &mut MountState,
        view: &Path,
        target: Option<PathBuf>,
    ) -> Result<PathBuf, Error> {
        let before = state.clone();
        state.count += 1;
        let Some(target) = target else {
            self.save_mounts(id, state)?;
            return Ok(view.to_owned());
        };
        // Recorded first: a mount outside the store without a record would never be found again.
        state.targets.push(target.clone());
        self.save_mounts(id, state)?;
        match self.engine.bind(view, &target) {
            Ok(()) => Ok(target),
            Err(e) => Err(e.with_undo(self.save_mounts(id, &before))),
        }
    }

    /// The directory at `target`, resolved to the path that the mount table uses.
    fn mount_point(&self, target: &Path) -> Result<PathBuf, Error> {
        let place = target.canonicalize().at("find mount point", target)?;
        let refused = |reason: &str| Err(std::io::Error::other(reason)).at("mount on", target);
        if !place.is_dir() {
            return refused("it is not a directory");
        }
        let root = self.paths.root();
        if root.starts_with(&place) || place.starts_with(root) {
            return refused("the store is there, and would be hidden");
        }
        Ok(place)
    }

    /// Mounts `id`, which has no users, and returns the view. When a step fails, exactly the steps before it
    /// are undone. With `was_there`, a process that died had mounted it: if activating fails, its mount
    /// directory stays, so that the next attempt knows.
    fn set_up(&self, id: &LayerId, was_there: bool) -> Result<PathBuf, Error> {
        let layer = self.layer(id)?;
        let (place, dir) = (&layer.place, &layer.place.mounts);
        fs::create_dir_all(dir).at("create directory", dir)?;
        let remove = || self.forget(place);
        self.engine.activate(&layer).map_err(|e| if was_there { e } else { e.with_undo(remove()) })?;
        let deactivate = || self.engine.deactivate(place).and_then(|()| remove());
        self.engine.prepare(&layer).map_err(|e| e.with_undo(deactivate()))?;
        self.engine.mount_path(&layer).map_err(|e| {
            let unprepared = self.engine.unprepare(place);
            // Deactivate even if that failed, as the original does: undo as much as possible.
            let deactivated = deactivate();
            e.with_undo(unprepared.and(deactivated))
        })
    }

    /// Prepares for a mount: unmounts everything that a process left when it died.
    pub(super) fn clear(&self, id: &LayerId) -> Result<(), Error> {
        let place = self.place(id)?;
        if !place.mounts.exists() {
            return Ok(());
        }
        for target in self.recorded(id)?.targets.iter().rev() {
            self.engine.unbind(target)?;
        }
        match self.engine.reset(&place) {
            // The process that wrote it is gone and cannot be told.
            Err(error) if error.is_loss() => {
                tracing::warn!("what was written to {id} last is lost: {error}");
                self.engine.deactivate(&place)?;
            }
            other => other?,
        }
        self.forget(&place)
    }
}
