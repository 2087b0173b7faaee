//! The size of the tar of a sandbox's changes, computed before any of it is written: a file without blocks
//! can claim any size, and any number of files can share the same stream of a layer.

use crate::error::{Error, shown};
use crate::limits::DiffLimits;

/// Least number of bytes of a header together with its extended header.
const HEADER: u64 = 1536;
#[cfg(target_os = "linux")]
const BLOCK: u64 = 512;

/// A sum of bytes, with its limits.
pub(crate) struct TarSize {
    limits: DiffLimits,
    bytes: u64,
}

impl TarSize {
    pub(crate) fn new(limits: DiffLimits) -> Self {
        Self { limits, bytes: 0 }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes in the tar for `bytes` bytes of file data.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_data(bytes: u64) -> u64 {
        bytes.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
    }

    /// Bytes in the tar for a stream, which has a header of its own.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_stream(bytes: u64) -> u64 {
        Self::of_data(bytes).saturating_add(BLOCK)
    }

    /// Adds an entry for `path` with `content` bytes after its header.
    ///
    /// # Errors
    /// [`Error::Limit`] if the tar becomes too large.
    pub(crate) fn add(&mut self, path: &[u8], content: u64) -> Result<(), Error> {
        let before = self.bytes;
        self.bytes = before.saturating_add(content).saturating_add(HEADER + path.len() as u64);
        check(&self.limits, path, before, self.bytes)
    }
}

/// Refuses the entry at `offset` of the tar if it makes the tar larger than `limits` allow.
pub(crate) fn check(limits: &DiffLimits, path: &[u8], offset: u64, bytes: u64) -> Result<(), Error> {
    limits.check(bytes).map_err(|exceeded| Error::Limit { entry: Some((shown(path), offset)), exceeded })
}
