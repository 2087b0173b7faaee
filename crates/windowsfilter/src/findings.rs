//! Faults found in a store: first as the error of a check, then as a finding to show.

use std::path::PathBuf;

use crate::error::{Error, chain_text};
use crate::id::LayerId;
use crate::invariants::Invariant;

/// A violated invariant, to show to the user.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The violated invariant.
    pub invariant: Invariant,
    /// The layer it concerns; `None` for the store as a whole.
    pub id: Option<LayerId>,
    /// What is wrong.
    pub problem: String,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// A violated invariant, with the error that shows it.
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

/// A file or directory that should not exist, with its finding. It counts as repaired once `path` is gone.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// Where it is.
    pub path: PathBuf,
    /// The finding to report.
    pub finding: Finding,
}

impl Leftover {
    pub(crate) fn new(invariant: Invariant, path: PathBuf, id: Option<LayerId>, problem: String) -> Self {
        Self { path, finding: Finding { invariant, id, problem, repaired: false } }
    }

    /// A leftover whose message is `path`, followed by `problem`.
    pub(crate) fn at(invariant: Invariant, path: PathBuf, problem: &str) -> Self {
        let problem = format!("{} {problem}", path.display());
        Self::new(invariant, path, None, problem)
    }
}

/// The message for a leftover of a dead process.
pub(crate) const DIED: &str = "was left by a process that died";

/// Turns the error of a check into a violation of `invariant`.
pub(crate) trait Breaks<T> {
    fn breaks(self, invariant: Invariant) -> Result<T, Violation>;
}

impl<T> Breaks<T> for Result<T, Error> {
    fn breaks(self, invariant: Invariant) -> Result<T, Violation> {
        self.map_err(|error| Violation { invariant, error })
    }
}
