//! What can be put right from a layer's truth, which is its tar and its records: what the engine derives.
//!
//! Everything else stays as it is found. A damaged record may be worth more to whoever repairs it by hand
//! than a guess, and a layer can be imported again.

use crate::error::Error;
use crate::findings::Violation;
use crate::id::LayerId;
use crate::invariants::Invariant;
use crate::layer_store::LayerStore;
use crate::record;

impl LayerStore {
    /// Puts right what is, if it can be; `None` for what never can.
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
