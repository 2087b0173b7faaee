//! The data of the current entry: the rest to read, and its holes.

use std::io::{self, BufRead, Read};

use super::block;
use super::error::{TarError, lossy};
use super::reader::{Reader, Source};
use super::sparse::{SparseExtent, SparseMap};

/// The rest of the current entry.
#[derive(Default)]
pub(super) struct Body {
    /// For errors: the entry and its first block.
    name: Vec<u8>,
    offset: u64,
    /// Bytes of the data that are still in the archive.
    stored_left: u64,
    /// Zeros behind them.
    padding: u64,
    sparse: Option<Sparse>,
}

/// The position in a sparse file.
struct Sparse {
    extents: std::vec::IntoIter<SparseExtent>,
    /// The current or next extent; its length is the rest to read.
    extent: Option<SparseExtent>,
    position: u64,
    size: u64,
    stored_size: u64,
    actual_size: u64,
}

impl Body {
    pub(super) fn begin(&mut self, name: &[u8], offset: u64, stored: u64) {
        self.name.clear();
        self.name.extend_from_slice(name);
        self.offset = offset;
        self.stored_left = stored;
        self.padding = block::padding(stored);
        self.sparse = None;
    }

    /// Treats the data as that of a sparse file of `size` bytes.
    pub(super) fn set_sparse(&mut self, name: &[u8], map: &SparseMap, size: u64) {
        self.name.clear();
        self.name.extend_from_slice(name);
        let mut extents = map.extents().to_vec().into_iter();
        let extent = extents.next();
        let (stored_size, actual_size) = (map.stored_size(), self.stored_left);
        self.sparse = Some(Sparse { extents, extent, position: 0, size, stored_size, actual_size });
    }

    /// Skips the rest; `false` if the archive ends in the padding.
    pub(super) fn skip<R: BufRead>(&mut self, source: &mut Source<R>) -> Result<bool, TarError> {
        let missing = source.skip(self.stored_left)?;
        if missing > 0 {
            return Err(self.truncated(missing));
        }
        self.stored_left = 0;
        Ok(source.skip(std::mem::take(&mut self.padding))? == 0)
    }

    /// Fills `buffer` with stored bytes as far as there are any.
    pub(super) fn read_stored<R: BufRead>(
        &mut self,
        source: &mut Source<R>,
        buffer: &mut [u8],
    ) -> Result<usize, TarError> {
        let count = usize::try_from(self.stored_left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = source.read(&mut buffer[..count])?;
        self.stored_left -= read as u64;
        if read < count {
            return Err(self.truncated(self.stored_left));
        }
        Ok(read)
    }

    /// Reads the whole rest. The caller has bounded it.
    pub(super) fn read_all<R: BufRead>(&mut self, source: &mut Source<R>) -> Result<Vec<u8>, TarError> {
        let mut all = Vec::new();
        while self.stored_left > 0 {
            let available = source.fill()?;
            if available.is_empty() {
                return Err(self.truncated(self.stored_left));
            }
            let count = usize::try_from(self.stored_left).map_or(available.len(), |n| n.min(available.len()));
            all.extend_from_slice(&available[..count]);
            source.consume(count);
            self.stored_left -= count as u64;
        }
        Ok(all)
    }

    /// Reads stored bytes, or zeros where the file has a hole.
    pub(super) fn read<R: BufRead>(
        &mut self,
        source: &mut Source<R>,
        buffer: &mut [u8],
    ) -> Result<usize, TarError> {
        let Some(sparse) = &mut self.sparse else {
            let read = self.read_some(source, buffer)?;
            return Ok(read);
        };
        if sparse.position == sparse.size {
            // In Go, data that no extent refers to are an error, but only when the file is read to its end.
            return if self.stored_left > 0 { Err(self.sparse_mismatch()) } else { Ok(0) };
        }
        let (is_hole, length) = sparse.run();
        let count = usize::try_from(length).map_or(buffer.len(), |length| length.min(buffer.len()));
        if is_hole {
            buffer[..count].fill(0);
            sparse.advance(count as u64);
            return Ok(count);
        }
        if self.stored_left == 0 && count > 0 {
            return Err(self.sparse_mismatch());
        }
        let read = self.read_some(source, &mut buffer[..count])?;
        if let Some(sparse) = &mut self.sparse {
            sparse.advance(read as u64);
        }
        Ok(read)
    }

    /// Reads stored bytes, as many as one read gives.
    fn read_some<R: BufRead>(
        &mut self,
        source: &mut Source<R>,
        buffer: &mut [u8],
    ) -> Result<usize, TarError> {
        let wanted = usize::try_from(self.stored_left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let available = source.fill()?;
        let count = available.len().min(wanted);
        if count == 0 {
            return Err(self.truncated(self.stored_left));
        }
        buffer[..count].copy_from_slice(&available[..count]);
        source.consume(count);
        self.stored_left -= count as u64;
        Ok(count)
    }

    fn truncated(&self, missing: u64) -> TarError {
        TarError::TruncatedData { entry: lossy(&self.name), offset: self.offset, missing }
    }

    fn sparse_mismatch(&self) -> TarError {
        let (expected, actual) =
            self.sparse.as_ref().map_or((0, 0), |sparse| (sparse.stored_size, sparse.actual_size));
        TarError::SparseData { entry: lossy(&self.name), offset: self.offset, expected, actual }
    }
}

impl Sparse {
    /// Whether a hole comes next, and for how many bytes (at least one before the end).
    fn run(&mut self) -> (bool, u64) {
        while self.extent.is_some_and(|extent| extent.length == 0) {
            self.extent = self.extents.next();
        }
        match self.extent {
            Some(extent) if extent.offset <= self.position => (false, extent.length),
            Some(extent) => (true, extent.offset - self.position),
            None => (true, self.size - self.position),
        }
    }

    fn advance(&mut self, count: u64) {
        if let Some(extent) = &mut self.extent
            && extent.offset <= self.position
        {
            extent.offset += count;
            extent.length -= count;
        }
        self.position += count;
    }
}

/// The data of an entry, see [`Reader::data`].
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<'a, R: BufRead> Data<'a, R> {
    pub(super) fn new(reader: &'a mut Reader<R>) -> Self {
        Self { reader }
    }
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read_some(buffer).map_err(io::Error::from)
    }
}

impl<R> std::fmt::Debug for Data<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Data").field(&self.reader).finish()
    }
}
