//! The errors of the layer store, one variant per cause.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::id::LayerId;
use crate::limits::Exceeded;
use crate::record::LayerKind;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages say")]
pub enum Error {
    #[error(transparent)]
    Cancelled(#[from] crate::cancel::Cancelled),
    #[error("no store at {}", root.display())]
    NoStore { root: PathBuf },
    #[error("{} is a {what}, not a store", root.display())]
    NotAStore { root: PathBuf, what: &'static str },
    #[error("cannot read the store {}: it is for its owner ({owner}) only", root.display())]
    ForeignStore {
        root: PathBuf,
        owner: String,
        #[source]
        source: io::Error,
    },
    #[error("{}; this would let them read sandboxes and change layers. As an administrator, run: {}", exposed, exposed.mended_by())]
    Exposed { exposed: crate::access::Exposed },
    #[error("invalid layer id {id:?}: {reason}")]
    InvalidId { id: String, reason: &'static str },
    #[error("invalid digest {text:?}: expected sha256: and 64 lower-case hexadecimal digits")]
    InvalidDigest { text: String },
    #[error("{algorithm} digests are not supported: {text}")]
    UnsupportedDigest { algorithm: String, text: String },
    #[error("unknown storage option {option:?}: the only one is size=SIZE, as in size=20GB")]
    UnknownOption { option: String },
    #[error("storage option {option:?} is given twice")]
    RepeatedOption { option: String },
    #[error("invalid size {text:?}: {reason}")]
    InvalidSize { text: String, reason: &'static str },

    #[error("no layer {id}")]
    NoSuchLayer { id: String },
    #[error("{prefix:?} could be {}", matches.join(", "))]
    AmbiguousId { prefix: String, matches: Vec<String> },
    #[error("{} {id} exists already", if *kind == LayerKind::Sandbox { "a sandbox" } else { "layer" })]
    LayerExists { id: LayerId, kind: LayerKind },
    #[error("cannot create layer {id}: its parent {parent} does not exist")]
    MissingParent { id: LayerId, parent: LayerId },
    #[error("cannot create layer {id}: its parent {parent} is being removed or was removed meanwhile")]
    ParentGone { id: LayerId, parent: LayerId },
    #[error("cannot remove layer {}: {} on it: {}", id.short(), stand(children.len()), first_of(children))]
    HasChildren { id: LayerId, children: Vec<LayerId> },
    #[error(
        "cannot remove layer {id}: cannot read the records of {}, which may stand on it",
        list(unreadable)
    )]
    MaybeNeeded { id: LayerId, unreadable: Vec<LayerId> },
    #[error("cannot remove layer {id}: it belongs to {}", owners.join(", "))]
    Owned { id: LayerId, owners: Vec<String> },
    #[error("the layer is removed, but its files in {} are not; cleanup will try again", dir.display())]
    Leftover { dir: PathBuf, source: Box<Error> },
    #[error("cannot mount {id}: an earlier mount of it is still there: {source}")]
    StaleMount { id: LayerId, source: Box<Error> },
    #[error("cannot mount {id} on {}: {shown} is mounted there", target.display())]
    TargetTaken { id: LayerId, target: PathBuf, shown: LayerId },
    #[error("layer {id} is mounted at {}", path.display())]
    Mounted { id: LayerId, path: PathBuf },
    #[error("layer {id} is not mounted")]
    NotMounted { id: LayerId },
    #[error("layer {id} is in use by another process")]
    Busy { id: LayerId },
    #[error("{id} holds {}; a sandbox cannot shrink (asked: {})", crate::options::shown_size(*size), crate::options::shown_size(*asked))]
    SandboxShrink { id: LayerId, size: u64, asked: u64 },
    #[error("layer {id} is in use{by}")]
    InUse { id: LayerId, by: String },
    #[error("{id} is a {actual}, not a {expected}")]
    WrongKind { id: LayerId, expected: &'static str, actual: &'static str },
    #[error("{parent} is not the parent of layer {id}; its parent is {}", actual.as_ref().map_or("none", LayerId::as_str))]
    NotTheParent { id: LayerId, parent: LayerId, actual: Option<LayerId> },

    #[error("layer {id}: {file}: {reason}")]
    Damaged { id: LayerId, file: &'static str, reason: String },
    #[error("{what} is {actual}, expected {expected}")]
    DigestMismatch { what: String, expected: Digest, actual: Digest },
    #[error("{what} is {actual} bytes, expected {expected}")]
    SizeMismatch { what: String, expected: u64, actual: u64 },

    #[error("cannot import {what}")]
    Intake {
        what: String,
        #[source]
        source: Box<Error>,
    },
    #[error("cannot read the layer's data: {reason}")]
    Compressed {
        reason: String,
        #[source]
        source: io::Error,
    },
    #[error("the layer is not a readable tar")]
    Tar(#[from] wclayer::tar::TarError),
    #[error("the layer is not a Windows layer tar")]
    LayerTar(#[from] wclayer::layer_tar::LayerTarError),
    #[error("{} in Files, Hives or UtilityVM: {names}; is this {looks_like}?", none_of(*entries))]
    NoLayer { entries: u64, names: String, looks_like: TarContent },
    #[error("entry {entry:?} at tar offset {offset:#x}: {reason}")]
    Entry { entry: String, offset: u64, reason: String },
    #[error("{}{exceeded}", entry.as_ref().map_or(String::new(), |(entry, offset)| format!("entry {entry:?} at tar offset {offset:#x}: ")))]
    Limit {
        /// The entry and where it begins; `None` before the first entry, and for data other than layers.
        entry: Option<(String, u64)>,
        exceeded: Exceeded,
    },
    #[error("{} cannot be held by a Windows layer:{}{}", entries(problems.len() as u64 + more),
        problems.iter().fold(String::new(), |s, p| s + "\n  " + p), and_more(*more))]
    NotPortable {
        problems: Vec<String>,
        /// Number of further problems, which are not listed.
        more: u64,
    },
    #[error("no {path:?} in {id}")]
    NoSuchFile { id: LayerId, path: String },
    #[error("{path:?} in {id}: {reason}")]
    View { id: LayerId, path: String, reason: String },

    #[error("cannot read the index of layer {id}")]
    Index {
        id: LayerId,
        #[source]
        source: erofs_index::Error,
    },
    #[error(transparent)]
    BuildIndex(#[from] erofs_index::Error),
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Linux(#[from] layer_mounts::linux::LinuxError),
    #[error("layer {id}: {error}")]
    Hcs { id: String, error: hcs::Error },
    #[error("cannot {action} layer {id}")]
    InLayer {
        id: String,
        action: &'static str,
        #[source]
        source: Box<Error>,
    },
    #[error("cannot read the directory that the compute service exported")]
    Transport(#[from] wclayer::transport::TransportError),
    #[error("layer {id}: the process that writes it failed: {reason}")]
    ImportProcess { id: String, reason: String },
    #[error("{what} needs {needs}")]
    Unsupported { what: String, needs: &'static str },

    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{first} (and undoing it failed too: {undo})")]
    Undo {
        #[source]
        first: Box<Error>,
        undo: Box<Error>,
    },
}

/// What a tar that is not a layer seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TarContent {
    /// A layer of a Linux image.
    LinuxImage,
    /// An image with its layers in it.
    ImageArchive,
    /// Files that are not below `Files`.
    Files,
}

impl TarContent {
    /// Guesses from the first component of a name.
    pub(crate) fn of(first: &[u8]) -> Self {
        const LINUX: [&[u8]; 14] = [
            b"bin", b"boot", b"dev", b"etc", b"home", b"lib", b"lib64", b"opt", b"proc", b"root", b"sbin",
            b"sys", b"usr", b"var",
        ];
        const ARCHIVE: [&[u8]; 5] =
            [b"blobs", b"index.json", b"manifest.json", b"oci-layout", b"repositories"];
        match first {
            _ if LINUX.contains(&first) => Self::LinuxImage,
            _ if ARCHIVE.contains(&first) => Self::ImageArchive,
            _ => Self::Files,
        }
    }
}

impl std::fmt::Display for TarContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LinuxImage => "a Linux image",
            Self::ImageArchive => "an image archive",
            Self::Files => "a plain tar of files",
        })
    }
}

/// Groups of errors by what a caller can do about them; the exit codes of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A named thing does not exist.
    NotFound,
    /// Refused because a child, a mount or another process uses it.
    InUse,
    /// Data do not match their digest, size or checksum.
    Verify,
    /// The request is invalid.
    Usage,
    /// Everything else.
    Failed,
}

impl Error {
    /// The error below wrappers that add context, such as the layer; itself if it is not such a wrapper.
    pub fn innermost(&self) -> &Self {
        match self {
            Self::Intake { source, .. } | Self::InLayer { source, .. } | Self::Undo { first: source, .. } => {
                source.innermost()
            }
            _ => self,
        }
    }

