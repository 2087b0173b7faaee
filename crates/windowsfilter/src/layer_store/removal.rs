//! How layers go: out of sight by one rename, then their bytes; and what interrupted removals and imports
//! leave.

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

/// A layer that is out of the store already, but whose bytes are still there.
///
/// It is locked: cleanup and fsck leave it to whoever holds this, in any process that the lock was passed on
/// to.
#[derive(Debug)]
pub struct Doomed {
    dir: PathBuf,
    lock: Lock,
    engine: Arc<dyn Engine>,
}

/// What is done with the bytes of a removed layer. Freeing gigabytes takes a file system longer than anybody
/// likes to wait. An error is the removal's, though the layer is gone by then.
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

    /// Leaves the bytes to whoever gets the lock: the directory, open and locked. As long as any copy of the
    /// descriptor is open, nobody else touches it. On Windows a lock is of one process and cannot be passed
    /// on.
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

/// Layers that are removed at once. Two locks are held of each meanwhile, and a process has some thousand
/// files at most.
const BATCH: usize = 64;

/// A layer that is being removed.
struct Going {
    id: LayerId,
    dir: PathBuf,
    /// Nobody mounts it any more.
    mount_lock: Lock,
    /// Set when it is out of the store.
    doomed: Option<Doomed>,
}

/// Takes each one step further that has come so far.
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
    /// Removes layers, one after the other: what stands on another comes before it. What stands on what is
    /// read once for all of them, as far as `chains` does not say it already, and made durable once for many.
    /// The answers are in the same order.
    ///
    /// # Errors
    /// Each as of [`crate::Driver::remove`].
    pub fn remove_all(&self, ids: &[LayerId], mut chains: Chains) -> Vec<Result<(), Error>> {
        ids.chunks(BATCH).flat_map(|batch| self.remove_batch(&mut chains, batch, None, Users::Keep)).collect()
    }

    /// Removes a layer or sandbox: it is gone from the store at once, its bytes soon after.
    ///
    /// # Errors
    /// [`Error::HasChildren`], [`Error::MaybeNeeded`], [`Error::Mounted`]; [`Error::Leftover`] when it is
    /// gone, but its bytes are not: [`Self::clean_up`] will free them.
    pub fn remove(&self, id: &LayerId) -> Result<(), Error> {
        self.remove_layer(id, None, Users::Keep)
    }

    /// Removes a layer that nobody but `owner` owns. It is owned until it is gone: whatever interrupts this,
    /// its owner finds it or finds nothing.
    ///
    /// # Errors
    /// As [`Self::remove`]; [`Error::Owned`] by others.
    pub fn remove_owned(&self, id: &LayerId, owner: &str) -> Result<(), Error> {
        self.remove_layer(id, Some(owner), Users::Keep)
    }

    /// Removes a sandbox although somebody may still use it whose mounts are not counted: a process in one
    /// that [`Self::abandon`] took off, or another mount namespace. They keep what they have until they end.
    /// For programs that know that nobody needs it any more.
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
            // This may take the host a while, so nobody waits for it.
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
            // What is wrong is wrong with all of them, and of an error there is one only.
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

    /// Has the bytes deleted of a layer that is out of the store.
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

    /// Refuses a layer that something needs, or somebody else than `owner`. The caller holds the store lock,
    /// so no layer comes or goes meanwhile.
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

    /// Takes layers out of the store, but for those that something stands on or that belong to others than
    /// `owner`. From here on they are gone, whatever happens to their bytes. After an error all of them are
    /// there.
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
        // Deleting the bytes of layers that may come back under their names would damage them.
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

    /// What certainly does not stand on `id`: its own chain. `None` if nothing does: no layer stands on a
    /// sandbox, and two damaged layers, of which each may stand on the other, could else never be removed.
    fn chain_below(&self, id: &LayerId) -> Result<Option<Vec<LayerId>>, Error> {
        match self.chain_ids(id).and_then(|chain| Ok((chain, self.record(id)?.kind))) {
            Ok((chain, kind)) => Ok((kind != LayerKind::Sandbox).then_some(chain)),
            Err(Error::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finishes interrupted removals and drops interrupted imports. What cannot be removed is logged.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn clean_up(&self) -> Result<(), Error> {
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
        if dir.to_string_lossy().ends_with(IMPORTING) {
            return remove_tree(dir).at("remove", dir);
        }
        self.engine.destroy(dir)
    }

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
            self.engine.thaw(&self.place(id)?)
        }
    }
}

fn say_left_alone(id: &LayerId, by: &str) {
    tracing::warn!("the mounts of {id} are left alone: in use{by}");
}
