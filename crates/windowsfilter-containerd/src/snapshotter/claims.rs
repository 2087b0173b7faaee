//! One call at a time for each key: others for the same key wait, all others go on.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The keys that somebody works on.
#[derive(Debug, Default)]
pub(super) struct Claims {
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// Keys that are somebody's until this is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    keys: Vec<String>,
}

impl Claims {
    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set is whole after every one of its calls.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody has any of the keys, then takes all of them.
    pub(super) fn claim(&self, keys: &[&str]) -> Claim<'_> {
        let mut busy = self.busy();
        while keys.iter().any(|&key| busy.contains(key)) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        busy.extend(keys.iter().cloned());
        Claim { claims: self, keys }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut busy = self.claims.busy();
        for key in &self.keys {
            busy.remove(key);
        }
        self.claims.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_key_is_one_callers_at_a_time_and_other_keys_are_free() {
        let claims = Claims::default();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let first = claims.claim(&["a", "b"]);
            scope.spawn(|| {
                let _second = claims.claim(&["b", "c"]);
                sender.send("second").unwrap();
            });
            drop(claims.claim(&["d"]));
            // Nothing can have been sent as long as `first` is held.
            assert!(receiver.try_recv().is_err());
            drop(first);
            assert_eq!(receiver.recv().unwrap(), "second");
        });
    }
}
