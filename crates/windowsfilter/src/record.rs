//! `layer.json` and `layerchain.json`: what a layer is and what it stands on.
//!
//! Together with `layer.tar` they are a layer's truth; every index can be rebuilt from them. A missing or
//! damaged one is an error that names it: the original takes a missing `layerchain.json` for "no parents", so
//! a damaged layer silently becomes a base layer (`windows.go`, `getLayerChain`).

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

/// What kind of thing an ID names.
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
    /// What messages and lists call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Empty => "empty layer",
            Self::Sandbox => "sandbox",
        }
    }
}

/// What `layer.json` says.
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
    /// Number of tar entries.
    #[serde(default)]
    pub entries: u64,
    /// Digest of `layerchain.json`, so that no damage to it goes for other parents. Set when the layer is
    /// published.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain: Option<Digest>,
    /// Digest of `layer.erofs` as it was written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index: Option<Digest>,
    /// Sandboxes: size of the writable disk, bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sandbox_size: Option<u64>,
    /// Sandboxes: digest of the config of the image that it was made from, for whoever keeps images.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<Digest>,
    /// Sandboxes: how the view shows streams, and how those that are written are read. Those of earlier
    /// builds have none: they are plain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub streams: Option<StreamForm>,
    /// When it came into the store; seconds since 1970.
    pub created: i64,
    /// The tool that wrote it.
    pub tool: String,
}

impl LayerRecord {
    /// A record of `kind` made now, with nothing in it.
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

/// Writes `layer.json` into the directory of a layer that nobody sees yet.
pub(crate) fn write_record(dir: &Path, record: &LayerRecord) -> Result<(), Error> {
    durable::write_new(&dir.join(file::RECORD), &text(record))
}

/// Writes another `layer.json` for a layer that has one.
pub(crate) fn replace_record(
    dir: &Path,
    record: &LayerRecord,
    temporaries: &Temporaries,
) -> Result<(), Error> {
    temporaries.write(&dir.join(file::RECORD), &text(record))
}

/// What a layer is that has no `layer.json`, since Docker made it: known by the files that the service keeps
/// in it.
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
    /// By the paths of their directories in this home, as Docker does and reads. Reading takes any path, and
    /// IDs: what counts is the last element, since a home has all parents of its layers and may have been
    /// moved.
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
/// The file is the original's, byte for byte but for IDs instead of paths; that has no place for a version
/// and a checksum: the digest stands in `layer.json`, which is sealed.
pub(crate) fn write_chain(dir: &Path, chain: &[LayerId]) -> Result<Digest, Error> {
    let text = chain_text(chain, ChainForm::Ids);
    durable::write_new(&dir.join(file::CHAIN), &text)?;
    Ok(Digest::of(&text))
}

/// Reads `layerchain.json` of `id` from `dir`; refuses a missing one, one that is not what `layer.json` says
/// it is, repeated IDs and the layer itself. A layer without `layer.json`, which only a home of Docker's has,
/// can say nothing of it.
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
