//! Cancelling work, and recognizing the errors of cancelled work.
//!
//! Every store has one [`Cancel`], shared by all its clones. The streams of import, export and verification
//! check it at each read; it ends waits for a lock, a pipe or a child process. Undoing must not be cancelled,
//! so it uses [`crate::LayerStore::undoing`].

pub use layer_mounts::{Cancel, CancelReader, Cancelled, PipeReader};

use crate::error::Error;

/// Whether `error` or one of its causes says that work was cancelled.
pub fn is_cancelled(error: &(dyn std::error::Error + 'static)) -> bool {
    layer_mounts::is_cancelled(error)
        || layer_mounts::any_cause(error, &|error| {
            // The source of another error may be boxed.
            let boxed = || error.downcast_ref::<Box<Error>>().map(Box::as_ref);
            match error.downcast_ref::<Error>().or_else(boxed) {
                // `source` skips transparent errors.
                Some(Error::Cancelled(_)) => true,
                #[cfg(target_os = "linux")]
                Some(Error::Linux(inner)) => layer_mounts::is_cancelled(inner),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_cancelled_read_is_known_in_any_error_of_the_store() {
        let read = io::Error::from(Cancelled);
        assert!(is_cancelled(&read) && !is_cancelled(&io::Error::other("x")));
        let in_store = Error::Io { action: "read", path: "x".into(), source: read };
        assert!(is_cancelled(&in_store));
        assert!(is_cancelled(&io::Error::other(in_store)));
        let source = Box::new(Cancelled.into());
        assert!(is_cancelled(&Error::InLayer { id: "x".into(), action: "read", source }));
    }
}
