//! Errors of operations on images, one variant per fact.

use std::io;
use std::path::{Path, PathBuf};

use windowsfilter::import::CompressedFormat;
use windowsfilter::{Digest, ErrorKind};

use crate::json::JsonError;

/// Why an operation on images failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages say")]
pub enum Error {
    #[error(transparent)]
    Store(#[from] windowsfilter::Error),

    #[error("invalid image reference {text:?}: {reason}")]
    InvalidReference { text: String, reason: &'static str },
    #[error(
        "invalid platform {text:?}: expected OS/ARCHITECTURE[:OSVERSION], as in windows/amd64:10.0.20348"
    )]
    InvalidPlatform { text: String },
    #[error("cannot call an image {text}: a name with a digest belongs to the manifest with this digest")]
    DigestReference { text: String },
    #[error("{option} {value:?}: {reason}")]
    InvalidEdit { option: &'static str, value: String, reason: String },
    #[error("{path} does not say how the image is called: name it with --ref")]
    NoName { path: String },
    #[error(
        "the image in {path} has {actual} names, more than {limit} (docs/limits.md): give it one with --ref"
    )]
    TooManyNames { path: String, actual: usize, limit: usize },
    #[error(
        "{path} has several images: {}; {}",
        names.join(", "),
        match reference {
            Some(reference) => format!("none of them is called {reference}"),
            None => "choose one with --select".to_owned(),
        }
    )]
    SeveralImages { path: String, reference: Option<String>, names: Vec<String> },
    #[error("no image in {path} is called {selected:?}: it has {}", names.join(", "))]
    NotInSource { path: String, selected: String, names: Vec<String> },
    #[error("no image {text:?}")]
    NoSuchImage { text: String },
    #[error("no image, layer or sandbox {text:?}")]
    Nothing { text: String },
    #[error("{prefix:?} could be image {}", matches.join(", "))]
    AmbiguousImage { prefix: String, matches: Vec<String> },
    #[error("image {text} has several names: {}; say which", names.join(", "))]
    SeveralNames { text: String, names: Vec<String> },

    #[error(
        "{path} is not an image: it has neither an index.json (OCI layout) nor a manifest.json (docker save)"
    )]
    NotAnImage { path: String, is_layer: bool },
    #[error(
        "{} is neither Docker's data root nor its directory windowsfilter, nor a root of containerd on Windows: it has no layers",
        path.display()
    )]
    NotADockerStore { path: PathBuf },
    #[error("{}: no plan is written, because layers there may still be needed:{}", path.display(),
        reasons.iter().fold(String::new(), |text, reason| text + "\n  " + reason))]
    NoPlan { path: PathBuf, reasons: Vec<String> },
    #[error(
        "{path} has too many manifests: more than {number} are named, or their documents have more than {} MiB (docs/limits.md)",
        bytes >> 20
    )]
    TooManyDocuments { path: String, number: usize, bytes: u64 },
    #[error("{path} has no image at all")]
    NoManifest { path: String },
    #[error("{path} has no image for {wanted}; it has {}", available.join(", "))]
    NoSuchPlatform { path: String, wanted: String, available: Vec<String> },
    #[error("the image is for {os}, not for windows (--force imports it nevertheless)")]
    NotWindows { os: String },
    #[error("{what} of {path} is missing")]
    MissingBlob { path: String, what: String },
    #[error(
        "foreign layer {digest} is not in {path}: the program that saved the image left it out{}",
        if urls.is_empty() { String::new() } else { format!("; it can be fetched from {}", urls.join(" or ")) }
    )]
    ForeignLayer { path: String, digest: Digest, urls: Vec<String> },
    #[error("{what} is {actual}, expected {expected}")]
    DigestMismatch { what: String, expected: Digest, actual: Digest },
    #[error("blob {digest} of {path} is damaged: its bytes are {actual}")]
    DamagedBlob {
        path: String,
        digest: Digest,
        actual: Digest,
        /// The error that came up before the whole blob was read, if one did.
        #[source]
        source: Option<Box<windowsfilter::Error>>,
    },
    #[error("{what} is {actual} bytes, expected {expected}")]
    SizeMismatch { what: String, expected: u64, actual: u64 },
    #[error("{what} is {actual} bytes, at most {limit} are read")]
    TooLong { what: String, actual: u64, limit: u64 },
    #[error("{what} cannot be read")]
    Json {
        what: String,
        #[source]
        source: JsonError,
    },
    #[error("{what}: {reason}")]
    Malformed { what: String, reason: String },
    #[error("the config names {diff_ids} layers, the manifest has {layers}")]
    LayerCount { diff_ids: usize, layers: usize },
    #[error("{path} is cut off: {entry:?} ends at byte {end}, the archive at byte {length}")]
    Truncated { path: String, entry: String, end: u64, length: u64 },
    #[error("{text} does not exist; {reason}")]
    NotAPath { text: String, reason: String },
    #[error("{path} is not a tar, plain or compressed with gzip or zstd")]
    NotAnArchive {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is {} data, which are not read: unpack it first (`{}`)",
        format.name(),
        format.unpack_with().unwrap_or_default()
    )]
    NotRead { path: String, format: CompressedFormat },
    #[error(
        "the zstd window of {path} is larger than 32 MiB: unpack it first (`zstd -d --long=31`), or compress it again without --long"
    )]
    ZstdWindow { path: String },
    #[error("cannot read the archive {path}")]
    Archive {
        path: String,
        #[source]
        source: io::Error,
    },

    #[error("layer {id} was removed by another process meanwhile; import the image again")]
    LayerGone { id: String },
    #[error("an OCI layout is a directory, which no stream can take: choose oci-archive or docker-archive")]
    DirectoryFormat,
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("record of image {reference}: {reason}")]
    DamagedRecord { reference: String, reason: String },
    #[error("{seconds} seconds since 1970 is outside the range of dates")]
    InvalidTime { seconds: i64 },
    #[error(
        "sandbox {sandbox} was made from a layer, and its layers are those of several images ({}); make it from one of them by name, or \
         remove the others",
        names.join(", ")
    )]
    SeveralParents { sandbox: String, names: Vec<String> },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The category of the error, for callers.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::NoSuchImage { .. } | Self::Nothing { .. } => ErrorKind::NotFound,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::InvalidReference { .. }
            | Self::InvalidPlatform { .. }
            | Self::InvalidEdit { .. }
            | Self::DigestReference { .. }
            | Self::NotAPath { .. }
            | Self::NoName { .. }
            | Self::SeveralImages { .. }
            | Self::NotInSource { .. }
            | Self::TooManyNames { .. }
            | Self::AmbiguousImage { .. }
            | Self::SeveralNames { .. }
            | Self::DirectoryFormat
            | Self::SeveralParents { .. }
            | Self::InvalidTime { .. } => ErrorKind::Usage,
            Self::DigestMismatch { .. }
            | Self::DamagedBlob { .. }
            | Self::SizeMismatch { .. }
            | Self::LayerCount { .. }
            | Self::Truncated { .. }
            | Self::DamagedRecord { .. } => ErrorKind::Verify,
            _ => ErrorKind::Failed,
        }
    }
}

/// Adds the action and the path to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}
