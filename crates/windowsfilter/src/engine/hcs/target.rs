//! The layer that a writer makes.

use std::path::PathBuf;

use hcs::DriverInfo;

use crate::error::Error;

/// The layer that is written.
pub(super) struct Target<'a> {
    pub(super) info: &'a DriverInfo,
    pub(super) id: &'a str,
    /// Directories of the layers below, nearest first.
    pub(super) parents: &'a [PathBuf],
}

impl Target<'_> {
    pub(super) fn error(&self, error: hcs::Error) -> Error {
        Error::Hcs { id: self.id.to_owned(), error }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.info.layer(self.id)
    }
}
