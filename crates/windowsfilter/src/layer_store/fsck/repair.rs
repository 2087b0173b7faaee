//! What can be put right from a layer's truth, which is its tar and its records: the indexes.
//!
//! Everything else stays as it is found. A damaged record may be worth more to whoever repairs it by hand
//! than a guess, and a layer can be imported again.

use super::Invariant;
use super::findings::Violation;
use super::layers::diff_id;
use crate::digest::DiffId;
use crate::engine::portable::{chain, import};
use crate::error::Error;
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::metadata::StreamForm;
use crate::record::{self, LayerRecord};
use crate::store::file;

impl LayerStore {
    /// Puts right what is, if it can be; `None` for what never can.
    pub(super) fn mend(&self, id: &LayerId, violation: &Violation) -> Option<Result<(), Error>> {
        match violation.invariant {
            Invariant::IndexDigest => Some(self.rebuild_index(id)),
            Invariant::ChainIndex => Some(self.rebuild_chain_index(id)),
            _ => None,
        }
    }

    /// Makes a layer's index anew, of the very tar that has its diffID.
    fn rebuild_index(&self, id: &LayerId) -> Result<(), Error> {
        let record = self.read_record(id)?;
        let expected = diff_id(id, &record)?;
        let dir = self.paths.layer(id);
        let temporaries = self.paths.temporaries();
        let made = import::rebuild_index(
            &dir.join(file::TAR),
            DiffId(expected),
            &dir.join(file::INDEX),
            &temporaries,
        )?;
        if made.index == record.index {
            return Ok(());
        }
        // Another version of this program writes it differently.
        record::replace_record(&dir, &LayerRecord { index: made.index, ..record }, &temporaries)
    }

    fn rebuild_chain_index(&self, id: &LayerId) -> Result<(), Error> {
        let chain = self.chain_of(id)?;
        for (_, form) in StreamForm::NAMES {
            let out = self.paths.layer(id).join(chain::index_file(form));
            if out.exists() {
                chain::write_chain_index(&chain, &out, &self.paths.temporaries(), form)?;
            }
        }
        Ok(())
    }
}
