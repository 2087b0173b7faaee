//! Export of a layer or sandbox: its tar, its list of changes, and single files.

use std::io::Read;

use wclayer::filetime::FileTime;

use super::{LayerStore, missing_in};
use crate::diff_options::DiffOptions;
use crate::driver::{Change, DiffGetter};
use crate::engine::Guard;
use crate::error::Error;
use crate::id::LayerId;
use crate::limits::DiffLimits;
use crate::record::LayerKind;

impl LayerStore {
    /// Refuses a `parent` that is not the nearest one with content.
    pub(super) fn check_parent(&self, id: &LayerId, parent: Option<&LayerId>) -> Result<(), Error> {
        let Some(parent) = parent else { return Ok(()) };
        let actual = self.chain_ids(id)?.into_iter().next();
        let without_content = || self.record(parent).is_ok_and(|r| r.kind != LayerKind::Layer);
        if actual.as_ref() == Some(parent)
            || without_content() && self.chain_ids(parent)?.first() == actual.as_ref()
        {
            return Ok(());
        }
        Err(Error::NotTheParent { id: id.clone(), parent: parent.clone(), actual })
    }

    fn is_mounted(&self, id: &LayerId) -> Result<bool, Error> {
        Ok(self.mounts(&self.resolve(id)?)?.users() > 0)
    }

    /// Prevents mounting and unmounting while a sandbox is read, or any other layer that the engine reads
    /// under a guard.
    fn guard(&self, id: &LayerId) -> Result<Guard, Error> {
        let id = self.resolve(id)?;
        Ok(if self.engine.reads_under_guard(self.record(&id)?.kind) {
            Box::new(self.mount_lock(&id)?)
        } else {
            Box::new(())
        })
    }

    /// The layer's tar.
    fn read_as(&self, id: &LayerId, options: DiffOptions) -> Result<Box<dyn Read + Send>, Error> {
        let guard = self.guard(id)?;
        let layer = self.layer(id)?;
        let mut options = if layer.kind == LayerKind::Sandbox { options } else { DiffOptions::default() };
        if layer.kind == LayerKind::Sandbox {
            // `None` for a sandbox that Docker made.
            options.limits.sandbox = self.record(&self.resolve(id)?)?.sandbox_size;
        }
        let tar = self.engine.diff(&layer, self.is_mounted(id)?, options, guard);
        let cancellable = |tar| -> Box<dyn Read + Send> { Box::new(self.cancel().reader(tar)) };
        tar.map(cancellable).map_err(|error| missing_in(&layer, error))
    }

    /// Like [`Self::diff_with`], but clamps all times in a sandbox's changes to `newest`, so that the same
    /// changes made at different times give the same layer.
    ///
    /// # Errors
    /// As [`Self::diff_with`].
    pub fn diff_until(&self, id: &LayerId, newest: FileTime) -> Result<Box<dyn Read + Send>, Error> {
        self.diff_with(id, DiffOptions { newest: Some(newest), ..DiffOptions::default() })
    }

    /// The tar of a layer as imported, or of a sandbox's present changes, with `options` and within the
    /// store's limits. A mount stays usable meanwhile.
    ///
    /// # Errors
    /// Changes that a Windows layer cannot hold or that exceed a limit; files that cannot be read.
    pub fn diff_with(&self, id: &LayerId, options: DiffOptions) -> Result<Box<dyn Read + Send>, Error> {
        let DiffLimits { entries, size, .. } = self.limits.of_changes();
        self.read_as(id, DiffOptions { limits: DiffLimits { entries, size, ..options.limits }, ..options })
    }

    /// The paths that a layer or sandbox adds, modifies and deletes, sorted.
    ///
    /// # Errors
    /// As [`Self::diff_with`].
    pub fn changes(&self, id: &LayerId) -> Result<Vec<Change>, Error> {
        let _guard = self.guard(id)?;
        self.engine.changes(&self.layer(id)?, self.is_mounted(id)?, &self.limits.of_changes())
    }

    /// Bytes of file content: of a layer, in its tar, as [`crate::LayerRecord::size`] counts them; of a
    /// sandbox, in its changes, where hard links count once.
    ///
    /// # Errors
    /// As [`Self::changes`].
    pub fn changed_bytes(&self, id: &LayerId) -> Result<u64, Error> {
        let record = self.record(id)?;
        // The size of a layer that another program made is not recorded.
        if record.kind == LayerKind::Empty || record.kind == LayerKind::Layer && record.diff_id.is_some() {
            return Ok(record.size);
        }
        let _guard = self.guard(id)?;
        self.engine.changed_bytes(&self.layer(id)?, self.is_mounted(id)?, &self.limits.of_changes())
    }

    /// Opens files of a committed layer by their names in its tar.
    ///
    /// # Errors
    /// [`Error::WrongKind`], a damaged index.
    pub fn layer_files(&self, id: &LayerId) -> Result<Box<dyn DiffGetter>, Error> {
        self.expect_kind(id, LayerKind::Layer)?;
        self.engine.files(&self.place(id)?)
    }
}
