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
//!
//! Here is the record; `mounts/` has the lock, the question who uses a layer, and the ways on and off.

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

    /// Ends the record of mounts that are off here, and removes their directory unless others may have mounts
    /// on it.
    fn forget(&self, place: &Place) -> Result<(), Error> {
        if !place.mounts.exists() {
            return Ok(());
        }
        let by = match self.lasting_use(place) {
            Ok(None) => return remove_tree(&place.mounts).at("remove", &place.mounts),
            Ok(Some(by)) => by,
            // The mounts are off, which is what was asked for; where others may have some, ours stays.
            Err(error) => {
                let error = chain_text(&error);
                tracing::warn!("{id} is unmounted; who else uses it cannot be known: {error}", id = place.id);
                String::new()
            }
        };
        let recorded = self.recorded(&place.id)?;
        if recorded.users() > 0 && self.is_of_another_namespace(&recorded) {
            // It counts those mounts.
            return Ok(());
        }
        tracing::debug!("{} stays for now: {} is in use{by}", place.mounts.display(), place.id);
        self.save_mounts(&place.id, &MountState { boot: self.engine.boot(), ..MountState::default() })
    }

    /// What the record says that was written since the machine started.
    fn recorded(&self, id: &LayerId) -> Result<MountState, Error> {
        let path = self.paths.mount(id).join(STATE);
        let Some(content) = durable::read_file(&path)? else { return Ok(MountState::default()) };
        // A record cut short by a crash says as little as none; the mount table knows what is mounted.
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

    /// What is wrong with the record of `id`'s mounts, if it cannot be read and so counts as none.
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
        // Mounts do not outlive the machine, so their record needs no sync; the rename keeps it whole.
        let temp = path.with_extension("new");
        fs::write(&temp, text).at("write", &temp)?;
        scanners::replace(&temp, &path).at("replace", &path)
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
}
