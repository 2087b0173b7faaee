//! Reading every byte of layers and comparing it with what was written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::layers::{SoundParents, diff_id};
use super::{Finding, Tar, hides_chain_index};
use crate::cancel::Cancel;
use crate::digest::Digest;
use crate::engine::Progress;
use crate::error::{Error, IoContext};
use crate::id::LayerId;
use crate::layer_store::LayerStore;
use crate::record::{LayerKind, LayerRecord};
use crate::store::file;

/// What verifying a store has shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// How many layers and sandboxes there are.
    pub layers: usize,
    /// Bytes of tars that were read.
    pub bytes: u64,
    /// What does not verify, by layer.
    pub findings: Vec<Finding>,
}

impl LayerStore {
    /// Reads every byte of a layer and compares: the tar with its diffID and size, the indexes with what the
    /// tar gives. Of a sandbox, what can be compared: its records and its file system's metadata.
    ///
    /// # Errors
    /// The first thing that is wrong: [`Error::DigestMismatch`], [`Error::SizeMismatch`], [`Error::Damaged`].
    pub fn verify(&self, id: &LayerId) -> Result<(), Error> {
        let record = self.record(id)?;
        let id = self.resolve(id)?;
        self.chain_of(&id)?;
        if record.kind == LayerKind::Layer {
            self.check_has_tars(&format!("layer {id}"))?;
        }
        let sound = SoundParents::default();
        let found = self.settled(&id, || self.check_layer(&id, Tar::Read(&()), &sound)).into_iter().next();
        self.cancel().check()?;
        match found {
            Some(violation) => Err(violation.error),
            None if record.kind == LayerKind::Layer => self.check_chain_index(&id),
            None => Ok(()),
        }
    }

    /// As [`Self::verify`], of every layer and sandbox and to the end, `jobs` at a time. Each job reads in
    /// pieces of a mebibyte, and has at most one chain's index in memory.
    ///
    /// # Errors
    /// When the store cannot be listed, or its engine keeps no tars. What does not verify is a finding.
    pub fn verify_all(&self, jobs: NonZeroUsize, progress: &dyn Progress) -> Result<Verified, Error> {
        self.check_has_tars("the layers")?;
        let counted = Counted { progress, bytes: AtomicU64::new(0) };
        let layers = self.largest_first()?;
        let sound = SoundParents::default();
        let found = in_parallel(jobs, &layers, |id| match self.cancel().check() {
            Ok(()) => self.settled(id, || self.check_layer(id, Tar::Read(&counted), &sound)),
            Err(_) => Vec::new(),
        });
        // What was not read to its end is no finding.
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
        // Somebody removes layers while this goes on.
        findings.retain(|found| found.id.as_ref().is_none_or(|id| self.has_directory(id)));
        findings.sort_by(|a, b| (&a.id, a.invariant).cmp(&(&b.id, b.invariant)));
        let bytes = counted.bytes.into_inner();
        Ok(Verified { layers: layers.len(), bytes, findings })
    }

    fn check_has_tars(&self, what: &str) -> Result<(), Error> {
        if !self.is_in_place() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("verifying the bytes of {what}"),
            needs: "the portable engine: the compute service does not keep the tar that they came in",
        })
    }

    /// All layers; what takes longest is begun first, so that no job works on alone in the end.
    fn largest_first(&self) -> Result<Vec<LayerId>, Error> {
        let mut layers = self.layers()?;
        let size = |id: &LayerId| self.read_record(id).map_or(0, |record| record.tar_size);
        layers.sort_by_cached_key(|id| std::cmp::Reverse(size(id)));
        Ok(layers)
    }
}

/// Counts the bytes that are read, and tells `progress` of them.
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

/// Does `work` for every item, so many at a time; the answers are in the items' order.
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

/// Compares all of a tar with its diffID.
pub(super) fn check_digest(
    id: &LayerId,
    record: &LayerRecord,
    (tar, path): (&File, &Path),
    (progress, cancel): (&dyn Progress, &Cancel),
) -> Result<(), Error> {
    let expected = diff_id(id, record)?;
    read_ahead(tar);
    let (actual, _) = Digest::of_reader(cancel.reader(Heard { reader: tar, progress })).at("read", path)?;
    if actual == expected {
        return Ok(());
    }
    Err(Error::DigestMismatch { what: format!("layer {id}: {}", file::TAR), expected, actual })
}

/// Has the kernel read while we hash. It only makes this faster, so it does not matter whether it can.
#[cfg(target_os = "linux")]
fn read_ahead(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
}

#[cfg(not(target_os = "linux"))]
fn read_ahead(_: &File) {}

/// A file whose reader is heard of.
struct Heard<'a> {
    reader: &'a File,
    progress: &'a dyn Progress,
}

impl Read for Heard<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.progress.blob_bytes(count as u64);
        Ok(count)
    }
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
