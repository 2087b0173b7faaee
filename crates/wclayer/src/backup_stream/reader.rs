//! Parses backup streams.

use std::io::{self, Read, Seek, SeekFrom};

use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::name;

use super::error::BackupStreamError;
use super::{MAX_NAME_SIZE, RawHeader, SPARSE_BLOCK, SPARSE_OFFSET_SIZE, StreamHeader};

/// Reads the records of a backup stream in order.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    /// Bytes of the stream read or skipped.
    position: u64,
    /// The current record: its offset, its kind, and the rest of its data.
    offset: u64,
    id: u32,
    left: u64,
}

impl<R: Read> Reader<R> {
    /// Reads from the current position of `inner`, in small pieces, so buffer it.
    pub fn new(inner: R) -> Self {
        Self { inner, position: 0, offset: 0, id: 0, left: 0 }
    }

    /// Goes to the next record, reading past the rest of this one; `None` at the end.
    ///
    /// # Errors
    /// [`BackupStreamError`], if the stream ends inside a record or a record has impossible sizes.
    #[expect(clippy::should_implement_trait, reason = "the record's data is read from self in between")]
    pub fn next(&mut self) -> Result<Option<StreamHeader>, BackupStreamError> {
        let mut rest = (&mut self.inner).take(self.left);
        let skipped = io::copy(&mut rest, &mut io::sink()).map_err(|source| self.read_error(source))?;
        self.position += skipped;
        self.left -= skipped;
        if self.left > 0 {
            return Err(self.truncated());
        }
        self.read_header()
    }

    /// Reads data of the current record; 0 at its end.
    ///
    /// # Errors
    /// [`BackupStreamError::TruncatedData`], [`BackupStreamError::Read`].
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, BackupStreamError> {
        let count = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if count == 0 {
            return Ok(0);
        }
        let read = loop {
            match self.inner.read(&mut buffer[..count]) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.read_error(source)),
            }
        };
        if read == 0 {
            return Err(self.truncated());
        }
        self.position += read as u64;
        self.left -= read as u64;
        Ok(read)
    }

    /// Reads the rest of the current record, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// [`BackupStreamError::Size`] if it is more, or those of [`read_data`](Self::read_data).
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, BackupStreamError> {
        if self.left > limit {
            let size = i64::try_from(self.left).unwrap_or(i64::MAX);
            return Err(BackupStreamError::Size { offset: self.offset, id: self.id, size });
        }
        let mut all = Vec::new();
        let read = (&mut self.inner).take(self.left).read_to_end(&mut all);
        let read = read.map_err(|source| self.read_error(source))? as u64;
        self.position += read;
        self.left -= read;
        if self.left > 0 { Err(self.truncated()) } else { Ok(all) }
    }

    /// Bytes of the stream that were read or skipped.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The source, at the position where reading stopped.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn read_header(&mut self) -> Result<Option<StreamHeader>, BackupStreamError> {
        self.offset = self.position;
        let mut raw = [0; size_of::<RawHeader>()];
        if !self.fill(&mut raw)? {
            return Ok(None);
        }
        let raw = RawHeader::read_from_bytes(&raw).unwrap_or_else(|_| unreachable!("the sizes are the same"));
        let (id, size) = (raw.id.get(), raw.size.get());
        self.id = id;
        let bad_size = || BackupStreamError::Size { offset: self.offset, id, size };
        let data_size = u64::try_from(size).map_err(|_| bad_size())?;
        let data_size = match id {
            SPARSE_BLOCK => data_size.checked_sub(SPARSE_OFFSET_SIZE).ok_or_else(bad_size)?,
            _ => data_size,
        };
        let name = self.read_name(raw.name_size.get())?;
        let sparse_offset = if id == SPARSE_BLOCK { self.read_sparse_offset()? } else { 0 };
        self.left = data_size;
        let attributes = raw.attributes.get();
        Ok(Some(StreamHeader { id, attributes, size: data_size, name, sparse_offset }))
    }

    fn read_name(&mut self, size: u32) -> Result<Vec<u8>, BackupStreamError> {
        if size > MAX_NAME_SIZE || !size.is_multiple_of(2) {
            return Err(BackupStreamError::NameSize { offset: self.offset, id: self.id, size: size.into() });
        }
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut units = vec![0u16; size as usize / 2];
        if !self.fill(units.as_mut_bytes())? {
            return Err(BackupStreamError::TruncatedHeader { offset: self.offset });
        }
        units.iter_mut().for_each(|unit| *unit = u16::from_le(*unit));
        Ok(name::from_utf16(&units))
    }

    fn read_sparse_offset(&mut self) -> Result<u64, BackupStreamError> {
        let mut bytes = [0; SPARSE_OFFSET_SIZE as usize];
        if !self.fill(&mut bytes)? {
            return Err(BackupStreamError::TruncatedHeader { offset: self.offset });
        }
        let position = i64::from_le_bytes(bytes);
        u64::try_from(position).map_err(|_| BackupStreamError::SparseOffset { offset: self.offset, position })
    }

    /// Fills `buffer`; `false` if the source is at its end.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, BackupStreamError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(BackupStreamError::TruncatedHeader { offset: self.offset }),
                Ok(count) => {
                    filled += count;
                    self.position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.read_error(source)),
            }
        }
        Ok(true)
    }

    fn truncated(&self) -> BackupStreamError {
        BackupStreamError::TruncatedData { offset: self.offset, id: self.id, missing: self.left }
    }

    fn read_error(&self, source: io::Error) -> BackupStreamError {
        BackupStreamError::Read { offset: self.position, source }
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Like [`next`](Self::next), but seeks: skipped data cost nothing, and a stream that ends within them
    /// counts as complete, as in the reference.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub fn next_by_seeking(&mut self) -> Result<Option<StreamHeader>, BackupStreamError> {
        // Offsets of a file are signed, so a size may take two steps.
        while self.left > 0 {
            let step = i64::try_from(self.left).unwrap_or(i64::MAX);
            self.inner.seek(SeekFrom::Current(step)).map_err(|source| self.read_error(source))?;
            self.position += step.unsigned_abs();
            self.left -= step.unsigned_abs();
        }
        self.read_header()
    }

    /// Starts again at `start`, a position of the source where a record begins.
    ///
    /// # Errors
    /// [`BackupStreamError::Read`].
    pub fn restart(&mut self, start: u64) -> Result<(), BackupStreamError> {
        self.inner.seek(SeekFrom::Start(start)).map_err(|source| self.read_error(source))?;
        (self.position, self.offset, self.left) = (0, 0, 0);
        Ok(())
    }
}

/// Reads data of the current record.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_data(buffer).map_err(io::Error::from)
    }
}
