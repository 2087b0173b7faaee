//! Whether a layer is in use, here or where this process does not see it: in another mount namespace, or in a
//! detached mount that has an open file.

use super::{MountState, STATE};
use crate::engine::Place;
use crate::error::Error;
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::record::LayerKind;

impl LayerStore {
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

    /// Refuses a layer that is in use, after giving users that are about to end a moment to do so.
    pub(in crate::layer_store) fn ensure_free(&self, place: &Place) -> Result<(), Error> {
        match self.engine.stays_in_use(place)? {
            Some(by) => Err(Error::InUse { id: place.id.clone(), by }),
            None => Ok(()),
        }
    }

    /// Refuses, before anything is changed, a layer that is mounted in another namespace only. A sandbox may
    /// be mounted in one namespace only; a read-only view may be mounted again, unless its record counts
    /// mounts of another namespace.
    pub(super) fn check_mountable(&self, id: &LayerId) -> Result<(), Error> {
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

    /// Who has the layer of `place` mounted in another namespace only. A read-only view that was mounted here
    /// and unmounted by hand does not count, even if other namespaces have copies of it: mounting it again
    /// does not disturb them.
    pub(in crate::layer_store) fn used_elsewhere(&self, place: &Place) -> Result<Option<String>, Error> {
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

    pub(super) fn is_of_another_namespace(&self, state: &MountState) -> bool {
        state.namespace.is_some() && state.namespace != self.engine.namespace()
    }

    /// Whether the directory of `id`'s mounts is kept only because other namespaces may have mounts on it:
    /// nothing is mounted here, and the record says so.
    pub(in crate::layer_store) fn is_left_for_others(&self, id: &LayerId) -> Result<bool, Error> {
        let place = self.place(id)?;
        let has_record = self.mount_record_problem(id)?.is_none() && place.mounts.join(STATE).exists();
        let state = self.recorded(id)?;
        Ok(has_record
            && state.boot == self.engine.boot()
            && state.users() == 0
            && !self.engine.has_mounts(&place)?)
    }

    /// Who uses `place`, ignoring users that are gone after about 50 ms, such as a scan of all loop devices.
    pub(super) fn lasting_use(&self, place: &Place) -> Result<Option<String>, Error> {
        for _ in 0..10 {
            if self.engine.in_use(place)?.is_none() {
                return Ok(None);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.engine.in_use(place)
    }
}
