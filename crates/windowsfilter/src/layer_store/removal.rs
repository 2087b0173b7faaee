//! How layers go: out of sight by one rename, then their bytes; and what interrupted removals and imports leave.

use std::fs;
#[cfg(unix)]
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LayerStore;
use super::fsck::chain_text;
use super::staging::is_kept;
use crate::engine::Engine;
#[cfg(target_os = "linux")]
use crate::engine::portable::linux::sandbox_image;
use crate::error::{Error, IoContext};
use crate::id::{LayerId, REMOVING};
use crate::lock::{self, Lock};
use crate::record::LayerKind;
use crate::remove_tree::remove_tree;
use crate::store;

/// A layer that is out of the store already, but whose bytes are still there.
///
/// It is locked: cleanup and fsck leave it to whoever holds this, in any process that the lock was passed on to.
#[derive(Debug)]
pub struct Doomed {
    dir: PathBuf,
    lock: Lock,
    engine: Arc<dyn Engine>,
}

/// What is done with the bytes of a removed layer. Freeing gigabytes takes a file system longer than anybody likes to wait.
/// An error is the removal's, though the layer is gone by then.
pub type Reclaimer = fn(Doomed) -> Result<(), Error>;

impl Doomed {
    /// Where the bytes are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Deletes the bytes.
    ///
    /// # Errors
    /// [`Error::Leftover`]: the layer is gone already, cleanup will come back for its bytes.
    pub fn destroy(self) -> Result<(), Error> {
        let destroyed = self.engine.destroy(&self.dir);
        drop(self.lock);
        destroyed.map_err(|error| Error::Leftover { dir: self.dir, source: Box::new(error) })
    }

    /// Leaves the bytes to whoever gets the lock: the directory, open and locked. As long as any copy of the descriptor is open,
    /// nobody else touches it. On Windows a lock is of one process and cannot be passed on.
    #[cfg(unix)]
    pub fn into_lock(self) -> File {
        self.lock.into_file()
    }
}

/// What those who use a layer without being counted mean to its removal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Users {
    /// The layer stays.
    Keep,
    /// It goes.
    DoNotCount,
}

/// Who stands on a layer.
#[derive(Default)]
struct Children {
    certain: Vec<LayerId>,
    /// Those whose chains cannot be read.
    possible: Vec<LayerId>,
}

impl LayerStore {
    /// Removes a layer that nobody but `owner` owns. It is owned until it is gone: whatever interrupts this, its owner finds it or finds nothing.
    ///
    /// # Errors
    /// As [`crate::Driver::remove`]; [`Error::Owned`] by others.
    pub fn remove_owned(&self, id: &LayerId, owner: &str) -> Result<(), Error> {
        self.remove_layer(id, Some(owner), Users::Keep)
    }

    /// Removes a sandbox although somebody may still use it whose mounts are not counted: a process in one that [`Self::abandon`] took off, or another
    /// mount namespace. They keep what they have until they end. For programs that know that nobody needs it any more.
    ///
    /// # Errors
    /// As [`crate::Driver::remove`].
    pub fn remove_abandoned(&self, id: &LayerId) -> Result<(), Error> {
        self.remove_layer(id, None, Users::DoNotCount)
    }

