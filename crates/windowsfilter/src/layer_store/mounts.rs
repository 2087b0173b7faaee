//! Mounting, counted across processes and restarts.
//!
//! `mounts/<id>/state.json` records how often a layer was mounted and where; the kernel's mount table
//! decides. A record of another boot, or one whose mount is gone, counts for nothing. The original keeps its
//! count in memory, so after a crash the daemon believes that nothing is mounted (`windows.go`, `checker`).
//!
//! ```text
//! mounts/<id>/            the engine's mounts
//! mounts/<id>.lock        held while mounting, unmounting, and reading a sandbox
//! ```
//!
//! A new mount namespace starts with a copy of every mount, and a container may mount things that other
//! namespaces do not see. So a layer that is not mounted *here* may still be in use: the kernel is asked
//! ([`crate::engine::Engine::in_use`]). A mount point that another namespace may have a mount on is never
//! removed, because removing it would unmount there, too.
//!
//! This file has the record; `mounts/` has the lock, the check for users of a layer, mounting and unmounting.

mod in_use;
mod locks;
mod mounting;
mod unmounting;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use layer_mounts::remove_tree;

use super::LayerStore;
use crate::durable;
use crate::engine::Place;
use crate::error::{Error, IoContext, chain_text};
use crate::id::LayerId;
use crate::path_text;
use crate::scanners;
use crate::sealed;

const STATE: &str = "state.json";
/// Version of the record that this code writes and reads.
const STATE_VERSION: u32 = 1;

/// How a layer is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MountState {
    /// Number of mounts not yet undone.
    pub count: u64,
    /// The path of the view, if it is mounted.
    #[serde(with = "path_text::option")]
    pub path: Option<PathBuf>,
    /// Targets that the view is also bound to, in the order of mounting.
    #[serde(with = "path_text::list")]
    pub targets: Vec<PathBuf>,
    /// Names of the holders that need it mounted, see [`LayerStore::hold`].
    #[serde(default)]
    pub holders: BTreeSet<String>,
    /// Half unmounted: the next unmount continues from here.
    #[serde(default)]
    unprepared: bool,
    /// The mount namespace it was mounted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<u64>,
    /// The boot in which this was recorded.
    boot: String,
}

impl MountState {
    /// How many users need it mounted: counted mounts and holders.
    pub fn users(&self) -> u64 {
        self.count + self.holders.len() as u64
    }
}

impl LayerStore {
    /// The mounts of `id` now.
    ///
    /// # Errors
    /// When the record or the mount table cannot be read.
    pub fn mounts(&self, id: &LayerId) -> Result<MountState, Error> {
        let state = self.recorded(id)?;
        let alive = match state.path.as_deref() {
            // If a reader could not mount it again after reading, it shows nothing but still belongs to its
            // users; the next mount repairs it.
            Some(path) => self.engine.is_mounted(path)? || !self.engine.is_prepared(&self.place(id)?),
            None => false,
        };
        Ok(if alive { state } else { MountState::default() })
    }

    /// Clears the record of mounts that are gone here, and removes their directory unless other namespaces
    /// may have mounts on it.
    fn forget(&self, place: &Place) -> Result<(), Error> {
        if !place.mounts.exists() {
            return Ok(());
        }
        let by = match self.lasting_use(place) {
            Ok(None) => return remove_tree(&place.mounts).at("remove", &place.mounts),
            Ok(Some(by)) => by,
            // The mounts are gone, as requested. The directory stays, since others may have mounts on it.
            Err(error) => {
                let error = chain_text(&error);
                tracing::warn!("{id} is unmounted; who else uses it cannot be known: {error}", id = place.id);
                String::new()
            }
        };
        let recorded = self.recorded(&place.id)?;
        if recorded.users() > 0 && self.is_of_another_namespace(&recorded) {
            // The record counts the other namespace's mounts.
            return Ok(());
        }
        tracing::debug!("{} stays for now: {} is in use{by}", place.mounts.display(), place.id);
        self.save_mounts(&place.id, &MountState { boot: self.engine.boot(), ..MountState::default() })
    }

    /// The record, if it was written in this boot.
    fn recorded(&self, id: &LayerId) -> Result<MountState, Error> {
        let path = self.paths.mount(id).join(STATE);
        let Some(content) = durable::read_file(&path)? else { return Ok(MountState::default()) };
        // A record cut short by a crash counts as none; the mount table knows what is mounted.
        let state: MountState = sealed::unseal(STATE_VERSION, &content).unwrap_or_default();
        Ok(if state.boot == self.engine.boot() { state } else { MountState::default() })
    }

    /// Whether `id` was mounted when the machine was stopped or crashed.
    pub(super) fn is_of_another_boot(&self, id: &LayerId) -> Result<bool, Error> {
        let path = self.paths.mount(id).join(STATE);
        let Some(content) = durable::read_file(&path)? else { return Ok(false) };
        let state = sealed::unseal::<MountState>(STATE_VERSION, &content);
        Ok(state.is_ok_and(|state| state.boot != self.engine.boot()))
    }

    /// Why the record of `id`'s mounts cannot be read, if it cannot. Such a record counts as none.
    pub(super) fn mount_record_problem(&self, id: &LayerId) -> Result<Option<String>, Error> {
        let path = self.paths.mount(id).join(STATE);
        let Some(content) = durable::read_file(&path)? else { return Ok(None) };
        let problem = sealed::unseal::<MountState>(STATE_VERSION, &content).err();
        Ok(problem
            .map(|problem| format!("the mounts of {id} cannot be known: {}: {problem}", path.display())))
    }

    fn save_mounts(&self, id: &LayerId, state: &MountState) -> Result<(), Error> {
        let path = self.paths.mount(id).join(STATE);
        let text = sealed::seal(STATE_VERSION, state).at("write", &path)?;
        // Mounts do not survive a reboot, so their record needs no sync; the rename keeps it whole.
        let temp = path.with_extension("new");
        fs::write(&temp, text).at("write", &temp)?;
        scanners::replace(&temp, &path).at("replace", &path)
    }

    /// The layer whose view is at `path`, or that is bound to `path`.
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

    /// Every layer that is held, with the names of its holders.
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

    /// Remembers that a lost write was reported, by making the record read-only: that needs no space, and the
    /// disk may be full. The next record, after another mount, is writable again.
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
}
