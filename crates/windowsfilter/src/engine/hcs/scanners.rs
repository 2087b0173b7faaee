//! What is tried again when a scanner has a layer open, and what is said of one that stays open.
//!
//! Not `ProcessBaseImage`, `ProcessUtilityImage` and `ImportLayer`: what a first attempt has left for
//! a second is not known.

use std::path::Path;

use hcs::{Code, Host};

use super::Hcs;
use crate::error::Error;
use crate::id::LayerId;
use crate::scanners;

/// How many of those who hold a layer are named.
const NAMED: usize = 5;

/// Whether somebody may have it open: a directory in which a file is open is not renamed
/// (`ERROR_ACCESS_DENIED`), and an open file not removed (`ERROR_SHARING_VIOLATION`).
pub(super) fn is_locked(error: &hcs::Error) -> bool {
    matches!(error.code, Code::ACCESS_DENIED | Code::SHARING_VIOLATION)
}

/// Does what can be repeated until no other process has it open, or for as long as scanners take.
pub(super) fn outlast<H: Host, T>(
    host: &H,
    what: &str,
    attempt: impl FnMut() -> hcs::Result<T>,
) -> hcs::Result<T> {
    scanners::outlast(what, |pause| host.pause(pause), is_locked, attempt)
}

impl<H: Host> Hcs<H> {
    /// Says of a layer that stays locked that it is in use, and by whom, as far as Windows knows. To an
    /// administrator everything in a home is allowed, so what is denied is in use as well.
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
