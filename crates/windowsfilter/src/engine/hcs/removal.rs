//! Removing layers (`Remove` and `Cleanup` of the original).

use std::path::Path;
use std::time::Duration;

use hcs::{Code, Host, Termination};

use super::{ForLayer, Hcs, paths, scanners};
use crate::engine::Place;
use crate::error::Error;
use crate::id::LayerId;
use crate::store::file;

/// From this build on, listing compute systems does not fail while one is being removed (`osversion.RS3`).
const FIRST_RELIABLE_BUILD: u32 = 16_299;
/// Number of retries of the list on older builds, and the pause between them (`windows.go`, `Remove`).
const ATTEMPTS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// The needed fields of a listed compute system; `null` means missing, as in Go. Source: hcsshim
/// `internal/hcs/schema1`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct System {
    id: Option<String>,
    runtime_image_path: Option<String>,
    is_runtime_template: Option<bool>,
}

impl System {
    /// Whether this is the template VM of a layer: the layer's directory is an element of the path of its
    /// image. The original searches for the ID anywhere in the path, which also matches longer IDs that
    /// contain it.
    fn is_template_of(&self, id: &LayerId) -> bool {
        let mut elements = self.runtime_image_path.as_deref().unwrap_or_default().split(['\\', '/']);
        self.is_runtime_template == Some(true)
            && elements.any(|element| element.eq_ignore_ascii_case(id.as_str()))
    }
}

impl<H: Host> Hcs<H> {
    /// Terminates the template VMs, from which Hyper-V containers are cloned, that keep the layer's utility
    /// VM open.
    pub(super) fn terminate_template_vms(&self, id: &LayerId) -> Result<(), Error> {
        for system in self.compute_systems(id)?.iter().filter(|system| system.is_template_of(id)) {
            let template = system.id.as_deref().unwrap_or_default();
            self.terminate(template).for_layer(id)?;
            tracing::info!("layer {id}: ended the template VM {template}");
        }
        Ok(())
    }

    fn compute_systems(&self, id: &LayerId) -> Result<Vec<System>, Error> {
        const QUERY: &str = "{}";
        let list = self.enumerate(id, QUERY)?;
        let systems: Option<Vec<Option<System>>> = serde_json::from_str(&list).map_err(|error| {
            let text = format!("its list cannot be read: {error}");
            Error::Hcs {
                id: id.to_string(),
                error: hcs::Error::invalid("HcsEnumerateComputeSystems", QUERY, text),
            }
        })?;
        Ok(systems.unwrap_or_default().into_iter().flatten().collect())
    }

    fn enumerate(&self, id: &LayerId, query: &str) -> Result<String, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.host.enumerate_compute_systems(query) {
                Ok(list) => return Ok(list),
                Err(error) => error,
            };
            let transient = matches!(error.code, Code::INVALID_STATE | Code::ACCESS_DENIED)
                && self.host.os_build().for_layer(id)? < FIRST_RELIABLE_BUILD;
            if !transient || attempt > ATTEMPTS {
                return Err(error).for_layer(id);
            }
            attempt += 1;
            self.host.pause(PAUSE);
        }
    }

    fn terminate(&self, system: &str) -> hcs::Result<()> {
        let system = self.host.open_compute_system(system)?;
        match system.terminate()? {
            // Like hcsshim, wait for its exit even if the service says that it is done.
            Termination::Done | Termination::Pending => system.wait(),
            Termination::AlreadyStopped => Ok(()),
        }
    }

    /// Renames the layer's directory. If it is locked, detaches a sandbox's disk, which a crash may have left
    /// attached, and retries, so that scanners can finish.
    pub(super) fn hide_layer(&self, place: &Place, to: &Path) -> Result<(), Error> {
        let id = &place.id;
        let (dir, to) = (self.info.layer(id.as_str()), paths::plain(to));
        let what = format!("layer {id}");
        let rename = || self.host.rename(&dir, &to);
        let first = match rename() {
            Err(error) if scanners::is_locked(&error) => error,
            other => return other.for_layer(id),
        };
        let disk = dir.join(file::WINDOWS_DISK);
        let detached = match disk.exists() {
            true => self.host.detach_virtual_disk(&disk),
            false => Ok(()),
        };
        scanners::outlast(&*self.host, &what, rename).map_err(|error| {
            let text = match detached {
                Err(detaching) => format!("{} (after: {detaching}; after: {first})", error.text),
                Ok(()) if disk.exists() => {
                    format!("{} (further attempts, with the disk detached, after: {first})", error.text)
                }
                Ok(()) => error.text.clone(),
            };
            self.in_use(id, &dir, hcs::Error { text, ..error })
        })
    }

    /// Has the service remove a directory of the home.
    pub(super) fn destroy_directory(&self, dir: &Path) -> Result<(), Error> {
        self.destroy_layer(&paths::last_element(dir))
    }
}