    pub(super) fn remove_layer(&self, id: &LayerId, owner: Option<&str>, users: Users) -> Result<(), Error> {
        let id = self.resolve(id)?;
        let dir = self.paths.layer(&id);
        if !dir.is_dir() {
            return Err(Error::NoSuchLayer { id: id.to_string() });
        }
        let Some(mount_lock) = self.try_mount_lock(&id)? else {
            return Err(if dir.is_dir() {
                Error::Busy { id }
            } else {
                Error::NoSuchLayer { id: id.to_string() }
            });
        };
        let state = self.mounts(&id)?;
        if state.users() > 0 {
            return Err(Error::Mounted { path: state.path.unwrap_or_else(|| self.paths.mount(&id)), id });
        }
        self.tear_down(&id)?;
        self.lock().and_then(|_store_lock| self.check_removable(&id, owner))?;
        if users == Users::Keep {
            self.ensure_free(&self.place(&id)?)?;
        }
        self.engine.release(&self.place(&id)?)?;
        let doomed = self.hide(&id, &dir, owner)?;
        let lock_file = lock::beside(&self.paths.mount(&id));
        let reclaimed = (self.reclaimer)(doomed);
        match fs::remove_file(&lock_file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {e}", lock_file.display());
            }
            _ => {}
        }
        drop(mount_lock);
        reclaimed
    }

    /// Refuses a layer that something needs, or somebody else than `owner`. The caller holds the store lock, so no layer comes or goes meanwhile.
    fn check_removable(&self, id: &LayerId, owner: Option<&str>) -> Result<(), Error> {
        let Children { certain, possible } = self.children(id)?;
        if !certain.is_empty() {
            return Err(Error::HasChildren { id: id.clone(), children: certain });
        }
        if !possible.is_empty() {
            return Err(Error::MaybeNeeded { id: id.clone(), unreadable: possible });
        }
        let mut owners = self.owners(id)?;
        owners.retain(|other| Some(other.as_str()) != owner);
        if !owners.is_empty() {
            return Err(Error::Owned { id: id.clone(), owners: owners.into_iter().collect() });
        }
        Ok(())
    }

    /// Takes the layer out of the store, unless something stands on it or it belongs to others than `owner`. From here on it is gone, whatever
    /// happens to its bytes.
    fn hide(&self, id: &LayerId, dir: &Path, owner: Option<&str>) -> Result<Doomed, Error> {
        let Some(lock) = self.paths.try_lock_directory(dir)? else {
            return Err(Error::Busy { id: id.clone() });
        };
        let _store_lock = self.lock()?;
        self.check_removable(id, owner)?;
        let doomed = self.removing_name(id);
        let renamed = self.paths.lock_new_name(&doomed)?;
        self.engine.hide(&self.place(id)?, &doomed)?;
        match store::sync_dir(&self.paths.layers()) {
            Ok(()) => {
                Ok(Doomed { dir: doomed, lock: renamed.unwrap_or(lock), engine: Arc::clone(&self.engine) })
            }
            // Deleting the bytes of a layer that may come back under its name would damage it.
            Err(e) => Err(e.with_undo(fs::rename(&doomed, dir).at("put back", dir))),
        }
    }

    /// A name no leftover of an earlier removal has; the original's fixed name makes the second removal fail.
    pub(super) fn removing_name(&self, id: &LayerId) -> PathBuf {
        let name = |n: u32| match n {
            0 => format!("{id}{REMOVING}"),
            n => format!("{id}.{n}{REMOVING}"),
        };
        (0..=u32::MAX)
            .map(|n| self.paths.layers().join(name(n)))
            .find(|path| !path.exists())
            .expect("a directory holds fewer than 2^32 names")
    }

    /// Layers and sandboxes that have `id` in their chain, or may have it.
    fn children(&self, id: &LayerId) -> Result<Children, Error> {
        let mut found = Children::default();
        let mut unreadable = Vec::new();
        for other in self.layers()?.into_iter().filter(|other| other != id) {
            match self.chain_ids(&other) {
                Ok(chain) if chain.contains(id) => found.certain.push(other),
                Ok(_) | Err(Error::NoSuchLayer { .. }) => {}
                Err(_) => unreadable.push(other),
            }
        }
        if let Some(below) = self.chain_below(id)? {
            found.possible = unreadable.into_iter().filter(|other| !below.contains(other)).collect();
        }
        Ok(found)
    }

    /// What certainly does not stand on `id`: its own chain. `None` if nothing does: no layer stands on a sandbox, and two damaged
    /// layers, of which each may stand on the other, could else never be removed.
    fn chain_below(&self, id: &LayerId) -> Result<Option<Vec<LayerId>>, Error> {
        match self.chain_ids(id).and_then(|chain| Ok((chain, self.record(id)?.kind))) {
            Ok((chain, kind)) => Ok((kind != LayerKind::Sandbox).then_some(chain)),
            Err(Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn clean_up(&self) -> Result<(), Error> {
        for dir in self.leftovers()? {
            self.cancel().check()?;
            // Whoever writes it holds its lock; only the dead leave it free.
            match self.paths.try_lock_directory(&dir) {
                // Its maker may have said so until just now.
                Ok(Some(_lock)) if is_kept(&dir) => {
                    tracing::debug!("{} is kept for whoever staged it", dir.display());
                }
                // Finished, and perhaps begun anew, since it was listed.
                Ok(Some(lock)) if !self.paths.is_locked(&lock, &dir) => {}
                Ok(Some(_lock)) => match self.destroy_leftover(&dir) {
                    Ok(()) => tracing::info!("removed {}", dir.display()),
                    Err(e) => {
                        tracing::warn!(
                            "cannot remove {}: {}; the next cleanup will try again",
                            dir.display(),
                            chain_text(&e)
                        );
                    }
                },
                Ok(None) => tracing::debug!("{} is still being written", dir.display()),
                Err(e) => tracing::warn!("cannot clean up {}: {e}", dir.display()),
            }
        }
        for id in self.abandoned_in_place()? {
            if let Err(e) = self.drop_incomplete(&id) {
                tracing::warn!(
                    "cannot remove the incomplete layer {id}: {e}; the next cleanup will try again"
                );
            }
        }
        if let Err(e) = self.paths.temporaries().sweep() {
            tracing::warn!("cannot remove temporary files: {}", chain_text(&e));
        }
        self.clean_up_templates();
        for id in self.mount_directories()? {
            self.cancel().check()?;
            if let Err(e) = self.clean_up_mount(&id) {
                tracing::warn!("cannot clean up the mounts of {id}: {}", chain_text(&e));
            }
        }
        for (id, path) in self.abandoned_locks()? {
            if let Err(e) = self.clean_up_lock(&id, &path) {
                tracing::warn!("cannot remove {}: {e}", path.display());
            }
        }
        Ok(())
    }

    /// Locks of layers that are gone, with their paths; somebody may hold one a moment longer.
    pub(super) fn abandoned_locks(&self) -> Result<Vec<(LayerId, PathBuf)>, Error> {
        let dir = self.paths.mounts();
        let mut locks = Vec::new();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let name = entry.at("list", &dir)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".lock")).map(LayerId::new);
            if let Some(Ok(id)) = id
                && !self.paths.layer(&id).exists()
                && !self.paths.mount(&id).exists()
            {
                locks.push((id, dir.join(name)));
            }
        }
        Ok(locks)
    }

    fn clean_up_lock(&self, id: &LayerId, path: &Path) -> Result<(), Error> {
        // Those who wait for it look whether it still is the one they know.
        match self.try_lock_of_gone_layer(id)? {
            Some(_lock) => fs::remove_file(path).at("remove", path),
            None => Ok(()),
        }
    }

    /// What was staged is files of ours; what was removed is the engine's.
    fn destroy_leftover(&self, dir: &Path) -> Result<(), Error> {
        if self.is_in_place() && dir.parent() == Some(&self.paths.staging()) {
            return remove_tree(dir).at("remove", dir);
        }
        self.engine.destroy(dir)
    }

    #[cfg(target_os = "linux")]
    fn clean_up_templates(&self) {
        let unfinished = sandbox_image::unfinished_template(&self.paths.templates());
        let removed = match unfinished {
            Ok(Some(template)) => template.remove(),
            other => other.map(drop),
        };
        if let Err(e) = removed {
            tracing::warn!("cannot remove an unfinished template: {e}");
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn clean_up_templates(&self) {}

    /// Mount directories that nobody needs any more: of a process that died, or of another boot.
    /// With `say`, it is said which ones only look so.
    pub(super) fn abandoned_mounts(&self, say: bool) -> Result<Vec<LayerId>, Error> {
        let mut abandoned = Vec::new();
        for id in self.mount_directories()? {
            if self.mounts(&id)?.users() > 0 || self.is_left_for_others(&id)? {
                continue;
            }
            if let Some(by) = self.used_elsewhere(&self.place(&id)?)? {
                if say {
                    say_left_alone(&id, &by);
                }
                continue;
            }
            // Or somebody is in the middle of mounting it, and has been done since.
            if let Some(_lock) = self.try_mount_lock(&id)?
                && self.paths.mount(&id).is_dir()
                && self.mounts(&id)?.users() == 0
            {
                abandoned.push(id);
            }
        }
        Ok(abandoned)
    }

    /// Layers with a directory for mounts.
    pub(super) fn mount_directories(&self) -> Result<Vec<LayerId>, Error> {
        let dir = self.paths.mounts();
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let id = entry.file_name().to_str().and_then(|name| LayerId::new(name).ok());
            ids.extend(id.filter(|_| entry.path().is_dir()));
        }
        Ok(ids)
    }

    fn clean_up_mount(&self, id: &LayerId) -> Result<(), Error> {
        let Some(_lock) = self.try_mount_lock(id)? else { return Ok(()) };
        // Looked at again now that nobody is in the middle of mounting it.
        if self.mounts(id)?.users() == 0 {
            match self.used_elsewhere(&self.place(id)?)? {
                Some(by) => {
                    say_left_alone(id, &by);
                    Ok(())
                }
                None => self.tear_down(id),
            }
        } else {
            // Its lock is free, so whoever stopped it to read it has died.
            self.engine.resume(&self.place(id)?)
        }
    }
}

fn say_left_alone(id: &LayerId, by: &str) {
    tracing::warn!("the mounts of {id} are left alone: in use{by}");
}
