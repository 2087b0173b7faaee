//! One error for callers that write and read.

use crate::{BuildError, ReadError};

/// Why an image could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The writer refused something.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The reader refused something.
    #[error(transparent)]
    Read(#[from] ReadError),
}
