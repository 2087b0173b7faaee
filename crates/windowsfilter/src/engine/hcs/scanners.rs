//! Retries while a scanner has a layer open, and the error for a layer that stays open.
//!
//! Not for `ProcessBaseImage`, `ProcessUtilityImage` and `ImportLayer`: it is unknown what a failed attempt
//! of them leaves behind.

use std::path::Path;

use hcs::{Code, Host};

use super::Hcs;
use crate::error::Error;
use crate::id::LayerId;
use crate::scanners;

/// Number of processes named that hold a layer.
const NAMED: usize = 5;

/// Whether another process may have it open: a directory with an open file cannot be renamed
/// (`ERROR_ACCESS_DENIED`), and an open file cannot be removed (`ERROR_SHARING_VIOLATION`).
pub(super) fn is_locked(error: &hcs::Error) -> bool {
    matches!(error.code, Code::ACCESS_DENIED | Code::SHARING_VIOLATION)
}

/// Retries `attempt` while another process may have the layer open, for as long as scanners take.
pub(super) fn outlast<H: Host, T>(
    host: &H,
    what: &str,
    attempt: impl FnMut() -> hcs::Result<T>,
) -> hcs::Result<T> {
    scanners::outlast(what, |pause| host.pause(pause), is_locked, attempt)
}

impl<H: Host> Hcs<H> {
    /// The error for a layer that stays locked: it is in use, and by which processes, if Windows knows. An
    /// administrator has all rights in a home, so for one a denied access also means that it is in use.
    pub(super) fn in_use(&self, id: &LayerId, dir: &Path, error: hcs::Error) -> Error {
        if !is_locked(&error) {
            return Error::Hcs { id: id.to_string(), error };
        }
        let holders = match self.host.holders(dir) {
            Ok(holders) => holders,
            Err(unknown) => {
                tracing::debug!("layer {id}: who has it open is not known: {unknown}");
                Vec::new()
            }
        };
        let may = self.host.user().is_ok_and(|user| user.is_administrator);
        if error.code == Code::ACCESS_DENIED && holders.is_empty() && !may {
            return Error::Hcs { id: id.to_string(), error };
        }
        let more = holders.len().saturating_sub(NAMED);
        let names = holders.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        let by = match (names.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" by {names}"),
            (false, _) => format!(" by {names} and {more} more"),
        };
        Error::InUse { id: id.clone(), by: format!("{by}: {error}") }
    }
}
