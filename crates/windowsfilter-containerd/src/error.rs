//! Errors between containerd and the store, one variant per fact, and the gRPC code that containerd expects
//! for each.

use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};
use windowsfilter::ErrorKind;

use crate::records::Kind;

/// Why a call, or the server, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are what the messages say")]
pub enum Error {
    #[error("no snapshot {key}")]
    NoSuchSnapshot { key: ShortKey },
    #[error("snapshot {key} exists already")]
    SnapshotExists { key: ShortKey },
    #[error("snapshot {key} is there as a committed snapshot already: nothing to unpack")]
    LayerPresent { key: ShortKey },
    #[error("cannot create snapshot {key}: its parent {parent} does not exist")]
    NoParent { key: ShortKey, parent: ShortKey },
    #[error("cannot create snapshot {key}: its parent {parent} is {kind}, not committed")]
    ParentNotCommitted { key: ShortKey, parent: ShortKey, kind: Kind },
    #[error("cannot commit snapshot {key} on {given}: its parent is {actual}")]
    OtherParent { key: ShortKey, given: ShortKey, actual: ShortKey },
    #[error("cannot {action} snapshot {key}: it is {kind}")]
    WrongKind { action: &'static str, key: ShortKey, kind: Kind },
    #[error("cannot remove snapshot {key}: {child} has it as parent")]
    HasChildren { key: ShortKey, child: ShortKey },
    #[error(
        "cannot commit snapshot {key}: no layer was applied to it by this server, so another differ unpacked it and dropped all Windows \
         metadata, or none did; name windowsfilter's diff plugin first in `default` of [plugins.\"io.containerd.service.v1.diff-service\"], and \
         as `differ` in the windows `unpack_config` of [plugins.\"io.containerd.transfer.v1.local\"]"
    )]
    NeverApplied { key: ShortKey },
    #[error(
        "cannot commit snapshot {key}: nobody asked for its mounts, and only then its layer is taken from the store or from containerd's \
         content store"
    )]
    NeverMounted { key: ShortKey },
    #[error(
        "cannot commit snapshot {key}: an earlier commit failed and gave up the layer that was applied to it; apply it again"
    )]
    GivenUp { key: ShortKey },
    #[error(
        "cannot commit snapshot {key}: the layer that was applied to it is gone, so somebody removed it or its files are damaged; remove the \
         snapshot, and pull the image again"
    )]
    AppliedIsGone { key: ShortKey },
    #[error("cannot commit snapshot {key}: its layer {layer} is in the store, but on top of another parent")]
    OtherLayerBelow { key: ShortKey, layer: String },
    #[error(
        "cannot unpack into snapshot {key}: containerd's content store has no blob of its layer {layer}; pull the base image again"
    )]
    NoBlob { key: ShortKey, layer: String },
    #[error(
        "containerd's content store has more than {limit} blobs: the one of layer {layer} is not looked for among them"
    )]
    TooManyBlobs { layer: String, limit: usize },
    #[error("the client no longer waits for this call")]
    Abandoned,
    #[error("cannot {action} snapshot {key}: a layer is being applied to it")]
    BeingApplied { action: &'static str, key: ShortKey },
    #[error("cannot apply {digest} to snapshot {key}: it has a layer already")]
    AppliedAlready { key: ShortKey, digest: String },
    #[error(
        "cannot apply {digest} to snapshot {key}: it is {kind}; layers are applied to snapshots whose key begins with extract-, as containerd \
         prepares them"
    )]
    NotForApply { key: ShortKey, kind: Kind, digest: String },
    #[error("applying {digest} to snapshot {key} was cancelled")]
    Cancelled { key: ShortKey, digest: String },
    #[error("{what} is {length} bytes, at most {limit} are accepted")]
    TooLong { what: &'static str, length: usize, limit: usize },
    #[error("{count} {what}: at most {limit} are accepted")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("cannot update {path:?}: only labels can be changed")]
    FieldMask { path: String },
    #[error("filter {filter:?}: {reason} at byte {position}")]
    Filter { filter: String, position: usize, reason: String },
    #[error("label {label} is {value:?}: {reason}")]
    Label { label: &'static str, value: String, reason: &'static str },

    #[error("the {what} do not belong to this snapshotter")]
    ForeignMounts { what: &'static str },
    #[error("cannot compare {right} with {left}: {reason}")]
    Unrelated { left: String, right: String, reason: &'static str },
    #[error("media type {media_type:?} is not supported: {supported}")]
    MediaType { media_type: String, supported: &'static str },
    #[error("{digest} is {size} bytes, says its descriptor")]
    Descriptor { digest: String, size: i64 },
    #[error("containerd at {address}: cannot {action}")]
    Containerd {
        address: String,
        action: String,
        #[source]
        source: Box<Status>,
    },
    #[error("containerd at {address}: {action}: no answer for {seconds} s")]
    Silent { address: String, action: String, seconds: u64 },
    #[error("containerd at {address}: {action}: less than {bytes} bytes came in {seconds} s")]
    Stalled { address: String, action: String, bytes: usize, seconds: u64 },
    #[error("{value:?} cannot be sent to containerd as a header")]
    Header { value: String },
    #[error("no namespace: neither the call nor the key {key} has one")]
    NoNamespace { key: ShortKey },

    #[error(transparent)]
    Store(#[from] windowsfilter::Error),
    #[error(transparent)]
    Image(#[from] windowsfilter_image::Error),
    #[error("snapshot records {}", path.display())]
    Records {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("snapshot records {}", path.display())]
    RecordsUnusable {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("snapshot records {}: record of {key} cannot be read", path.display())]
    DamagedRecord {
        path: PathBuf,
        key: ShortKey,
        #[source]
        source: serde_json::Error,
    },
    #[error("snapshot records {} are of version {version}, this program reads {expected}", path.display())]
    RecordsVersion { path: PathBuf, version: u64, expected: u64 },
    #[error("snapshot records {} are {state}, but there were snapshots, which left {left}: nothing is removed", path.display())]
    RecordsLost { path: PathBuf, state: &'static str, left: String },
    #[error("snapshot records {} do not know of {left}: they are older than that, or somebody else made it; nothing is removed", path.display())]
    RecordsOld { path: PathBuf, left: String },
    #[error("nothing is wrong with the snapshot records {}, so they are not given up", path.display())]
    NothingLost { path: PathBuf },
    #[error("{name:?} is not a valid name for a set of snapshots: 1 to 32 lower-case letters and digits")]
    Name { name: String },
    #[error("a server listens on {} already", path.display())]
    Listening { path: PathBuf },
    #[error("{} is not a socket and is not replaced", path.display())]
    NotASocket { path: PathBuf },
    #[error("{}: socket paths have at most 107 bytes", path.display())]
    SocketPath { path: PathBuf },
    #[error("no configuration is known for containerd {version}: {reason}")]
    ContainerdVersion { version: String, reason: &'static str },
    #[error("cannot serve")]
    Serve(#[source] tonic::transport::Error),
    #[error("cannot show metrics at {address}: {reason}")]
    Metrics { address: std::net::SocketAddr, reason: String },
    #[error("a task of the server panicked")]
    Panicked,
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A key for messages, shortened: keys may be very long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortKey(String);

impl ShortKey {
    /// Characters of a key to show.
    const SHOWN: usize = 200;
}

impl From<&str> for ShortKey {
    fn from(key: &str) -> Self {
        Self(key.chars().take(Self::SHOWN + 1).collect())
    }
}

impl std::fmt::Display for ShortKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.char_indices().nth(Self::SHOWN) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

impl Error {
    /// The gRPC code that containerd's own snapshotters and differs return for this error.
    pub fn code(&self) -> Code {
        match self {
            Self::NoSuchSnapshot { .. } | Self::NoParent { .. } => Code::NotFound,
            Self::SnapshotExists { .. } | Self::LayerPresent { .. } => Code::AlreadyExists,
            Self::ParentNotCommitted { .. }
            | Self::OtherParent { .. }
            | Self::OtherLayerBelow { .. }
            | Self::TooLong { .. }
            | Self::TooMany { .. }
            | Self::Missing { .. }
            | Self::FieldMask { .. }
            | Self::Filter { .. }
            | Self::Label { .. }
            | Self::Descriptor { .. }
            | Self::NoNamespace { .. }
            | Self::Header { .. }
            | Self::Unrelated { .. } => Code::InvalidArgument,
            Self::WrongKind { .. }
            | Self::HasChildren { .. }
            | Self::NeverApplied { .. }
            | Self::NeverMounted { .. }
            | Self::GivenUp { .. }
            | Self::AppliedIsGone { .. }
            | Self::NoBlob { .. }
            | Self::TooManyBlobs { .. }
            | Self::BeingApplied { .. }
            | Self::AppliedAlready { .. }
            | Self::NotForApply { .. } => Code::FailedPrecondition,
            // The diff service tries the next differ on this code only.
            Self::ForeignMounts { .. } | Self::MediaType { .. } => Code::Unimplemented,
            Self::Cancelled { .. } | Self::Abandoned => Code::Cancelled,
            Self::Silent { .. } | Self::Stalled { .. } => Code::DeadlineExceeded,
            Self::Containerd { source, .. } => passed_on(source.code()),
            _ if self.is_full() => Code::ResourceExhausted,
            Self::Store(error) => store_code(error),
            Self::Image(error) => image_code(error),
            _ => Code::Internal,
        }
    }

    /// Whether the records of a set are lost, damaged or do not match the store.
    pub fn is_damaged_records(&self) -> bool {
        let damaged = matches!(
            self,
            Self::RecordsLost { .. }
                | Self::RecordsOld { .. }
                | Self::RecordsUnusable { .. }
                | Self::DamagedRecord { .. }
        );
        damaged && !self.is_full()
    }

    /// Whether the cause is a full disk.
    pub(crate) fn is_full(&self) -> bool {
        causes(self).any(|cause| {
            // redb's errors have no `source`.
            let io = match cause.downcast_ref::<Box<redb::Error>>().map(|error| &**error) {
                Some(redb::Error::Io(error)) => Some(error),
                _ => cause.downcast_ref::<io::Error>(),
            };
            io.is_some_and(|error| {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            })
        })
    }
}

/// The code to return for an error that containerd returned to us. Some codes mean something else on the
/// way back: `Unimplemented` makes the diff service try the next differ, which would take our binds for
/// Linux layers; `AlreadyExists` means success.
fn passed_on(code: Code) -> Code {
    match code {
        Code::Unimplemented | Code::AlreadyExists => Code::FailedPrecondition,
        code => code,
    }
}

fn causes(error: &dyn std::error::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| cause.source())
}

fn image_code(error: &windowsfilter_image::Error) -> Code {
    match error {
        windowsfilter_image::Error::Store(error) => store_code(error),
        _ => Code::Internal,
    }
}

/// Damage in the store is our fault; every other verification error is the input's.
fn store_code(error: &windowsfilter::Error) -> Code {
    use windowsfilter::Error as Store;
    match error.innermost() {
        Store::Limit { exceeded, .. } => match exceeded.limit {
            windowsfilter::limits::Limit::Sandbox => Code::FailedPrecondition,
            windowsfilter::limits::Limit::Disk => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        },
        Store::Damaged { .. } | Store::Index { .. } => Code::DataLoss,
        Store::Compressed { .. }
        | Store::Tar(_)
        | Store::LayerTar(_)
        | Store::NoLayer { .. }
        | Store::Entry { .. } => Code::InvalidArgument,
        Store::NotPortable { .. } => Code::FailedPrecondition,
        error => match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::InUse | ErrorKind::Verify => Code::FailedPrecondition,
            ErrorKind::Usage => Code::InvalidArgument,
            ErrorKind::Failed => Code::Internal,
        },
    }
}

/// The message and all its causes in one line: a status has only one message.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        // A status' `Display` adds its code and headers.
        let next = match cause.downcast_ref::<Box<Status>>() {
            Some(status) => status.message().to_owned(),
            None => cause.to_string(),
        };
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
    }
    text
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), chain(&error))
    }
}

/// Adds the action and the path to an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.into(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_cut_in_messages_and_a_short_one_is_not() {
        let error = Error::NoSuchSnapshot { key: ShortKey::from("é".repeat(10_000).as_str()) };
        assert!(error.to_string().len() < 500, "{error}");
        assert!(error.to_string().ends_with("\"..."));
        let error = Error::NoSuchSnapshot { key: ShortKey::from("a b") };
        assert_eq!(error.to_string(), "no snapshot \"a b\"");
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let full = |kind| {
            let source = io::Error::from(kind);
            Error::from(windowsfilter::Error::Io { action: "write", path: "x".into(), source }).code()
        };
        assert_eq!(full(io::ErrorKind::StorageFull), Code::ResourceExhausted);
        assert_eq!(full(io::ErrorKind::PermissionDenied), Code::Internal);
    }

    #[test]
    fn codes_of_containerd_that_would_mean_something_else_to_it_are_not_passed_on() {
        let code = |code| {
            let source = Box::new(Status::new(code, "x"));
            Error::Containerd { address: "/run/x".into(), action: "write x".into(), source }.code()
        };
        assert_eq!(code(Code::Unimplemented), Code::FailedPrecondition);
        assert_eq!(code(Code::AlreadyExists), Code::FailedPrecondition);
        assert_eq!(code(Code::NotFound), Code::NotFound);
        assert_eq!(code(Code::Unavailable), Code::Unavailable);
    }

    #[test]
    fn a_status_names_all_causes() {
        let error = Error::Containerd {
            address: "/run/x".into(),
            action: "read sha256:1".into(),
            source: Box::new(Status::not_found("content sha256:1: not found")),
        };
        let status = Status::from(error);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(
            status.message(),
            "containerd at /run/x: cannot read sha256:1: content sha256:1: not found"
        );
    }
}
