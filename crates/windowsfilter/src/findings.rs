//! What is found wrong with a store: first an error of the check that found it, then a finding to show.

use std::path::PathBuf;

use crate::error::{Error, chain_text};
use crate::id::LayerId;
use crate::invariants::Invariant;

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
pub(crate) struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// What is wrong.
    pub error: Error,
}

impl Violation {
    /// A finding about `id`, not repaired.
    pub(crate) fn of(self, id: &LayerId) -> Finding {
        Finding {
            invariant: self.invariant,
            id: Some(id.clone()),
            problem: chain_text(&self.error),
            repaired: false,
        }
    }
}

/// Something that lies where nothing should be, and what to say of it. It is repaired once nothing is at
/// `path`.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// What to say of it.
    pub finding: Finding,
}

impl Leftover {
    pub(crate) fn new(invariant: Invariant, path: PathBuf, id: Option<LayerId>, problem: String) -> Self {
        Self { path, finding: Finding { invariant, id, problem, repaired: false } }
    }

    /// What `problem` says of `path` is the whole finding.
    pub(crate) fn at(invariant: Invariant, path: PathBuf, problem: &str) -> Self {
        let problem = format!("{} {problem}", path.display());
        Self::new(invariant, path, None, problem)
    }
}

/// What a leftover of a dead process is said to be.
pub(crate) const DIED: &str = "was left by a process that died";

/// Takes the result of a check for one of `invariant`.
pub(crate) trait Breaks<T> {
    fn breaks(self, invariant: Invariant) -> Result<T, Violation>;
}

impl<T> Breaks<T> for Result<T, Error> {
    fn breaks(self, invariant: Invariant) -> Result<T, Violation> {
        self.map_err(|error| Violation { invariant, error })
    }
}
