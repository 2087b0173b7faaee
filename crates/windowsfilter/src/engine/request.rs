//! Parameters and results of importing and checking a layer in an engine.

use std::io::Read;

use crate::digest::{DiffId, Digest};
use crate::engine::Place;
use crate::record::LayerRecord;

/// A layer to import.
pub struct ImportRequest<'a> {
    /// The layer's tar, plain or compressed with gzip or zstd; its first bytes decide which.
    pub blob: Box<dyn Read + Send + 'a>,
    /// What the blob must be.
    pub expect: Expect,
    /// Receives progress, called from several threads.
    pub progress: &'a dyn Progress,
    /// The layer's name for messages.
    pub label: String,
}

impl<'a> ImportRequest<'a> {
    /// Imports `blob` without expectations; messages call the layer `label`.
    pub fn new(label: impl Into<String>, blob: impl Read + Send + 'a) -> Self {
        Self { blob: Box::new(blob), expect: Expect::default(), progress: &(), label: label.into() }
    }
}

/// What is known of a blob before it is read; a blob that differs is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Digest and length in bytes of the blob, in its compressed form if it is compressed.
    pub blob: Option<(Digest, u64)>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<DiffId>,
}

/// Receives the progress of an import or a check.
pub trait Progress: Send + Sync {
    /// `n` more bytes of the blob were read.
    fn blob_bytes(&self, _n: u64) {}
    /// `n` more entries were read.
    fn entries(&self, _n: u64) {}
}

impl Progress for () {}

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Imported {
    /// Digest of the tar.
    pub diff_id: DiffId,
    /// Length of the tar, bytes.
    pub tar_size: u64,
    /// Bytes of all files, as the original counts them: named streams are not counted.
    pub size: u64,
    /// Entries of the tar, named streams not counted.
    pub entries: u64,
    /// Digest of the index, if the engine has one.
    pub index: Option<Digest>,
    /// Digest and length in bytes of the blob.
    pub blob: (Digest, u64),
    /// Oddities of the tar that are not errors.
    pub notes: Vec<String>,
    /// Targets of hard links that are not in this tar, and so must be in a parent layer; sorted.
    pub parent_links: Vec<Vec<u8>>,
    /// Number of deletions and opaque directories.
    pub whiteouts: u64,
}

/// How much of a layer's tar a check reads.
#[derive(Clone, Copy)]
pub(crate) enum Reading<'a> {
    /// Its length.
    Length,
    /// All of it, reporting progress.
    Bytes(&'a dyn Progress),
}

/// A layer or sandbox that an engine checks.
pub(crate) struct Examined<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// Its record.
    pub record: &'a LayerRecord,
    /// How much of its tar to read.
    pub reading: Reading<'a>,
    /// Whether it is unmounted, and stays so during the check.
    pub idle: bool,
}
