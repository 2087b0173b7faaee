//! Leftovers of processes that died, and other things that do not belong in a store.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::access;
use crate::error::{Error, IoContext};
use crate::findings::{DIED, Finding, Leftover};
use crate::id::{IMPORTING, LayerId, REMOVING};
use crate::invariants::Invariant;
use crate::layer_store::LayerStore;
use crate::layer_store::staging::{is_kept, kept_record_problem};

/// The longest time between creating a directory and locking it.
const BEGINNING: Duration = Duration::from_millis(100);

impl LayerStore {
    /// Finds leftovers. With `repair`, also runs cleanup, which removes most of them.
    pub(super) fn find_leftovers(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        let mut found = self.interrupted_work()?;
        for path in self.paths.temporaries().abandoned()? {
            found.push(Leftover::at(Invariant::TemporaryFiles, path, DIED));
        }
        found.extend(self.engine.leftovers(repair)?);
        // With `repair`, cleanup itself logs the mounts that it leaves alone.
        found.extend(self.forgotten_mounts(!repair)?);
        found.extend(self.strangers()?);
        found.extend(self.exposed()?);
        if repair {
            self.clean_up()?;
        }
        let after = |Leftover { path, finding }| Finding { repaired: repair && !path.exists(), ..finding };
        Ok(found.into_iter().map(after).collect())
    }

    /// Directories of the store that others can write to, on hosts with access lists. The files in layers
    /// have lists of their own.
    fn exposed(&self) -> Result<Vec<Leftover>, Error> {
        let Some(access) = self.engine.access() else { return Ok(Vec::new()) };
        let own = [self.paths.root().to_owned()].into_iter().chain(self.paths.directories());
        let layers = self.layers()?.into_iter().map(|id| self.paths.layer(&id));
        let mut found = Vec::new();
        for dir in own.chain(layers) {
            self.cancel().check()?;
            match access::exposed(access, &dir) {
                Ok(None) => {}
                Ok(Some(exposed)) => {
                    let problem =
                        format!("{exposed}; an administrator mends it with: {}", exposed.mended_by());
                    found.push(Leftover::new(Invariant::PrivateDirectories, dir, None, problem));
                }
                // It was removed meanwhile.
                Err(_) if !dir.exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn interrupted_work(&self) -> Result<Vec<Leftover>, Error> {
        let mut found = Vec::new();
        for dir in self.abandoned_directories()? {
            if is_kept(&dir) {
                if let Some(problem) = kept_record_problem(&dir)? {
                    found.push(Leftover::new(Invariant::StagedLayer, dir, None, problem));
                }
                continue;
            }
            let what = "was left by an interrupted import or removal";
            found.push(Leftover::at(Invariant::InterruptedWork, dir, what));
        }
        for id in self.abandoned_in_place()? {
            let problem = format!("{id} is not complete: it {DIED}");
            found.push(Leftover::new(
                Invariant::InterruptedWork,
                self.paths.incomplete(&id),
                Some(id),
                problem,
            ));
        }
        Ok(found)
    }

    /// Unfinished directories that no process works on. One may have been finished, or started again, since
    /// it was listed, and a new one is locked only a moment after it is created.
    fn abandoned_directories(&self) -> Result<Vec<PathBuf>, Error> {
        let is_free = |dir: &PathBuf| {
            let lock = self.paths.try_lock_directory(dir).ok().flatten();
            lock.is_some_and(|lock| self.paths.is_locked(&lock, dir))
        };
        let mut dirs = self.leftovers()?;
        dirs.retain(is_free);
        if !dirs.is_empty() {
            std::thread::sleep(BEGINNING);
            dirs.retain(is_free);
        }
        Ok(dirs)
    }

    fn forgotten_mounts(&self, say: bool) -> Result<Vec<Leftover>, Error> {
        let mut found = Vec::new();
        for id in self.abandoned_mounts(say)? {
            let path = self.paths.mount(&id);
            // A mount with a damaged record counts as forgotten because of the damage.
            let (invariant, problem) = match self.mount_record_problem(&id)? {
                Some(problem) => (Invariant::MountRecord, problem),
                None if self.is_of_another_boot(&id)? => {
                    let problem = format!(
                        "{id} was mounted when the machine stopped; `windowsfilter cleanup` forgets it"
                    );
                    (Invariant::MountsInUse, problem)
                }
                None => (Invariant::MountsInUse, format!("mounts of {id} were left by a process that died")),
            };
            found.push(Leftover::new(invariant, path, Some(id), problem));
        }
        for (id, path) in self.abandoned_locks()? {
            if self.try_lock_of_gone_layer(&id)?.is_some() {
                found.push(Leftover::at(
                    Invariant::LocksOfLayers,
                    path,
                    "is the lock of a layer that is gone",
                ));
            }
        }
        Ok(found)
    }

    /// Entries among the layers that are not layers. Their owner is unknown, so they stay. Not checked in a
    /// home of Docker's, which has other entries.
    fn strangers(&self) -> Result<Vec<Leftover>, Error> {
        let mut found = Vec::new();
        let dir = self.paths.layers();
        if dir == self.paths.root() {
            return Ok(found);
        }
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.ends_with(IMPORTING) || name.ends_with(REMOVING) || LayerId::new(&*name).is_ok();
            // Where directories cannot be locked, a file beside each is locked.
            let is_lock = cfg!(not(unix)) && name.ends_with(".lock");
            let is_layer = ours && entry.path().is_dir();
            // It may have been removed since it was listed.
            if !is_lock && !is_layer && fs::symlink_metadata(entry.path()).is_ok() {
                found.push(Leftover::at(Invariant::OnlyLayers, entry.path(), "is not a layer"));
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}
