//! Making a sandbox larger.

use crate::error::Error;
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::record::{self, LayerKind, LayerRecord};

impl LayerStore {
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
        self.engine.expand(&place, size)?;
        // Written last: should this fail, asking for the same size again only writes it.
        let record = LayerRecord { sandbox_size: Some(size), ..record };
        record::replace_record(&place.dir, &record, &self.paths.temporaries())
    }
}
