//! Writes backup streams.

use std::io::Write;

use zerocopy::IntoBytes as _;

use crate::name;

use super::error::BackupStreamError;
use super::{MAX_NAME_SIZE, RawHeader, SPARSE_BLOCK, SPARSE_OFFSET_SIZE, StreamHeader};

/// Writes records one after the other: [`begin`](Self::begin), then as many bytes of data as its header
/// announced.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    position: u64,
    id: u32,
    size: u64,
    left: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to `inner`, in small pieces, so buffer it.
    pub fn new(inner: W) -> Self {
        Self { inner, position: 0, id: 0, size: 0, left: 0 }
    }

    /// Writes the header of the next record.
    ///
    /// A name that is not WTF-8 is written as Go does: U+FFFD for each byte that is not UTF-8.
    ///
    /// # Errors
    /// [`BackupStreamError::Incomplete`] if the record before is not complete,
    /// [`BackupStreamError::NameSize`], [`BackupStreamError::Size`], [`BackupStreamError::Write`].
    pub fn begin(&mut self, header: &StreamHeader) -> Result<(), BackupStreamError> {
        self.complete()?;
        let offset = self.position;
        let id = header.id;
        let name = name::to_utf16(&header.name).unwrap_or_else(|_| replaced(&header.name));
        let name_size = u32::try_from(name.len() * 2).unwrap_or(u32::MAX);
        if name_size > MAX_NAME_SIZE {
            return Err(BackupStreamError::NameSize { offset, id, size: name.len() as u64 * 2 });
        }
        let size =
            if id == SPARSE_BLOCK { header.size.checked_add(SPARSE_OFFSET_SIZE) } else { Some(header.size) };
        let size = size.and_then(|size| i64::try_from(size).ok()).ok_or(BackupStreamError::Size {
            offset,
            id,
            size: i64::MAX,
        })?;
        let raw = RawHeader {
            id: id.into(),
            attributes: header.attributes.into(),
            size: size.into(),
            name_size: name_size.into(),
        };
        let mut bytes = raw.as_bytes().to_vec();
        bytes.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
        if id == SPARSE_BLOCK {
            bytes.extend_from_slice(&header.sparse_offset.to_le_bytes());
        }
        (self.id, self.size, self.left) = (id, header.size, header.size);
        self.put(&bytes)
    }

    /// Writes data of the current record.
    ///
    /// # Errors
    /// [`BackupStreamError::TooLong`] (nothing is written then), [`BackupStreamError::Write`].
    pub fn write_data(&mut self, data: &[u8]) -> Result<(), BackupStreamError> {
        let Some(left) = self.left.checked_sub(data.len() as u64) else {
            return Err(BackupStreamError::TooLong { id: self.id, size: self.size });
        };
        self.left = left;
        self.put(data)
    }

    /// Writes a whole record without name and attributes.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin) and [`write_data`](Self::write_data).
    pub fn record(&mut self, id: u32, data: &[u8]) -> Result<(), BackupStreamError> {
        self.begin(&StreamHeader::new(id, data.len() as u64))?;
        self.write_data(data)
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the destination; the stream needs no end mark.
    ///
    /// # Errors
    /// [`BackupStreamError::Incomplete`].
    pub fn finish(self) -> Result<W, BackupStreamError> {
        self.complete()?;
        Ok(self.inner)
    }

    fn complete(&self) -> Result<(), BackupStreamError> {
        match self.left {
            0 => Ok(()),
            missing => Err(BackupStreamError::Incomplete { id: self.id, missing }),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupStreamError> {
        self.position += bytes.len() as u64;
        self.inner.write_all(bytes).map_err(|source| BackupStreamError::Write { source })
    }
}

/// The text as Go's `[]rune` converts it: each byte that is not part of a UTF-8 character is U+FFFD.
fn replaced(name: &[u8]) -> Vec<u16> {
    let mut units = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        units.extend(chunk.valid().encode_utf16());
        units.extend(chunk.invalid().iter().map(|_| 0xfffd));
    }
    units
}
