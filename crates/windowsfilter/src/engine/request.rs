//! What an engine is given that imports or checks a layer, and what it answers.

use std::io::Read;

use crate::digest::{DiffId, Digest};
use crate::engine::Place;
use crate::record::LayerRecord;

/// A layer to take in.
pub struct ImportRequest<'a> {
    /// The layer's tar: as it is, or compressed with gzip or zstd, which its first bytes tell.
    pub blob: Box<dyn Read + Send + 'a>,
    /// What the blob has to be.
    pub expect: Expect,
    /// Hears how it goes, on several threads.
    pub progress: &'a dyn Progress,
    /// The layer's name for messages.
    pub label: String,
}

impl<'a> ImportRequest<'a> {
    /// Whatever `blob` gives is imported; messages call it `label`.
    pub fn new(label: impl Into<String>, blob: impl Read + Send + 'a) -> Self {
        Self { blob: Box::new(blob), expect: Expect::default(), progress: &(), label: label.into() }
    }
}

/// What is known of a blob before it is read; anything else than this is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// Digest and length in bytes of the blob, compressed as it is.
    pub blob: Option<(Digest, u64)>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<DiffId>,
}

/// Hears how an import goes.
pub trait Progress: Send + Sync {
    /// So many more bytes of the blob were read.
    fn blob_bytes(&self, _n: u64) {}
    /// So many more entries were read.
    fn entries(&self, _n: u64) {}
}

impl Progress for () {}

/// What was taken in.
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
    /// What is odd about the tar but no error.
    pub notes: Vec<String>,
    /// Targets of hard links that are not in this tar, so have to be in a parent layer; sorted.
    pub parent_links: Vec<Vec<u8>>,
    /// Deletions, and directories that hide what is below.
    pub whiteouts: u64,
}

/// How much of a layer's tar a check reads.
#[derive(Clone, Copy)]
pub(crate) enum Reading<'a> {
    /// Its length.
    Length,
    /// All of it, telling how that goes.
    Bytes(&'a dyn Progress),
}

/// A layer or sandbox that an engine checks.
pub(crate) struct Examined<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// Its record.
    pub record: &'a LayerRecord,
    /// How much of its tar is read.
    pub reading: Reading<'a>,
    /// Whether it is unmounted, and stays so during the check.
    pub idle: bool,
}
