//! Repairs what the engine derives from a layer's tar and records.
//!
//! Everything else stays as found. For a repair by hand, a damaged record may be worth more than a guess, and
//! a layer can be imported again.

use crate::error::Error;
use crate::findings::Violation;
use crate::id::LayerId;
use crate::invariants::Invariant;
use crate::layer_store::LayerStore;
use crate::record;

impl LayerStore {
    /// Repairs a violation; `None` if it cannot be repaired.
    pub(super) fn mend(&self, id: &LayerId, violation: &Violation) -> Option<Result<(), Error>> {
        match violation.invariant {
            Invariant::IndexDigest => Some(self.rebuild(id)),
            Invariant::ChainIndex => Some(self.rebuild_view(id)),
            _ => None,
        }
    }

    fn rebuild(&self, id: &LayerId) -> Result<(), Error> {
        let (record, place) = (self.read_record(id)?, self.place(id)?);
        let rebuilt = self.engine.rebuild(&place, record.clone())?;
        if rebuilt == record {
            return Ok(());
        }
        record::replace_record(&place.dir, &rebuilt, &self.paths.temporaries())
    }

    fn rebuild_view(&self, id: &LayerId) -> Result<(), Error> {
        self.engine.rebuild_view(&self.place(id)?, &|| self.chain_of(id))
    }
}
