//! Why a layer cannot be written to a transport directory, or read from one.

use std::io;

use crate::backup_stream::BackupStreamError;
use crate::tombstones::TombstonesError;

/// Why a layer cannot be written to a transport directory, or read from one. Paths are printed lossily.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The path is outside the parts of a layer that the format knows, or leads out of the layer.
    #[error("{path:?} is not below Files, Hives or UtilityVM\\Files")]
    Path {
        /// The path.
        path: String,
    },
    /// The format reserves this name.
    #[error("{path:?} ends in .$wcidirs$, which is the name of a directory's metadata")]
    ReservedName {
        /// The path.
        path: String,
    },
    /// A hard link that is neither in `Files` nor in the utility VM.
    #[error("{path:?} cannot be a hard link to {target:?}")]
    Link {
        /// The link.
        path: String,
        /// The file.
        target: String,
    },
    /// The deletions of the layer cannot be read or written.
    #[error("tombstones.txt")]
    Tombstones {
        /// The reason.
        source: TombstonesError,
    },
    /// A file's backup stream is invalid.
    #[error("{path:?}: its backup stream is at fault")]
    BackupStream {
        /// The file.
        path: String,
        /// The problem.
        source: BackupStreamError,
    },
    /// The file is too short for its attribute word.
    #[error("{path:?} does not start with file attributes")]
    Attributes {
        /// The file.
        path: String,
    },
    /// The file system failed.
    #[error("{path:?}: cannot {action}")]
    Io {
        /// The path in the directory.
        path: String,
        /// The operation.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
}

impl TransportError {
    /// For `map_err`: the failed operation and its path.
    pub(super) fn io(action: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> Self {
        let path = shown(path);
        move |source| Self::Io { path, action, source }
    }
}

impl From<TransportError> for io::Error {
    fn from(error: TransportError) -> Self {
        let kind = match &error {
            TransportError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// A path as an error shows it.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
