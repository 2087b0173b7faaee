//! Waiting for conditions, never for time.

use testbed::containerd::daemon::{Answer, DEADLINE, wait_for};

/// Asks until there is an answer.
///
/// # Panics
/// At the deadline, with the last reason for having none.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    wait_for(what, DEADLINE, || Ok(ask().map_or_else(Answer::NotYet, Answer::Is))).unwrap()
}
