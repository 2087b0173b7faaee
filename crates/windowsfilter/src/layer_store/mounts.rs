//! Mounting, counted across processes and restarts.
//!
//! `mounts/<id>/state.json` says how often a layer was mounted and where; the kernel's mount table says what
//! is true. A record of another boot, or one whose mount is gone, counts as nothing. The original keeps its
//! count in memory, so after a crash of the daemon it believes that nothing is mounted (`windows.go`,
//! `checker`).
//!
//! ```text
//! mounts/<id>/            the engine's mounts
//! mounts/<id>.lock        held while mounting, unmounting, and reading a sandbox
//! ```
//!
//! Other mount namespaces have a copy of each mount that was there when they were made, and a container may
//! mount what the others do not see. So what is not mounted *here* may be in use: the kernel is asked
//! ([`crate::engine::Engine::in_use`]). A mount point whose mount may be another namespace's is never
//! removed, for it would take that mount with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::LayerStore;
use crate::engine::Place;
#[cfg(target_os = "linux")]
use crate::engine::portable::linux::LinuxError;
use crate::error::{Error, ErrorKind, IoContext};
use crate::id::LayerId;
use crate::lock::{self, Lock};
use crate::path_text;
use crate::record::{self, LayerKind, LayerRecord};
use crate::remove_tree::remove_tree;
use crate::scanners;
use crate::sealed;
use crate::store;

const STATE: &str = "state.json";
/// Version of it that this code writes and reads.
const STATE_VERSION: u32 = 1;

/// How a layer is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MountState {
    /// Mounts not yet undone.
    pub count: u64,
    /// The view, if it is mounted.
    #[serde(with = "path_text::option")]
    pub path: Option<PathBuf>,
    /// Further places it was asked to appear at, in order.
    #[serde(with = "path_text::list")]
    pub targets: Vec<PathBuf>,
    /// Who mounted it once and for all, by name, see [`LayerStore::hold`].
    #[serde(default)]
    pub holders: BTreeSet<String>,
    /// Half unmounted: the next attempt goes on from there.
    #[serde(default)]
    unprepared: bool,
    /// The mount namespace in which it was mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<u64>,
    /// The boot in which this was true.
    boot: String,
}

impl MountState {
    /// How many need it mounted.
    pub fn users(&self) -> u64 {
        self.count + self.holders.len() as u64
    }
}

impl LayerStore {
    /// Held while `id`'s mounts change or its sandbox is read.
    pub(super) fn mount_lock(&self, id: &LayerId) -> Result<Lock, Error> {
        let path = lock::beside(&self.paths.mount(id));
        loop {
            let lock = lock::exclusive(&path, &format!("layer {id}"), self.cancel())?;
            // Whoever removed the layer while we waited has removed the lock's name: others would lock
            // another file.
            if !lock.still_at(&path) {
                continue;
            }
            return match self.unless_gone(id, &path, lock) {
                Some(lock) => Ok(lock),
                None => Err(Error::NoSuchLayer { id: id.to_string() }),
            };
        }
    }

