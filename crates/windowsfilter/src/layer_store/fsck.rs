//! Checks the invariants of a store.
//!
//! `invariants.rs` names the invariants; `docs/fsck.md` is their manual. `leftovers.rs` checks the store as a
//! whole, `layers.rs` one layer or sandbox, whose content the engine checks. `verify.rs` reads all bytes,
//! which `fsck` does not; `repair.rs` repairs what can be rebuilt.

mod layers;
mod leftovers;
mod repair;
mod verify;

use std::collections::BTreeSet;

pub use verify::Verified;

use layers::SoundParents;

use super::LayerStore;
use crate::engine::Reading;
use crate::error::{Error, chain_text};
use crate::findings::{Breaks, Finding, Violation};
use crate::id::LayerId;
use crate::invariants::Invariant;

impl LayerStore {
    /// Checks every invariant of the store, short of reading every tar ([`Self::verify_all`] does). With
    /// `repair`, repairs everything that it can without losing data: removes leftovers and rebuilds indexes.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn fsck(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        let mut findings = self.find_leftovers(repair)?;
        let layers = self.layers()?;
        // Layers too damaged to check the merged indexes above them.
        let mut hidden = BTreeSet::new();
        let sound = SoundParents::default();
        for id in &layers {
            self.cancel().check()?;
            for violation in self.settled(id, || self.check_layer(id, Reading::Length, &sound)) {
                let finding = self.settle(id, violation, repair);
                if !finding.repaired && hides_chain_index(finding.invariant) {
                    hidden.insert(id.clone());
                }
                findings.push(finding);
            }
        }
        for id in &layers {
            self.cancel().check()?;
            for violation in self.settled(id, || self.check_visible_chain_index(id, &hidden)) {
                findings.push(self.settle(id, violation, repair));
            }
        }
        // Findings of a cancelled check are not reliable.
        self.cancel().check()?;
        // Layers may be removed meanwhile.
        findings.retain(|found| {
            found.id.as_ref().is_none_or(|id| !layers.contains(id) || self.has_directory(id))
        });
        Ok(findings)
    }

    fn has_directory(&self, id: &LayerId) -> bool {
        self.paths.layer(id).is_dir()
    }

    /// The violations of a layer whose directory stayed the same during the check. Others may remove the
    /// layer meanwhile, and import it again.
    fn settled<T: IntoIterator<Item = Violation>>(
        &self,
        id: &LayerId,
        look: impl Fn() -> T,
    ) -> Vec<Violation> {
        const LOOKS: usize = 5;
        for _ in 0..LOOKS {
            let before = self.which_directory(id);
            let found: Vec<Violation> = look().into_iter().collect();
            if found.is_empty() {
                return found;
            }
            // A layer removed meanwhile has no findings.
            if before == self.which_directory(id) {
                return if before.is_some() { found } else { Vec::new() };
            }
        }
        Vec::new()
    }

    /// Distinguishes a layer's directory from a later one of the same name; `None` if there is none.
    fn which_directory(&self, id: &LayerId) -> Option<(u64, std::time::SystemTime)> {
        let directory = std::fs::metadata(self.paths.layer(id)).ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&directory);
        #[cfg(not(unix))]
        let number = 0;
        Some((number, directory.modified().ok()?))
    }

    /// Turns a violation into a finding, after repairing it if `repair` is set and a repair exists.
    fn settle(&self, id: &LayerId, violation: Violation, repair: bool) -> Finding {
        let mended = if repair { self.mend(id, &violation) } else { None };
        let finding = violation.of(id);
        match mended {
            None => finding,
            Some(Ok(())) => Finding { repaired: true, ..finding },
            Some(Err(error)) => {
                let problem =
                    format!("{}; it could not be repaired: {}", finding.problem, chain_text(&error));
                Finding { problem, ..finding }
            }
        }
    }

    /// Checks the merged index of a chain whose layers are all intact; a damaged layer is a finding of its
    /// own.
    fn check_visible_chain_index(&self, id: &LayerId, hidden: &BTreeSet<LayerId>) -> Option<Violation> {
        if self.resolve(id).ok()? != *id {
            return None;
        }
        let chain = self.read_chain(id).ok()?;
        if hidden.contains(id) || chain.iter().any(|parent| hidden.contains(parent)) {
            return None;
        }
        self.check_view(id).breaks(Invariant::ChainIndex).err()
    }
}

/// Whether a layer that violates `invariant` cannot be merged with others.
fn hides_chain_index(invariant: Invariant) -> bool {
    matches!(
        invariant,
        Invariant::LayerRecord
            | Invariant::LayerChain
            | Invariant::ParentsExist
            | Invariant::ChainContinues
            | Invariant::IndexDigest
    )
}
