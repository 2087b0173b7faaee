//! Apply: turns a blob into a staged layer, which Commit names.

use std::io::Read;
use std::sync::Arc;

use windowsfilter::import::{Expect, ImportRequest, Imported};
use windowsfilter::{DiffId, Digest};

use super::Snapshotter;
use super::unpacks::{Cancel, Progress};
use crate::error::Error;
use crate::labels;
use crate::records::{Kind, Record};

/// A layer's blob, with what it must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerBlob {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its length, bytes.
    pub(crate) size: u64,
    /// Digest of its uncompressed content, if known.
    pub(crate) diff_id: Option<DiffId>,
}

impl Snapshotter {
    /// Imports `layer` from `blob` into the snapshot. It is durable on success and removed on failure.
    ///
    /// # Errors
    /// [`Error::NotForApply`], [`Error::AppliedAlready`], [`Error::BeingApplied`]; a blob that does not
    /// match `layer` and the snapshot's labels, or is not a Windows layer; [`Error::Cancelled`].
    pub(crate) fn unpack(
        &self,
        record: &Arc<Record>,
        layer: LayerBlob,
        blob: Box<dyn Read + Send>,
        cancel: &Cancel,
    ) -> Result<Imported, Error> {
        let key = || record.short_key();
        let LayerBlob { digest, size, diff_id } = layer;
        if record.kind != Kind::Unpack {
            return Err(Error::NotForApply { key: key(), kind: record.kind, digest: digest.to_string() });
        }
        let expect =
            Expect { blob: Some((digest, size)), diff_id: diff_id.or(labels::diff_id(&record.labels)?) };
        let running =
            self.unpacks.begin(record.number, cancel.clone()).map_err(|progress| match progress {
                Progress::Done => Error::AppliedAlready { key: key(), digest: digest.to_string() },
                _ => Error::BeingApplied { action: "apply to", key: key() },
            })?;
        // Check again: from here on Remove and Commit see this Apply.
        let now = self.records.numbered(record.number).filter(|now| now.kind == Kind::Unpack);
        now.ok_or_else(|| Error::NoSuchSnapshot { key: key() })?;
        let request = ImportRequest { blob, expect, progress: &(), label: digest.to_string() };
        let cancelled = || Error::Cancelled { key: key(), digest: digest.to_string() };
        let staged = self.store.stage(&self.layer_id(record.number)?, request).map_err(Error::from);
        let mut staged = match staged {
            // The error only says that the stream ended early.
            Err(_) if cancel.is_cancelled() => return Err(cancelled()),
            other => other?,
        };
        staged.keep()?;
        let imported = staged.imported.clone();
        if let Err(staged) = running.finish(staged) {
            staged.discard();
            return Err(cancelled());
        }
        match self.set_applied(record.number, true) {
            Ok(()) => Ok(imported),
            Err(error) => {
                self.unpacks.discard(record.number);
                Err(error)
            }
        }
    }

    /// Records whether containerd got a success for an applied layer. From then on the layer stays until
    /// its snapshot is removed; if it is missing, something else removed it.
    pub(super) fn set_applied(&self, number: u64, applied: bool) -> Result<(), Error> {
        self.records.modify(number, |record| Record { applied, ..record.clone() })
    }
}
