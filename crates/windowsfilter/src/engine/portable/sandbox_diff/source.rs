//! The source of a sandbox's changes.

use std::io::Read;

use layer_mounts::linux::LinuxError;
use layer_mounts::linux::upper::{Attribute, UpperDirectory, UpperEntry, Wanted};

use crate::error::Error;
use crate::limits::{Exceeded, Limit};

/// An upper directory of overlayfs. Paths are relative to it, with `/` between names; its own is empty.
pub trait Upper {
    /// The directory itself.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn root(&self, wanted: Wanted) -> Result<UpperEntry, Error>;

    /// All entries, with those attributes that are `wanted`. Each directory comes right before its entries;
    /// names are in byte order.
    ///
    /// # Errors
    /// The directory cannot be read. More than `most` entries are an error of the walk, [`Error::Limit`].
    fn walk(&self, wanted: Wanted, most: Option<u64>) -> Result<Walk<'_>, Error>;

    /// The attributes of an entry that are `wanted`.
    ///
    /// # Errors
    /// The attributes cannot be read.
    fn attributes(&self, path: &[u8], wanted: Wanted) -> Result<Vec<Attribute>, Error>;

    /// The content of a regular file.
    ///
    /// # Errors
    /// The file cannot be opened.
    fn open_file(&self, path: &[u8]) -> Result<Box<dyn Read>, Error>;
}

/// The entries of an [`Upper`]. Ends after the first error.
pub type Walk<'a> = Box<dyn Iterator<Item = Result<UpperEntry, Error>> + 'a>;

impl Upper for UpperDirectory {
    fn root(&self, wanted: Wanted) -> Result<UpperEntry, Error> {
        Ok(Self::root(self, wanted)?)
    }

    fn walk(&self, wanted: Wanted, most: Option<u64>) -> Result<Walk<'_>, Error> {
        let walk = Self::walk(self, wanted, most).map_err(of_walk)?;
        Ok(Box::new(walk.map(|entry| entry.map_err(of_walk))))
    }

    fn attributes(&self, path: &[u8], wanted: Wanted) -> Result<Vec<Attribute>, Error> {
        Ok(Self::attributes(self, path, wanted)?)
    }

    fn open_file(&self, path: &[u8]) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(Self::open_file(self, path)?))
    }
}

fn of_walk(error: LinuxError) -> Error {
    match error {
        LinuxError::TooManyNames { limit, .. } => {
            Exceeded { limit: Limit::Entries, allowed: limit, actual: limit + 1 }.into()
        }
        other => other.into(),
    }
}
