//! Per-key locks: calls for the same key run one at a time, others concurrently.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::stop::Stop;

/// How often a call that waits for a key checks whether its caller is gone.
const LOOK: Duration = Duration::from_millis(100);

/// The keys that are claimed.
#[derive(Debug, Default)]
pub(super) struct Claims {
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// A claim on keys, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    keys: Vec<String>,
}

impl Claims {
    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        // Each single call leaves the set consistent.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all of the keys are free, then claims them.
    ///
    /// # Errors
    /// [`Error::Abandoned`] if the caller is gone.
    pub(super) fn claim(&self, keys: &[&str], stop: &Stop) -> Result<Claim<'_>, Error> {
        let mut busy = self.busy();
        while keys.iter().any(|&key| busy.contains(key)) {
            stop.check()?;
            busy = self.freed.wait_timeout(busy, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        busy.extend(keys.iter().cloned());
        Ok(Claim { claims: self, keys })
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
        let (claims, stop) = (Claims::default(), Stop::default());
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let first = claims.claim(&["a", "b"], &stop).unwrap();
            scope.spawn(|| {
                let _second = claims.claim(&["b", "c"], &stop).unwrap();
                sender.send("second").unwrap();
            });
            drop(claims.claim(&["d"], &stop).unwrap());
            // The thread cannot have sent anything while `first` is held.
            assert!(receiver.try_recv().is_err());
            drop(first);
            assert_eq!(receiver.recv().unwrap(), "second");
        });
    }

    #[test]
    fn a_call_that_nobody_waits_for_waits_for_no_key() {
        let (claims, stop) = (Claims::default(), Stop::default());
        let _first = claims.claim(&["a"], &stop).unwrap();
        drop(stop.on_drop());
        assert!(matches!(claims.claim(&["a"], &stop), Err(Error::Abandoned)));
    }
}