    /// The kind of this error, or of the one it wraps.
    pub fn kind(&self) -> ErrorKind {
        match self.innermost() {
            Self::NoSuchLayer { .. }
            | Self::MissingParent { .. }
            | Self::NoSuchFile { .. }
            | Self::NoStore { .. } => ErrorKind::NotFound,
            Self::HasChildren { .. }
            | Self::MaybeNeeded { .. }
            | Self::Owned { .. }
            | Self::Mounted { .. }
            | Self::TargetTaken { .. }
            | Self::Busy { .. }
            | Self::InUse { .. }
            | Self::ParentGone { .. } => ErrorKind::InUse,
            Self::Damaged { .. }
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::Index { .. } => ErrorKind::Verify,
            Self::InvalidId { .. }
            | Self::InvalidDigest { .. }
            | Self::UnsupportedDigest { .. }
            | Self::UnknownOption { .. }
            | Self::RepeatedOption { .. }
            | Self::InvalidSize { .. }
            | Self::NotAStore { .. }
            | Self::AmbiguousId { .. } => ErrorKind::Usage,
            Self::Hcs { error, .. } if error.code == hcs::Code::SHARING_VIOLATION => ErrorKind::InUse,
            #[cfg(target_os = "linux")]
            Self::Linux(error) => linux_kind(error),
            Self::StaleMount { source, .. } => source.kind(),
            _ => ErrorKind::Failed,
        }
    }

