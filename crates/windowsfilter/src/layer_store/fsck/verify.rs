//! Reads every byte of the layers and compares it with the digests recorded at import.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::hides_chain_index;
use super::layers::SoundParents;
use crate::engine::{Progress, Reading};
use crate::error::Error;
use crate::findings::Finding;
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::record::LayerKind;

/// The result of verifying a store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Number of layers and sandboxes.
    pub layers: usize,
    /// Bytes of tars that were read.
    pub bytes: u64,
    /// What does not verify, sorted by layer.
    pub findings: Vec<Finding>,
}

impl LayerStore {
    /// Reads every byte of a layer and compares the tar with its diffID and size, and the indexes with those
    /// built from the tar. Of a sandbox, checks its records and its file system's metadata.
    ///
    /// # Errors
    /// The first fault: [`Error::DigestMismatch`], [`Error::SizeMismatch`], [`Error::Damaged`].
    pub fn verify(&self, id: &LayerId) -> Result<(), Error> {
        let record = self.record(id)?;
        let id = self.resolve(id)?;
        self.chain_of(&id)?;
        if record.kind == LayerKind::Layer {
            self.check_has_tars(&format!("layer {id}"))?;
        }
        let sound = SoundParents::default();
        let found =
            self.settled(&id, || self.check_layer(&id, Reading::Bytes(&()), &sound)).into_iter().next();
        self.cancel().check()?;
        match found {
            Some(violation) => Err(violation.error),
            None if record.kind == LayerKind::Layer => self.check_view(&id),
            None => Ok(()),
        }
    }

    /// Like [`Self::verify`], for every layer and sandbox, `jobs` at a time, without stopping at a fault.
    /// Each job reads 1 MiB at a time and holds at most one chain's index in memory.
    ///
    /// # Errors
    /// When the store cannot be listed, or its engine keeps no tars. Faults are findings, not errors.
    pub fn verify_all(&self, jobs: NonZeroUsize, progress: &dyn Progress) -> Result<Verified, Error> {
        self.check_has_tars("the layers")?;
        let counted = Counted { progress, bytes: AtomicU64::new(0) };
        let layers = self.largest_first()?;
        let sound = SoundParents::default();
        let found = in_parallel(jobs, &layers, |id| match self.cancel().check() {
            Ok(()) => self.settled(id, || self.check_layer(id, Reading::Bytes(&counted), &sound)),
            Err(_) => Vec::new(),
        });
        // Findings of a cancelled check are not reliable.
        self.cancel().check()?;
        let mut findings = Vec::new();
        let mut hidden = BTreeSet::new();
        for (id, violation) in
            layers.iter().zip(found).flat_map(|(id, found)| found.into_iter().map(move |v| (id, v)))
        {
            if hides_chain_index(violation.invariant) {
                hidden.insert(id.clone());
            }
            findings.push(violation.of(id));
        }
        let chains = in_parallel(jobs, &layers, |id| match self.cancel().check() {
            Ok(()) => self.settled(id, || self.check_visible_chain_index(id, &hidden)),
            Err(_) => Vec::new(),
        });
        self.cancel().check()?;
        let chains = layers.iter().zip(chains);
        findings.extend(chains.flat_map(|(id, found)| found.into_iter().map(move |found| found.of(id))));
        // Layers may be removed meanwhile.
        findings.retain(|found| found.id.as_ref().is_none_or(|id| self.has_directory(id)));
        findings.sort_by(|a, b| (&a.id, a.invariant).cmp(&(&b.id, b.invariant)));
        let bytes = counted.bytes.into_inner();
        Ok(Verified { layers: layers.len(), bytes, findings })
    }

    fn check_has_tars(&self, what: &str) -> Result<(), Error> {
        if self.keeps_tars() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("verifying the bytes of {what}"),
            needs: "the portable engine: the compute service does not keep the tar that they came in",
        })
    }

    /// All layers, largest first, so that no job is left working alone at the end.
    fn largest_first(&self) -> Result<Vec<LayerId>, Error> {
        let mut layers = self.layers()?;
        let size = |id: &LayerId| self.read_record(id).map_or(0, |record| record.tar_size);
        layers.sort_by_cached_key(|id| std::cmp::Reverse(size(id)));
        Ok(layers)
    }
}

/// Counts the bytes that are read and reports them to `progress`.
struct Counted<'a> {
    progress: &'a dyn Progress,
    bytes: AtomicU64,
}

impl Progress for Counted<'_> {
    fn blob_bytes(&self, n: u64) {
        self.bytes.fetch_add(n, Ordering::Relaxed);
        self.progress.blob_bytes(n);
    }
}

/// Runs `work` for every item, `jobs` at a time; the results are in the items' order.
fn in_parallel<T: Sync, R: Send>(jobs: NonZeroUsize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.get().min(items.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { break };
                    let answer = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, answer));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_in_the_order_of_the_items_whoever_gave_them() {
        let items: Vec<u32> = (0..1000).collect();
        for jobs in [1, 3, 2000] {
            let answers = in_parallel(NonZeroUsize::new(jobs).unwrap(), &items, |item| item * 2);
            assert!(answers.iter().zip(&items).all(|(answer, item)| *answer == item * 2));
            assert_eq!(answers.len(), items.len());
        }
        assert_eq!(in_parallel(NonZeroUsize::MIN, &[] as &[u32], |item| *item), [0; 0]);
    }
}
