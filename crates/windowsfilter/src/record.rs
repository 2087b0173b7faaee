//! `layer.json` and `layerchain.json`: a layer's record and its chain of parents.
//!
//! Together with `layer.tar` they define a layer; every index can be rebuilt from them. A missing or damaged
//! one is an error that names it. The original treats a missing `layerchain.json` as "no parents", so a
//! damaged layer silently becomes a base layer (`windows.go`, `getLayerChain`).

use std::path::Path;

use crate::digest::{DiffId, Digest};
use crate::durable;
use crate::engine::StreamForm;
use crate::error::Error;
use crate::id::LayerId;
use crate::sealed;
use crate::store::file;
use crate::temporary::Temporaries;

/// Version of `layer.json` that this code writes and reads.
const VERSION: u32 = 1;

/// The kind of layer that an ID names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// A committed, read-only layer: has a `layer.tar`.
    Layer,
    /// Created, but nothing has been applied to it yet: it has no `Files`.
    Empty,
    /// A writable layer on top of a chain: has a `sandbox.img`.
    Sandbox,
}

impl LayerKind {
    /// Its name in messages and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Empty => "empty layer",
            Self::Sandbox => "sandbox",
        }
    }
}

/// The content of `layer.json`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerRecord {
    /// The kind of this layer.
    pub kind: LayerKind,
    /// Digest of `layer.tar`; layers only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diff_id: Option<DiffId>,
    /// Length of `layer.tar` in bytes.
    #[serde(default)]
    pub tar_size: u64,
    /// Sum of the sizes of the files in it, bytes: what `apply_diff` returns.
    #[serde(default)]
    pub size: u64,
    /// Entries of the tar, named streams not counted.
    #[serde(default)]
    pub entries: u64,
    /// Digest of `layerchain.json`, so that a damaged file is never read as other parents. Set when the layer
    /// is published.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain: Option<Digest>,
    /// Digest of `layer.erofs` as it was written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index: Option<Digest>,
    /// Sandboxes: size of the writable disk, bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sandbox_size: Option<u64>,
    /// Sandboxes: digest of the config of the image it was made from, for the image store.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<Digest>,
    /// Sandboxes: how the view shows streams, and how written streams are read. Missing in sandboxes of
    /// earlier builds, which use plain streams.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub streams: Option<StreamForm>,
    /// When it was added to the store; seconds since 1970.
    pub created: i64,
    /// The tool that wrote it.
    pub tool: String,
}