    /// As [`Self::mount_lock`], but `None` if somebody holds it, or the layer is gone.
    pub(super) fn try_mount_lock(&self, id: &LayerId) -> Result<Option<Lock>, Error> {
        let path = lock::beside(&self.paths.mount(id));
        loop {
            match lock::try_exclusive(&path)? {
                Some(lock) if lock.still_at(&path) => return Ok(self.unless_gone(id, &path, lock)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The lock, unless it was made for a layer that turned out to be gone: then it goes, too, or its name
    /// would stay for ever.
    fn unless_gone(&self, id: &LayerId, path: &Path, lock: Lock) -> Option<Lock> {
        if self.is_known(id) {
            return Some(lock);
        }
        if let Err(error) = store::remove_file(path) {
            tracing::debug!("{error}; cleanup will");
        }
        None
    }

    /// The lock of a layer that is gone, if it is there and free.
    pub(super) fn try_lock_of_gone_layer(&self, id: &LayerId) -> Result<Option<Lock>, Error> {
        let path = lock::beside(&self.paths.mount(id));
        let lock = lock::try_existing(&path)?;
        Ok(lock.filter(|lock| lock.still_at(&path) && !self.is_known(id)))
    }

    /// Whether there is or was something to mount: where not, no lock is made either.
    fn is_known(&self, id: &LayerId) -> bool {
        self.contains(id) || self.paths.mount(id).exists()
    }

    /// How `id` is mounted now.
    ///
    /// # Errors
    /// When the record or the mount table cannot be read.
    pub fn mounts(&self, id: &LayerId) -> Result<MountState, Error> {
        let state = self.recorded(id)?;
        let alive = match state.path.as_deref() {
            // What a reader could not put back may show nothing, and is its users' all the same: the next
            // mount mends it.
            Some(path) => self.engine.is_mounted(path)? || !self.engine.is_prepared(&self.place(id)?),
            None => false,
        };
        Ok(if alive { state } else { MountState::default() })
    }

    /// Refuses a layer that is mounted, here or where this process does not see it.
    ///
    /// # Errors
    /// [`Error::Mounted`], [`Error::InUse`].
    pub fn ensure_unused(&self, id: &LayerId) -> Result<(), Error> {
        let place = self.place(id)?;
        let state = self.mounts(&place.id)?;
        if state.users() > 0 {
            return Err(Error::Mounted { path: state.path.unwrap_or(place.mounts), id: place.id });
        }
        self.ensure_free(&place)
    }

    /// Refuses a layer that the kernel has in use, once those had a moment who are about to end.
    pub(super) fn ensure_free(&self, place: &Place) -> Result<(), Error> {
        match self.engine.stays_in_use(place)? {
            Some(by) => Err(Error::InUse { id: place.id.clone(), by }),
            None => Ok(()),
        }
    }

    /// Refuses, before anything is changed, what somebody has mounted where this process does not see it. A
    /// sandbox is nobody else's while it is mounted; a view may be mounted anew, unless its mounts are
    /// counted in another namespace.
    fn check_mountable(&self, id: &LayerId) -> Result<(), Error> {
        let place = self.place(id)?;
        if self.engine.has_mounts(&place)? {
            return Ok(());
        }
        if self.record(id)?.kind == LayerKind::Sandbox {
            return self.ensure_free(&place);
        }
        match self.used_elsewhere(&place)? {
            Some(by) => Err(Error::InUse { id: place.id, by }),
            None => Ok(()),
        }
    }

    /// Who has `id` mounted where this process does not see it. Nobody's is a view that was mounted here and
    /// taken off by hand, though other namespaces may have copies of it: whoever mounts it again disturbs
    /// none of them.
    pub(super) fn used_elsewhere(&self, place: &Place) -> Result<Option<String>, Error> {
        let recorded = self.recorded(&place.id)?;
        if recorded.users() == 0 || self.engine.has_mounts(place)? {
            return Ok(None);
        }
        let is_sandbox = self.record(&place.id).is_ok_and(|record| record.kind == LayerKind::Sandbox);
        if is_sandbox || self.is_of_another_namespace(&recorded) {
            self.engine.in_use(place)
        } else {
            Ok(None)
        }
    }

    fn is_of_another_namespace(&self, state: &MountState) -> bool {
        state.namespace.is_some() && state.namespace != self.engine.namespace()
    }

    /// Whether the directory of `id`'s mounts is there for other namespaces' sake only: nothing is mounted
    /// here, and the record says so.
    pub(super) fn is_left_for_others(&self, id: &LayerId) -> Result<bool, Error> {
        let place = self.place(id)?;
        let has_record = self.mount_record_problem(id)?.is_none() && place.mounts.join(STATE).exists();
        let state = self.recorded(id)?;
        Ok(has_record
            && state.boot == self.engine.boot()
            && state.users() == 0
            && !self.engine.has_mounts(&place)?)
    }

    /// Ends the record of mounts that are off here, and removes their directory unless others may have mounts
    /// on it.
    fn forget(&self, place: &Place) -> Result<(), Error> {
        if !place.mounts.exists() {
            return Ok(());
        }
        let Some(by) = self.lasting_use(place)? else {
            return remove_tree(&place.mounts).at("remove", &place.mounts);
        };
        let recorded = self.recorded(&place.id)?;
        if recorded.users() > 0 && self.is_of_another_namespace(&recorded) {
            // It counts those mounts.
            return Ok(());
        }
        tracing::debug!("{} stays for now: {} is in use{by}", place.mounts.display(), place.id);
        self.save_mounts(&place.id, &MountState { boot: self.engine.boot(), ..MountState::default() })
    }

    /// Who uses `place`, but for those who are gone in a moment, such as a search through all loop devices.
    fn lasting_use(&self, place: &Place) -> Result<Option<String>, Error> {
        for _ in 0..10 {
            if self.engine.in_use(place)?.is_none() {
                return Ok(None);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.engine.in_use(place)
    }

    /// What the record says that was written since the machine started.
    fn recorded(&self, id: &LayerId) -> Result<MountState, Error> {
        let path = self.paths.mount(id).join(STATE);
        let Some(content) = store::read_file(&path)? else { return Ok(MountState::default()) };
        // A record cut short by a crash says as little as none; the mount table knows what is mounted.
        let state: MountState = sealed::unseal(STATE_VERSION, &content).unwrap_or_default();
        Ok(if state.boot == self.engine.boot() { state } else { MountState::default() })
    }

    /// Whether `id` was mounted when the machine was stopped or crashed.
    pub(super) fn is_of_another_boot(&self, id: &LayerId) -> Result<bool, Error> {
        let path = self.paths.mount(id).join(STATE);
        let Some(content) = store::read_file(&path)? else { return Ok(false) };
        let state = sealed::unseal::<MountState>(STATE_VERSION, &content);
        Ok(state.is_ok_and(|state| state.boot != self.engine.boot()))
    }

    /// What is wrong with the record of `id`'s mounts, if it cannot be read and so counts as none.
    pub(super) fn mount_record_problem(&self, id: &LayerId) -> Result<Option<String>, Error> {
        let path = self.paths.mount(id).join(STATE);
        let Some(content) = store::read_file(&path)? else { return Ok(None) };
        let problem = sealed::unseal::<MountState>(STATE_VERSION, &content).err();
        Ok(problem
            .map(|problem| format!("the mounts of {id} cannot be known: {}: {problem}", path.display())))
    }

    fn save_mounts(&self, id: &LayerId, state: &MountState) -> Result<(), Error> {
        let path = self.paths.mount(id).join(STATE);
        let text = sealed::seal(STATE_VERSION, state).at("write", &path)?;
        // Mounts do not outlive the machine, so their record needs no sync; the rename keeps it whole.
        let temp = path.with_extension("new");
        fs::write(&temp, text).at("write", &temp)?;
        scanners::replace(&temp, &path).at("replace", &path)
    }

    /// Mounts `id`: a layer read-only, a sandbox writable. Every call counts. With `target` the view also
    /// appears there. Returns where it is to be found.
    ///
    /// # Errors
    /// What could not be mounted and why; everything done before is undone.
    pub fn mount(&self, id: &LayerId, target: Option<&Path>) -> Result<PathBuf, Error> {
        let target = target.map(|target| self.mount_point(target)).transpose()?;
        if let Some(target) = &target
            && let Some(shown) = self.mounted_at(target)?
        {
            // A second one would hide the first, and each unmount would take off the wrong one.
            return Err(Error::TargetTaken { id: id.clone(), target: target.clone(), shown });
        }
        self.mount_and(id, |store, id, state, view| store.count_mount(id, state, view, target))
    }

    /// Mounts `id` for `holder`, who needs it mounted until [`Self::release`]. Any number of calls is as good
    /// as one: so a program that keeps records can bring the mounts in line with them after a crash of it or
    /// of the machine.
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

    /// As [`Self::hold`], but waits for nobody who reads `id` if `holder` has it mounted.
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
        // Nobody reads it: if one who did died, it goes on again.
        self.hold(id, holder)
    }

    /// Ends that `holder` needs `id` mounted; nothing changes if it does not. What nobody needs any more is
    /// unmounted, even if somebody still has a file of it open: it then goes with the last such file.
    ///
    /// # Errors
    /// When it cannot be unmounted.
    pub fn release(&self, id: &LayerId, holder: &str) -> Result<(), Error> {
        let lock = |id: &LayerId| self.mount_lock(id);
        self.end_hold(id, holder, lock, |id| match self.tear_down(id) {
            Err(error) if error.kind() == ErrorKind::InUse => self.detach(id),
            other => other,
        })
    }

    /// As [`Self::release`], of a sandbox that is to be removed: what was written to it last need not be
    /// saved, and nobody is waited for, who may be reading it for minutes.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody reads it, mounts it or unmounts it; when it cannot be unmounted.
    pub fn abandon(&self, id: &LayerId, holder: &str) -> Result<(), Error> {
        let lock = |id: &LayerId| self.try_mount_lock(id)?.ok_or_else(|| Error::Busy { id: id.clone() });
        self.end_hold(id, holder, lock, |id| {
            self.engine.resume(&self.place(id)?)?;
            self.detach(id)
        })
    }

    /// Ends that `holder` needs `id` mounted, and has it unmounted with `unmount` if nobody else does. `lock`
    /// gets the mount lock.
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

    /// What is mounted at `path`, as a view or where a mount was asked to appear.
    ///
    /// # Errors
    /// When the records of mounts cannot be read.
    pub fn mounted_at(&self, path: &Path) -> Result<Option<LayerId>, Error> {
        for id in self.mount_directories()? {
            let state = self.mounts(&id)?;
            if state.path.iter().chain(&state.targets).any(|place| place == path) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Whom `id` is held by, for all that are mounted.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn held(&self) -> Result<Vec<(LayerId, BTreeSet<String>)>, Error> {
        let mut held = Vec::new();
        for id in self.mount_directories()? {
            let holders = self.mounts(&id)?.holders;
            if !holders.is_empty() {
                held.push((id, holders));
            }
        }
        Ok(held)
    }

    /// Mounts `id` unless it is mounted, and records with `record` for whom; undoes the mount if that fails.
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
            self.engine.resume(&self.place(&id)?)?;
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
        // Recorded first: of a mount outside the store that nobody has recorded, nobody would ever know.
        state.targets.push(target.clone());
        self.save_mounts(id, state)?;
        match self.engine.show_at(view, &target) {
            Ok(()) => Ok(target),
            Err(e) => Err(e.with_undo(self.save_mounts(id, &before))),
        }
    }

    /// The directory at `target`, by the name that the mount table has for it.
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

    /// Mounts for the first time; returns the view. What was done is undone, and no more than that, when the
    /// next step fails. `was_there` says that a process that died had mounted it: should it still be mounted,
    /// that stays known to the next attempt.
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
            // As the original does, even if the first failed: what can be undone is.
            let deactivated = deactivate();
            e.with_undo(unprepared.and(deactivated))
        })
    }

    /// Makes room for a mount: takes off whatever a process that died has left.
    fn clear(&self, id: &LayerId) -> Result<(), Error> {
        let place = self.place(id)?;
        if !place.mounts.exists() {
            return Ok(());
        }
        for target in self.recorded(id)?.targets.iter().rev() {
            self.engine.hide_at(target)?;
        }
        match self.engine.reset(&place) {
            // Nobody can be told who would know what was written.
            Err(error) if error.is_loss() => {
                tracing::warn!("what was written to {id} last is lost: {error}");
                self.engine.deactivate(&place)?;
            }
            other => other?,
        }
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
            self.engine.hide_at(&state.targets[number])?;
            state.targets.remove(number);
        }
        if state.users() > 1 {
            state.count -= 1;
            return self.save_mounts(&id, &state);
        }
        self.tear_down(&id)
    }

    /// Unmounts whatever is mounted for `id` and removes its directory.
    pub(super) fn tear_down(&self, id: &LayerId) -> Result<(), Error> {
        let place = self.place(id)?;
        if !place.mounts.exists() {
            return Ok(());
        }
        let mut state = self.mounts(id)?;
        if state.users() == 0 {
            return self.clear(id);
        }
        for target in state.targets.iter().rev() {
            self.engine.hide_at(target)?;
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
    fn unprepare(&self, id: &LayerId, place: &Place, loss_was_said: bool) -> Result<bool, Error> {
        match self.engine.unprepare(place) {
            Ok(()) => Ok(true),
            Err(error) if error.is_loss() && loss_was_said => Ok(false),
            Err(error) if error.is_loss() => Err(error.with_undo(self.remember_loss(id))),
            Err(error) => Err(error),
        }
    }

    /// Remembers that the user was told of a loss: the record becomes read-only, which needs no room, as
    /// anything written would on a disk that may be full. The next record, after another mount, is writable
    /// again.
    fn remember_loss(&self, id: &LayerId) -> Result<(), Error> {
        let path = self.paths.mount(id).join(STATE);
        let mut permissions = fs::metadata(&path).at("look at", &path)?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).at("change the mode of", &path)
    }

    fn loss_was_said(&self, id: &LayerId) -> bool {
        let record = fs::metadata(self.paths.mount(id).join(STATE));
        record.is_ok_and(|record| record.permissions().readonly())
    }

    /// Makes a sandbox larger, mounted or not; it cannot shrink.
    ///
    /// # Errors
    /// [`Error::WrongKind`] unless it is a sandbox; a size smaller than it has; what the host does not
    /// permit. Its size stays.
    pub fn expand(&self, id: &LayerId, size: u64) -> Result<(), Error> {
        let place = self.place(id)?;
        self.expect_kind(&place.id, LayerKind::Sandbox)?;
        let _lock = self.mount_lock(&place.id)?.for_changes()?;
        let record = self.expect_kind(&place.id, LayerKind::Sandbox)?;
        self.engine.expand(&place, size).map_err(|error| match error {
            #[cfg(target_os = "linux")]
            Error::Linux(LinuxError::SandboxShrink { current, requested, .. }) => {
                Error::SandboxShrink { id: place.id.clone(), size: current, asked: requested }
            }
            other => other,
        })?;
        // Written last: should this fail, asking for the same size again only writes it.
        let record = LayerRecord { sandbox_size: Some(size), ..record };
        record::replace_record(&place.dir, &record, &self.paths.temporaries())
    }
}
