//! Calls that end early: the client disconnected, or the deadline passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Tells a call's blocking work that its caller is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// Sets the [`Stop`] on drop.
#[derive(Debug)]
pub(crate) struct StopOnDrop(Stop);

impl Stop {
    /// A guard that sets this on drop; the call's future holds it.
    pub(crate) fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }

    /// Whether the caller is gone.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if the caller is gone.
    ///
    /// # Errors
    /// [`Error::Abandoned`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_set() { Err(Error::Abandoned) } else { Ok(()) }
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A reader that fails once the caller is gone.
pub(crate) struct Stoppable<R> {
    inner: R,
    stop: Stop,
}

impl<R> Stoppable<R> {
    pub(crate) fn new(inner: R, stop: &Stop) -> Self {
        Self { inner, stop: stop.clone() }
    }
}

impl<R: std::io::Read> std::io::Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.stop.is_set() {
            return Err(std::io::Error::other("the client no longer waits for it"));
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_read_ends_when_nobody_waits_for_it_any_more() {
        let stop = Stop::default();
        let waiting = stop.on_drop();
        let mut endless = Stoppable::new(std::io::repeat(7), &stop);
        endless.read_exact(&mut [0; 100]).unwrap();
        stop.check().unwrap();
        drop(waiting);
        assert!(endless.read(&mut [0; 100]).is_err());
        assert!(matches!(stop.check(), Err(Error::Abandoned)));
    }
}