    /// Whether this says that data written to a sandbox cannot be saved.
    pub(crate) fn is_loss(&self) -> bool {
        #[cfg(target_os = "linux")]
        return matches!(self, Self::Linux(error) if error.is_loss());
        #[cfg(not(target_os = "linux"))]
        return false;
    }

    /// Adds the layer that the error is about, unless it already names one.
    pub(crate) fn about_layer(self, action: &'static str, id: impl Into<String>) -> Self {
        match self {
            named @ (Self::Hcs { .. } | Self::InLayer { .. } | Self::ImportProcess { .. }) => named,
            other => Self::InLayer { id: id.into(), action, source: Box::new(other) },
        }
    }

    /// Whether the layer's data are bad, as opposed to a failure to read or write them.
    pub fn is_bad_data(&self) -> bool {
        matches!(
            self.innermost(),
            Self::Compressed { .. }
                | Self::Tar(_)
                | Self::LayerTar(_)
                | Self::NoLayer { .. }
                | Self::Entry { .. }
        )
    }

    /// The exceeded limit, if that is the cause of this error.
    pub fn exceeded(&self) -> Option<&Exceeded> {
        match self.innermost() {
            Self::Limit { exceeded, .. } => Some(exceeded),
            _ => None,
        }
    }

    /// Adds which layer's data are bad: an image has many layers, with entries of the same names.
    pub(crate) fn in_layer(self, what: String) -> Self {
        if self.is_bad_data() || matches!(self, Self::Limit { .. }) {
            Self::Intake { what, source: Box::new(self) }
        } else {
            self
        }
    }

    /// Joins this error with an error of undoing the earlier steps, so that neither is lost.
    #[must_use]
    pub fn with_undo(self, undo: Result<(), Self>) -> Self {
        match undo {
            Ok(()) => self,
            Err(undo) => Self::Undo { first: Box::new(self), undo: Box::new(undo) },
        }
    }
}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        Self::Limit { entry: None, exceeded }
    }
}

#[cfg(target_os = "linux")]
fn linux_kind(error: &layer_mounts::linux::LinuxError) -> ErrorKind {
    use layer_mounts::linux::LinuxError as Linux;
    match error {
        error if error.is_in_use() => ErrorKind::InUse,
        Linux::SandboxTooSmall { .. } | Linux::SandboxTooLarge { .. } => ErrorKind::Usage,
        // The sandbox would be larger than the largest file of the store's file system.
        Linux::System { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => ErrorKind::Usage,
        _ => ErrorKind::Failed,
    }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

fn none_of(entries: u64) -> String {
    if entries == 1 { "its one entry is not".to_owned() } else { format!("none of its {entries} entries is") }
}

/// The number, with its verb.
fn stand(count: usize) -> String {
    if count == 1 { "1 stands".to_owned() } else { format!("{count} stand") }
}

/// The first few IDs, shortened.
fn first_of(ids: &[LayerId]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = ids.iter().take(SHOWN).map(LayerId::short).collect();
    shown.join(", ") + if ids.len() > SHOWN { ", \u{2026}" } else { "" }
}

fn and_more(more: u64) -> String {
    if more == 0 { String::new() } else { format!("\n  and {more} more") }
}

fn list(ids: &[LayerId]) -> String {
    ids.iter().map(LayerId::as_str).collect::<Vec<_>>().join(", ")
}

/// A name for messages, cut so that a hostile one cannot flood them.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]).into_owned();
    if name.len() > LONGEST { text + "…" } else { text }
}

/// An error with its causes, in one line.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Adds the action and the path to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source: source.into() })
    }
}
