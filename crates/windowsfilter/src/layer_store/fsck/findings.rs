//! What is found wrong, first as an error of the check that found it, then as a finding for whoever asked.

use super::Invariant;
use crate::error::{Error, chain_text};
use crate::id::LayerId;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What does not hold.
    pub invariant: Invariant,
    /// The layer it concerns; `None`: the store.
    pub id: Option<LayerId>,
    /// What is wrong.
    pub problem: String,
    /// Whether it was put right.
    pub repaired: bool,
}

/// An invariant that does not hold, and how.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) error: Error,
}

impl Violation {
    /// As a finding about `id`, which is not repaired.
    pub(super) fn of(self, id: &LayerId) -> Finding {
        Finding {
            invariant: self.invariant,
            id: Some(id.clone()),
            problem: chain_text(&self.error),
            repaired: false,
        }
    }
}

/// Takes the result of a check for one of `invariant`.
pub(super) trait Breaks<T> {
    fn breaks(self, invariant: Invariant) -> Result<T, Violation>;
}

impl<T> Breaks<T> for Result<T, Error> {
    fn breaks(self, invariant: Invariant) -> Result<T, Violation> {
        self.map_err(|error| Violation { invariant, error })
    }
}
