//! Layers between Apply and Commit: being read, or complete and not committed yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use windowsfilter::StagedLayer;

/// The layers, by their snapshot's number.
#[derive(Debug, Default)]
pub(super) struct Unpacks {
    layers: Mutex<HashMap<u64, Unpack>>,
    ended: Condvar,
}

#[derive(Debug)]
enum Unpack {
    Running(Cancel),
    Done(Box<StagedLayer>),
    /// Commit took it and failed.
    GivenUp,
}

/// The state of a snapshot's layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing was applied to it.
    None,
    /// It is being applied.
    Running,
    /// It was applied.
    Done,
    /// It was applied, but a failed commit has given it up.
    GivenUp,
}

/// Tells a running Apply to stop.
#[derive(Clone, Debug)]
pub(crate) struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cancelled: AtomicBool,
    source: tokio::task::AbortHandle,
}

impl Cancel {
    /// `source` feeds the Apply its blob: aborting it ends the Apply.
    pub(crate) fn new(source: tokio::task::AbortHandle) -> Self {
        Self(Arc::new(Inner { cancelled: AtomicBool::new(false), source }))
    }

    /// Stops the Apply.
    pub(crate) fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        self.0.source.abort();
    }

    /// Whether it was told to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }
}

/// An Apply that runs until this is finished or dropped.
#[derive(Debug)]
pub(super) struct Running<'a> {
    unpacks: &'a Unpacks,
    number: u64,
    cancel: Cancel,
}

impl Unpacks {
    fn layers(&self) -> MutexGuard<'_, HashMap<u64, Unpack>> {
        // Each single call leaves the map consistent.
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an Apply; if one is running or done, returns that state.
    pub(super) fn begin(&self, number: u64, cancel: Cancel) -> Result<Running<'_>, Progress> {
        let mut layers = self.layers();
        match layers.get(&number) {
            Some(Unpack::Running(_)) => return Err(Progress::Running),
            Some(Unpack::Done(_)) => return Err(Progress::Done),
            Some(Unpack::GivenUp) | None => {}
        }
        layers.insert(number, Unpack::Running(cancel.clone()));
        Ok(Running { unpacks: self, number, cancel })
    }

    /// Adds a layer that an earlier server left.
    pub(super) fn found(&self, number: u64, layer: StagedLayer) {
        self.layers().insert(number, Unpack::Done(Box::new(layer)));
    }

    /// Runs `look` on a complete layer.
    pub(super) fn look<T>(&self, number: u64, look: impl FnOnce(&StagedLayer) -> T) -> Option<T> {
        match self.layers().get(&number) {
            Some(Unpack::Done(layer)) => Some(look(layer)),
            _ => None,
        }
    }

    /// Takes the complete layer. Until [`Self::discard`] it counts as given up.
    pub(super) fn take(&self, number: u64) -> Result<StagedLayer, Progress> {
        let mut layers = self.layers();
        let Some(unpack) = layers.get_mut(&number) else { return Err(Progress::None) };
        match std::mem::replace(unpack, Unpack::GivenUp) {
            Unpack::Done(layer) => Ok(*layer),
            Unpack::GivenUp => Err(Progress::GivenUp),
            Unpack::Running(cancel) => {
                *unpack = Unpack::Running(cancel);
                Err(Progress::Running)
            }
        }
    }

    /// Stops a running Apply and waits for its end; discards a complete layer.
    pub(super) fn discard(&self, number: u64) {
        let mut layers = self.layers();
        while let Some(Unpack::Running(cancel)) = layers.get(&number) {
            cancel.cancel();
            layers = self.ended.wait(layers).unwrap_or_else(PoisonError::into_inner);
        }
        let layer = layers.remove(&number);
        drop(layers);
        if let Some(Unpack::Done(layer)) = layer {
            layer.discard();
        }
    }
}

impl Running<'_> {
    /// Marks the layer complete; returns it if the Apply was cancelled.
    pub(super) fn finish(self, layer: StagedLayer) -> Result<(), Box<StagedLayer>> {
        let layer = Box::new(layer);
        let mut layers = self.unpacks.layers();
        if self.cancel.is_cancelled() {
            return Err(layer);
        }
        layers.insert(self.number, Unpack::Done(layer));
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut layers = self.unpacks.layers();
        if let Some(Unpack::Running(_)) = layers.get(&self.number) {
            layers.remove(&self.number);
        }
        self.unpacks.ended.notify_all();
    }
}
