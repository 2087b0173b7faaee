//! What must be true of a store, and how to find out that it is not.
//!
//! `invariants.rs` names everything that must be true; `docs/fsck.md` is its manual. `leftovers.rs` looks at
//! the store as a whole, `layers.rs` at one layer or sandbox, whose content the engine checks. `verify.rs`
//! reads all bytes, which `fsck` does not; `repair.rs` puts right what it can.

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
    /// `repair`, what can be put right without losing anything is: leftovers go, indexes are rebuilt.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn fsck(&self, repair: bool) -> Result<Vec<Finding>, Error> {
        let mut findings = self.find_leftovers(repair)?;
        let layers = self.layers()?;
        // Layers whose indexes say nothing of those above them.
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
        // What was called off half-way is no finding.
        self.cancel().check()?;
        // Somebody removes layers while this goes on.
        findings.retain(|found| {
            found.id.as_ref().is_none_or(|id| !layers.contains(id) || self.has_directory(id))
        });
        Ok(findings)
    }

    fn has_directory(&self, id: &LayerId) -> bool {
        self.paths.layer(id).is_dir()
    }

    /// What is wrong with a layer that was the same one all the time it was looked at. Somebody may remove it
    /// meanwhile, and import it again.
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
            // Of a layer that went meanwhile there is nothing to say.
            if before == self.which_directory(id) {
                return if before.is_some() { found } else { Vec::new() };
            }
        }
        Vec::new()
    }

    /// Tells a layer's directory from one that has its name later; `None` if there is none.
    fn which_directory(&self, id: &LayerId) -> Option<(u64, std::time::SystemTime)> {
        let directory = std::fs::metadata(self.paths.layer(id)).ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&directory);
        #[cfg(not(unix))]
        let number = 0;
        Some((number, directory.modified().ok()?))
    }

    /// The finding for a violation, put right if that is wanted and can be done.
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

    /// Checks the index of a chain whose layers are all in order; where one is not, that is its own finding.
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

/// Whether a layer of which this does not hold cannot be merged with others.
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
