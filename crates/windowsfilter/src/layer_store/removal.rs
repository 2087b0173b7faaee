//! How layers are removed: one rename hides them, then their bytes are deleted; and cleanup after interrupted
//! removals and imports.

use std::fs;
#[cfg(unix)]
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer_mounts::remove_tree;

use super::staging::is_kept;
use super::{Chains, LayerStore};
use crate::durable;
use crate::engine::Engine;
use crate::error::{Error, IoContext, chain_text};
use crate::id::{IMPORTING, LayerId, REMOVING};
use crate::lock::{self, Lock};
use crate::record::LayerKind;

/// A layer that was removed from the store, but whose bytes are still on disk.
///
/// It is locked, so cleanup and fsck leave it alone as long as this, or a copy of its lock in another
/// process, is held.
#[derive(Debug)]
pub struct Doomed {
    dir: PathBuf,
    lock: Lock,
    engine: Arc<dyn Engine>,
}

/// Deletes the bytes of a removed layer, or has another process do it: a file system takes long to free
/// gigabytes. The removal returns its error, though the layer is already gone.
pub type Reclaimer = fn(Doomed) -> Result<(), Error>;

impl Doomed {
    /// The directory with the bytes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Deletes the bytes.
    ///
    /// # Errors
    /// [`Error::Leftover`]: the layer is already gone; cleanup will delete its bytes.
    pub fn destroy(self) -> Result<(), Error> {
        let destroyed = self.engine.destroy(&self.dir);
        drop(self.lock);
        destroyed.map_err(|error| Error::Leftover { dir: self.dir, source: Box::new(error) })
    }

    /// Leaves the bytes to the holder of the returned lock, the open and locked directory. As long as any
    /// copy of the descriptor is open, no other process touches the bytes. On Windows a lock belongs to one
    /// process and cannot be passed on.
    #[cfg(unix)]
    pub fn into_lock(self) -> File {
        self.lock.into_file()
    }
}

/// How a removal treats users that are not counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Users {
    /// They prevent the removal.
    Keep,
    /// They do not prevent it.
    DoNotCount,
}

/// Layers that are removed together. Each takes two locks, and the limit of open files is about a thousand.
const BATCH: usize = 64;

/// A layer that is being removed.
struct Going {
    id: LayerId,
    dir: PathBuf,
    /// Keeps others from mounting it.
    mount_lock: Lock,
    /// Set once it is removed from the store.
    doomed: Option<Doomed>,
}

/// Runs `step` for each layer that has not failed yet.
fn advance(going: &mut [Result<Going, Error>], mut step: impl FnMut(&mut Going) -> Result<(), Error>) {
    for slot in going {
        if let Ok(layer) = slot
            && let Err(error) = step(layer)
        {
            *slot = Err(error);
        }
    }
}

impl LayerStore {
    /// Removes layers in the given order: children must come before their parents. Chains are read once for
    /// all layers, as far as `chains` does not have them, and the directory is synced once per batch. The
    /// results are in the order of `ids`.
    ///
    /// # Errors
    /// Each as [`crate::Driver::remove`].
    #[doc(hidden)]
    pub fn remove_all(&self, ids: &[LayerId], mut chains: Chains) -> Vec<Result<(), Error>> {
        ids.chunks(BATCH).flat_map(|batch| self.remove_batch(&mut chains, batch, None, Users::Keep)).collect()
    }

    /// Removes a layer or sandbox: it disappears from the store at once, its bytes soon after.
    ///
    /// # Errors
    /// [`Error::HasChildren`], [`Error::MaybeNeeded`], [`Error::Mounted`]; [`Error::Leftover`] when it is
    /// removed but its bytes are not: [`Self::clean_up`] will delete them.
    pub fn remove(&self, id: &LayerId) -> Result<(), Error> {
        self.remove_layer(id, None, Users::Keep)
    }

    /// Removes a layer whose only owner is `owner`. It stays owned until it is gone, so after an interruption
    /// it is either still owned or gone.
    ///
    /// # Errors
    /// As [`Self::remove`]; [`Error::Owned`] if it has other owners.
    pub fn remove_owned(&self, id: &LayerId, owner: &str) -> Result<(), Error> {
        self.remove_layer(id, Some(owner), Users::Keep)
    }

