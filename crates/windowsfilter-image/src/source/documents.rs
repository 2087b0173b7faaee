//! Reads a container's documents while searching for the wanted image.
//!
//! A container is untrusted, and may name any number of documents any number of times. The search has
//! limits (`docs/limits.md`), and keeps only what identifies images.

use std::cell::Cell;

use windowsfilter::Digest;

use super::Container;
use crate::error::Error;
use crate::oci::Descriptor;

/// Most images and names to visit in a search, counting repeated references; the largest official images
/// have some dozens.
const MAX_ENTRIES: usize = 10_000;
/// Most bytes of documents to read in a search. Real ones have kilobytes each.
const MAX_BYTES: u64 = 64 << 20;

/// Reads documents up to the limits.
pub(super) struct Documents<'a> {
    pub(super) container: &'a Container,
    number: Cell<usize>,
    bytes: Cell<u64>,
}

impl<'a> Documents<'a> {
    pub(super) fn of(container: &'a Container) -> Self {
        Self { container, number: Cell::new(0), bytes: Cell::new(0) }
    }

    /// Counts `number` more list entries and `bytes` more document bytes.
    ///
    /// # Errors
    /// [`Error::TooManyDocuments`].
    pub(super) fn count(&self, number: usize, bytes: u64) -> Result<(), Error> {
        self.number.set(self.number.get().saturating_add(number));
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        if self.number.get() > MAX_ENTRIES || self.bytes.get() > MAX_BYTES {
            return Err(Error::TooManyDocuments {
                path: self.container.label(),
                number: MAX_ENTRIES,
                bytes: MAX_BYTES,
            });
        }
        Ok(())
    }

    /// Reads the document `name`; `None` if missing.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(blob) = self.container.file(name)? else { return Ok(None) };
        self.count(0, blob.size)?;
        self.container.document(name)
    }

    /// Reads the document `name` and checks it against `descriptor`.
    pub(super) fn described(
        &self,
        kind: &str,
        name: &str,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        let bytes = self.read(name)?;
        checked(self.container, kind, bytes, descriptor)
    }
}

/// Checks a document against its descriptor.
pub(super) fn checked(
    container: &Container,
    kind: &str,
    bytes: Option<Vec<u8>>,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, Error> {
    let what = format!("{kind} {}", descriptor.digest);
    let Some(bytes) = bytes else {
        return Err(Error::MissingBlob { path: container.label(), what });
    };
    let actual = bytes.len() as u64;
    if actual != descriptor.size {
        return Err(Error::SizeMismatch { what, expected: descriptor.size, actual });
    }
    let actual = Digest::of(&bytes);
    if actual != descriptor.digest {
        return Err(Error::DigestMismatch { what, expected: descriptor.digest, actual });
    }
    Ok(bytes)
}