impl LayerRecord {
    /// An empty record of `kind`, created now.
    pub(crate) fn new(kind: LayerKind) -> Self {
        Self {
            kind,
            diff_id: None,
            tar_size: 0,
            size: 0,
            entries: 0,
            chain: None,
            index: None,
            sandbox_size: None,
            image: None,
            streams: None,
            created: jiff::Timestamp::now().as_second(),
            tool: concat!("windowsfilter ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Writes `layer.json` into the directory of a layer that is not visible yet.
pub(crate) fn write_record(dir: &Path, record: &LayerRecord) -> Result<(), Error> {
    durable::write_new(&dir.join(file::RECORD), &text(record))
}

/// Replaces a layer's `layer.json`.
pub(crate) fn replace_record(
    dir: &Path,
    record: &LayerRecord,
    temporaries: &Temporaries,
) -> Result<(), Error> {
    temporaries.write(&dir.join(file::RECORD), &text(record))
}

/// A record for a layer without `layer.json`, because Docker made it. Its kind follows from the files that
/// the compute service keeps in it.
pub(crate) fn foreign_record(dir: &Path) -> LayerRecord {
    let kind = match (dir.join(file::WINDOWS_DISK).exists(), dir.join(file::WINDOWS_FILES).is_dir()) {
        (true, _) => LayerKind::Sandbox,
        (false, true) => LayerKind::Layer,
        (false, false) => LayerKind::Empty,
    };
    let modified = std::fs::metadata(dir).and_then(|metadata| metadata.modified()).ok();
    let created =
        modified.and_then(|time| jiff::Timestamp::try_from(time).ok()).map_or(0, jiff::Timestamp::as_second);
    LayerRecord { created, tool: "another program".to_owned(), ..LayerRecord::new(kind) }
}

fn text(record: &LayerRecord) -> Vec<u8> {
    sealed::seal(VERSION, record).expect("a record has string keys and finite numbers")
}

/// Reads `layer.json` of `id` from `dir`.
pub(crate) fn read_record(dir: &Path, id: &LayerId) -> Result<LayerRecord, Error> {
    let damaged = |reason: String| Error::Damaged { id: id.clone(), file: file::RECORD, reason };
    let Some(content) = durable::read_file(&dir.join(file::RECORD))? else {
        return Err(if dir.is_dir() { damaged("it is missing".into()) } else { no_such(id) });
    };
    sealed::unseal(VERSION, &content).map_err(|e| damaged(e.to_string()))
}

/// How a chain names parents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChainForm<'a> {
    /// By their IDs, so that the store can be moved.
    Ids,
    /// By the paths of their directories in this home, as Docker writes and reads them. Reading accepts any
    /// path, and IDs: only the last element counts, since all parents are in the same home and the home may
    /// have been moved.
    Paths(&'a Path),
}

impl ChainForm<'_> {
    fn name(self, id: &LayerId) -> String {
        match self {
            Self::Ids => id.as_str().to_owned(),
            Self::Paths(home) => home.join(id.as_str()).to_string_lossy().into_owned(),
        }
    }

    fn id(self, name: String) -> Result<LayerId, Error> {
        match self {
            Self::Ids => LayerId::new(name),
            // Written on Windows, read anywhere.
            Self::Paths(_) => LayerId::new(name.rsplit(['\\', '/']).next().unwrap_or_default()),
        }
    }
}

/// The file's content: the parents, nearest first.
pub(crate) fn chain_text(chain: &[LayerId], form: ChainForm<'_>) -> Vec<u8> {
    wclayer::layer_chain::write(&chain.iter().map(|id| form.name(id)).collect::<Vec<_>>())
}

/// Writes `layerchain.json`: the parents, nearest first. Returns its digest, for [`LayerRecord::chain`].
///
/// The format is the original's, byte for byte, except for IDs instead of paths. It has no room for a version
/// and a checksum, so the digest is in `layer.json`, which is sealed.
pub(crate) fn write_chain(dir: &Path, chain: &[LayerId]) -> Result<Digest, Error> {
    let text = chain_text(chain, ChainForm::Ids);
    durable::write_new(&dir.join(file::CHAIN), &text)?;
    Ok(Digest::of(&text))
}

/// Reads `layerchain.json` of `id` from `dir`. Refuses a missing file, one whose digest differs from
/// `layer.json`, repeated IDs and the layer itself. Without `layer.json`, which only layers in a home of
/// Docker's lack, the digest is not checked.
pub(crate) fn read_chain(dir: &Path, id: &LayerId, form: ChainForm<'_>) -> Result<Vec<LayerId>, Error> {
    let damaged = |reason: String| Error::Damaged { id: id.clone(), file: file::CHAIN, reason };
    let Some(content) = durable::read_file(&dir.join(file::CHAIN))? else {
        return Err(if dir.is_dir() { damaged("it is missing".into()) } else { no_such(id) });
    };
    let chain = wclayer::layer_chain::parse(&content).map_err(|e| damaged(e.to_string()))?;
    let is_foreign = matches!(form, ChainForm::Paths(_)) && !dir.join(file::RECORD).exists();
    if !is_foreign && read_record(dir, id)?.chain != Some(Digest::of(&content)) {
        return Err(damaged(format!("it is not the one {} was written with", file::RECORD)));
    }
    let chain = chain
        .into_iter()
        .map(|name| form.id(name))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| damaged(e.to_string()))?;
    let mut seen = std::collections::HashSet::from([id]);
    if let Some(twice) = chain.iter().find(|parent| !seen.insert(parent)) {
        return Err(damaged(format!("{twice} is in the chain twice")));
    }
    Ok(chain)
}

/// Reads `layerID`: the alternate ID of `id`, or `id` itself (`windows.go`, `resolveID`; ours is trimmed and
/// validated).
pub(crate) fn resolve_id(dir: &Path, id: &LayerId) -> Result<LayerId, Error> {
    let damaged = |reason: String| Error::Damaged { id: id.clone(), file: file::ALTERNATE_ID, reason };
    let Some(content) = durable::read_file(&dir.join(file::ALTERNATE_ID))? else { return Ok(id.clone()) };
    let text = String::from_utf8(content).map_err(|e| damaged(e.to_string()))?;
    LayerId::new(text.trim_end()).map_err(|e| damaged(e.to_string()))
}

fn no_such(id: &LayerId) -> Error {
    Error::NoSuchLayer { id: id.to_string() }
}