    /// Removes a sandbox although uncounted users may remain: a process in a mount that [`Self::abandon`]
    /// detached, or another mount namespace. They keep their mounts until they end. For programs that know
    /// that the sandbox is no longer needed.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn remove_abandoned(&self, id: &LayerId) -> Result<(), Error> {
        self.remove_layer(id, None, Users::DoNotCount)
    }

    fn remove_layer(&self, id: &LayerId, owner: Option<&str>, users: Users) -> Result<(), Error> {
        let ids = std::slice::from_ref(id);
        self.remove_batch(&mut Chains::default(), ids, owner, users).swap_remove(0)
    }

    fn remove_batch(
        &self,
        chains: &mut Chains,
        ids: &[LayerId],
        owner: Option<&str>,
        users: Users,
    ) -> Vec<Result<(), Error>> {
        let mut going: Vec<_> = ids.iter().map(|id| self.begin_removal(id)).collect();
        let removable = self.lock().and_then(|_store_lock| {
            chains.refresh(self)?;
            let mut taken = Vec::new();
            advance(&mut going, |layer| {
                self.check_removable(chains, &layer.id, owner)?;
                taken.extend(chains.take(&layer.id).map(|known| (layer.id.clone(), known)));
                Ok(())
            });
            for (id, known) in taken {
                chains.put_back(&id, known);
            }
            Ok(())
        });
        let hidden = removable.and_then(|()| {
            // This may take the host a while, so it runs without the store lock.
            advance(&mut going, |layer| {
                let place = self.place(&layer.id)?;
                if users == Users::Keep {
                    self.ensure_free(&place)?;
                }
                self.engine.end_host_use(&place)
            });
            self.retire(chains, &mut going, owner)
        });
        match hidden {
            Ok(()) => going.into_iter().map(|layer| self.end_removal(layer?)).collect(),
            // The error concerns all of them, but an `Error` cannot be cloned: the first layer gets it, the
            // others get `Busy`.
            Err(error) => {
                let mut first = Some(error);
                let answers = going.into_iter().map(|layer| {
                    let layer = layer?;
                    Err(first.take().unwrap_or(Error::Busy { id: layer.id }))
                });
                answers.collect()
            }
        }
    }

    fn begin_removal(&self, id: &LayerId) -> Result<Going, Error> {
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
        Ok(Going { id, dir, mount_lock, doomed: None })
    }

    /// Has the bytes of a layer deleted that was removed from the store.
    fn end_removal(&self, layer: Going) -> Result<(), Error> {
        let Some(doomed) = layer.doomed else { return Err(Error::Busy { id: layer.id }) };
        let lock_file = lock::beside(&self.paths.mount(&layer.id));
        let reclaimed = (self.reclaimer)(doomed);
        match fs::remove_file(&lock_file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {e}", lock_file.display());
            }
            _ => {}
        }
        drop(layer.mount_lock);
        reclaimed
    }

    /// Refuses a layer that has children or owners other than `owner`. The caller holds the store lock, so
    /// the set of layers does not change meanwhile.
    fn check_removable(&self, chains: &Chains, id: &LayerId, owner: Option<&str>) -> Result<(), Error> {
        let children = chains.children(id);
        if !children.is_empty() {
            return Err(Error::HasChildren { id: id.clone(), children });
        }
        let mut unreadable = chains.unreadable();
        unreadable.retain(|other| other != id);
        if !unreadable.is_empty() {
            match self.chain_below(id)? {
                Some(below) => unreadable.retain(|other| !below.contains(other)),
                None => unreadable.clear(),
            }
        }
        if !unreadable.is_empty() {
            return Err(Error::MaybeNeeded { id: id.clone(), unreadable });
        }
        let mut owners = self.owners(id)?;
        owners.retain(|other| Some(other.as_str()) != owner);
        if !owners.is_empty() {
            return Err(Error::Owned { id: id.clone(), owners: owners.into_iter().collect() });
        }
        Ok(())
    }

    /// Removes layers from the store, except those with children or with owners other than `owner`. From here
    /// on they are gone, even if their bytes cannot be deleted. After an error all of them are still there.
    fn retire(
        &self,
        chains: &mut Chains,
        going: &mut [Result<Going, Error>],
        owner: Option<&str>,
    ) -> Result<(), Error> {
        let _store_lock = self.lock()?;
        chains.refresh(self)?;
        advance(going, |layer| {
            let Some(lock) = self.paths.try_lock_directory(&layer.dir)? else {
                return Err(Error::Busy { id: layer.id.clone() });
            };
            self.check_removable(chains, &layer.id, owner)?;
            let dir = self.removing_name(&layer.id);
            let renamed = self.paths.lock_new_name(&dir)?;
            self.engine.retire(&self.place(&layer.id)?, &dir)?;
            chains.take(&layer.id);
            layer.doomed =
                Some(Doomed { dir, lock: renamed.unwrap_or(lock), engine: Arc::clone(&self.engine) });
            Ok(())
        });
        if !going.iter().any(Result::is_ok) {
            return Ok(());
        }
        // Sync before any bytes are deleted: after a crash an unsynced rename may be undone, and the layer
        // would be damaged.
        durable::sync_dir(&self.paths.layers()).map_err(|error| {
            let hidden =
                going.iter().flatten().rev().filter_map(|layer| Some((layer, layer.doomed.as_ref()?)));
            let put_back = |(layer, doomed): (&Going, &Doomed)| {
                fs::rename(&doomed.dir, &layer.dir).at("put back", &layer.dir)
            };
            let results: Vec<_> = hidden.map(put_back).collect();
            error.with_undo(results.into_iter().collect())
        })
    }

    /// A name that no leftover of an earlier removal has. The original's name is fixed, so its second removal
    /// fails.
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

    /// The layers that certainly do not depend on `id`: its own chain. `None` if no layer is to count as
    /// dependent: sandboxes have no children, and for a damaged layer, because two damaged layers that may
    /// depend on each other could otherwise never be removed.
    fn chain_below(&self, id: &LayerId) -> Result<Option<Vec<LayerId>>, Error> {
        match self.chain_ids(id).and_then(|chain| Ok((chain, self.record(id)?.kind))) {
            Ok((chain, kind)) => Ok((kind != LayerKind::Sandbox).then_some(chain)),
            Err(Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finishes interrupted removals and removes interrupted imports. Failures to remove something are
    /// logged.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn clean_up(&self) -> Result<(), Error> {
        for dir in self.leftovers()? {
            self.cancel().check()?;
            // A live writer holds its lock; a free lock means that the writer died.
            match self.paths.try_lock_directory(&dir) {
                // Checked only under the lock, since its writer may just have kept it.
                Ok(Some(_lock)) if is_kept(&dir) => {
                    tracing::debug!("{} is kept for whoever staged it", dir.display());
                }
                // Finished since it was listed, and perhaps started again.
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
        if let Err(e) = self.engine.clean_up() {
            tracing::warn!(
                "cannot clean up what the engine has left: {}; the next cleanup will try again",
                chain_text(&e)
            );
        }
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

    /// Locks of removed layers, with their paths. One may still be held for a moment.
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
        // Waiters check that the lock file is still the one they opened.
        match self.try_lock_of_gone_layer(id)? {
            Some(_lock) => fs::remove_file(path).at("remove", path),
            None => Ok(()),
        }
    }

    /// Staged directories contain only our own files; removed ones are the engine's to delete.
    fn destroy_leftover(&self, dir: &Path) -> Result<(), Error> {
        if dir.to_string_lossy().ends_with(IMPORTING) {
            return remove_tree(dir).at("remove", dir);
        }
        self.engine.destroy(dir)
    }

    /// Mount directories that are no longer needed: of a process that died, or of another boot. With `say`,
    /// logs those that are left alone because another mount namespace uses them.
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
            // Unless it is being mounted right now, or has been meanwhile.
            if let Some(_lock) = self.try_mount_lock(&id)?
                && self.paths.mount(&id).is_dir()
                && self.mounts(&id)?.users() == 0
            {
                abandoned.push(id);
            }
        }
        Ok(abandoned)
    }

    /// Layers that have a mount directory.
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
        // Check again now that we hold its lock.
        if self.mounts(id)?.users() == 0 {
            match self.used_elsewhere(&self.place(id)?)? {
                Some(by) => {
                    say_left_alone(id, &by);
                    Ok(())
                }
                None => self.tear_down(id),
            }
        } else {
            // Its lock was free, so a reader that froze it has died.
            self.engine.thaw(&self.place(id)?)
        }
    }
}

fn say_left_alone(id: &LayerId, by: &str) {
    tracing::warn!("the mounts of {id} are left alone: in use{by}");
}
