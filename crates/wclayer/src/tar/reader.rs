//! Reads an archive, header by header.
//!
//! Blocks are parsed in the source's buffer, and data that nobody reads are skipped there, so an archive
//! costs only as much as its headers.

use std::io::{self, BufRead};

use super::MAX_SPECIAL_SIZE;
use super::block::{self, BLOCK_SIZE, Block, Format};
use super::data::{Body, Data};
use super::error::TarError;
use super::header::{Header, is_header_only, type_flag};
use super::pax::PaxRecords;
use super::sparse::{self, SparseMap};

/// How an archive ended. Go accepts all of these as a proper end; POSIX only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveEnd {
    /// Two blocks of zeros. Anything behind them was not read.
    Marked,
    /// One block of zeros, then no more bytes.
    HalfMarked,
    /// No more bytes where a header could be.
    Unmarked,
    /// No more bytes, inside the padding of the last block of some data.
    InPadding,
    /// No more bytes, or the end, right after an extended header or long name: the entry it belongs to is
    /// missing.
    EntryMissing,
}

#[derive(Clone, Copy)]
enum State {
    Reading,
    Ended(ArchiveEnd),
    Failed { offset: u64 },
}

/// Reads the entries of an archive in order.
///
/// After an error it only returns [`TarError::Failed`].
pub struct Reader<R> {
    pub(super) source: Source<R>,
    pub(super) body: Body,
    block: Box<Block>,
    state: State,
    longest_special: u64,
}

/// Headers that came before the entry they describe.
#[derive(Default)]
struct Prefix {
    pax: PaxRecords,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
    offset: Option<u64>,
}

impl<R: BufRead> Reader<R> {
    /// Reads an archive from the current position of `source`; offsets count from there.
    ///
    /// Decompression is the caller's work. A buffer of 64 KiB or more makes it fast.
    pub fn new(source: R) -> Self {
        Self {
            source: Source { inner: source, position: 0 },
            body: Body::default(),
            block: Box::new([0; BLOCK_SIZE]),
            state: State::Reading,
            longest_special: MAX_SPECIAL_SIZE,
        }
    }

    /// Refuses extended headers and GNU long names of more than `bytes`, and of more than
    /// [`MAX_SPECIAL_SIZE`].
    #[must_use]
    pub fn with_longest_special(self, bytes: u64) -> Self {
        Self { longest_special: bytes.min(MAX_SPECIAL_SIZE), ..self }
    }

    /// Goes to the next entry, past the unread rest of the one before; `None` at the end.
    ///
    /// # Errors
    /// Everything that Go's reader refuses, see [`TarError`].
    #[expect(clippy::should_implement_trait, reason = "the entry's data is read from self in between")]
    pub fn next(&mut self) -> Result<Option<Header>, TarError> {
        match self.state {
            State::Ended(_) => return Ok(None),
            State::Failed { offset } => return Err(TarError::Failed { offset }),
            State::Reading => {}
        }
        let result = self.read_entry();
        match &result {
            Ok(Ok(_)) => {}
            Ok(Err(end)) => self.state = State::Ended(*end),
            Err(_) => self.fail(),
        }
        Ok(result?.ok())
    }

    /// The data of the last entry from [`next`](Self::next), from the current position.
    ///
    /// The holes of a sparse file read as zeros. Types that have no data are empty.
    pub fn data(&mut self) -> Data<'_, R> {
        Data::new(self)
    }

    /// Reads data of the current entry; 0 at its end.
    ///
    /// # Errors
    /// A [`TarError`] inside an [`io::Error`].
    pub fn read_data(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.data(), buffer)
    }

    /// Like [`read_data`](Self::read_data), with the bare error.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        self.body.read(&mut self.source, buffer).inspect_err(|_| {
            self.state = State::Failed { offset: self.source.position };
        })
    }

    /// How the archive ended; `None` before its end.
    pub fn end(&self) -> Option<ArchiveEnd> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Bytes of the archive that were read or skipped.
    pub fn position(&self) -> u64 {
        self.source.position
    }

    /// The source, behind the last byte that was needed.
    pub fn into_inner(self) -> R {
        self.source.inner
    }

    /// The error of reading on after one.
    pub(super) fn failure(&self) -> Option<TarError> {
        match self.state {
            State::Failed { offset } => Some(TarError::Failed { offset }),
            _ => None,
        }
    }

    pub(super) fn fail(&mut self) {
        self.state = State::Failed { offset: self.source.position };
    }

    fn read_entry(&mut self) -> Result<Result<Header, ArchiveEnd>, TarError> {
        let mut prefix = Prefix::default();
        loop {
            if !self.body.skip(&mut self.source)? {
                return Ok(Err(ArchiveEnd::InPadding));
            }
            let offset = self.source.position;
            if let Some(end) = self.read_block()? {
                return Ok(Err(if prefix.offset.is_some() { ArchiveEnd::EntryMissing } else { end }));
            }
            let format = block::format(&self.block).ok_or(TarError::NoHeader { offset })?;
            let (mut header, size) = Header::from_block(&self.block, format, offset)?;
            header.offset = *prefix.offset.get_or_insert(offset);
            self.begin(&mut header, size)?;
            match header.type_flag {
                type_flag::PAX => prefix.pax = self.read_pax(&header)?,
                type_flag::GLOBAL => return self.global(header).map(Ok),
                type_flag::GNU_LONG_NAME => prefix.long_name = self.read_long_name(&header)?,
                type_flag::GNU_LONG_LINK => prefix.long_link = self.read_long_name(&header)?,
                _ => return self.finish(header, size, prefix, format).map(Ok),
            }
        }
    }

    /// Reads a block; `Some` if there is none because the archive ends.
    fn read_block(&mut self) -> Result<Option<ArchiveEnd>, TarError> {
        let offset = self.source.position;
        match self.source.read(&mut self.block[..])? {
            0 => return Ok(Some(ArchiveEnd::Unmarked)),
            BLOCK_SIZE => {}
            _ => return Err(TarError::TruncatedHeader { offset }),
        }
        if self.block.iter().any(|&byte| byte != 0) {
            return Ok(None);
        }
        match self.source.read(&mut self.block[..])? {
            0 => Ok(Some(ArchiveEnd::HalfMarked)),
            BLOCK_SIZE if self.block.iter().all(|&byte| byte == 0) => Ok(Some(ArchiveEnd::Marked)),
            BLOCK_SIZE => Err(TarError::HalfAnEnd { offset }),
            _ => Err(TarError::TruncatedHeader { offset: offset + BLOCK_SIZE as u64 }),
        }
    }

    /// Makes the data behind a header block current.
    fn begin(&mut self, header: &mut Header, size: i64) -> Result<(), TarError> {
        let stored = if is_header_only(header.type_flag) { 0 } else { size };
        let stored = u64::try_from(stored).map_err(|_| TarError::NegativeSize {
            entry: header.display_name(),
            offset: header.header_offset,
            size,
        })?;
        (header.size, header.stored_size) = (stored, stored);
        self.body.begin(&header.name, header.offset, stored);
        Ok(())
    }

    fn read_pax(&mut self, header: &Header) -> Result<PaxRecords, TarError> {
        let offset = header.header_offset;
        let data = self.read_special(header)?;
        PaxRecords::parse(data).map_err(|(record, problem)| TarError::PaxRecord { offset, record, problem })
    }

    fn read_long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_special(header)?;
        name.truncate(block::text(&name).len());
        Ok(name)
    }

    /// The data of an extended header, bounded; its size field only decides when to stop.
    fn read_special(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        if header.size > self.longest_special {
            return Err(TarError::SpecialTooLong {
                entry: header.display_name(),
                offset: header.header_offset,
                size: header.size,
                limit: self.longest_special,
            });
        }
        self.body.read_all(&mut self.source)
    }

    /// A global header is an entry of its own: its records can only rename itself.
    fn global(&mut self, header: Header) -> Result<Header, TarError> {
        let pax = self.read_pax(&header)?;
        let renamed = pax.get(b"path").filter(|path| !path.is_empty()).map(<[u8]>::to_vec);
        Ok(Header {
            offset: header.offset,
            header_offset: header.header_offset,
            data_offset: header.data_offset,
            stored_size: header.stored_size,
            type_flag: header.type_flag,
            name: renamed.unwrap_or(header.name),
            pax,
            ..Header::default()
        })
    }

    /// Applies the headers that came before the entry's own header block.
    fn finish(
        &mut self,
        mut header: Header,
        mut size: i64,
        prefix: Prefix,
        format: Format,
    ) -> Result<Header, TarError> {
        header.apply(prefix.pax, &mut size)?;
        if !prefix.long_name.is_empty() {
            header.name = prefix.long_name;
        }
        if !prefix.long_link.is_empty() {
            header.link_name = prefix.long_link;
        }
        if header.type_flag == 0 {
            let is_directory = header.name.last() == Some(&b'/');
            header.type_flag = if is_directory { type_flag::DIRECTORY } else { type_flag::FILE };
        }
        self.begin(&mut header, size)?;
        if header.type_flag == type_flag::GNU_SPARSE {
            self.old_gnu_sparse(&mut header, format)?;
        } else {
            self.pax_sparse(&mut header, size)?;
        }
        Ok(header)
    }

    fn old_gnu_sparse(&mut self, header: &mut Header, format: Format) -> Result<(), TarError> {
        let (entry, offset) = (header.display_name(), header.offset);
        let bad = |problem| TarError::SparseMap { entry: entry.clone(), offset, problem };
        if format != Format::Gnu {
            return Err(bad("type S in a header that is not GNU tar's"));
        }
        let (mut map, mut more) = sparse::OldGnu::start(&self.block).map_err(bad)?;
        // Go counts the part of the map in the header's own block, so a mebibyte of further blocks is one too
        // many.
        let mut length = 0;
        while more {
            let at = self.source.position;
            if self.source.read(&mut self.block[..])? < BLOCK_SIZE {
                return Err(TarError::TruncatedHeader { offset: at });
            }
            length += BLOCK_SIZE as u64;
            if length >= MAX_SPECIAL_SIZE {
                return Err(bad("too long"));
            }
            more = map.take(&self.block).map_err(bad)?;
        }
        header.data_offset += length;
        let size = u64::try_from(map.size).map_err(|_| bad("the file's size is negative"))?;
        self.set_sparse(header, SparseMap::new(map.finish(), size).map_err(bad)?, size);
        Ok(())
    }

    fn pax_sparse(&mut self, header: &mut Header, size: i64) -> Result<(), TarError> {
        let Some(sparse) = sparse::in_pax(&header.pax) else { return Ok(()) };
        let name = sparse.name.map(<[u8]>::to_vec);
        let (map_in_data, sparse_size) = (sparse.map_in_data, sparse.size);
        if let Some(name) = name {
            header.name = name;
        }
        let (entry, offset) = (header.display_name(), header.offset);
        let bad = |problem| TarError::SparseMap { entry: entry.clone(), offset, problem };
        if is_header_only(header.type_flag) {
            return Err(bad("a sparse map on an entry without data"));
        }
        let size = match sparse_size {
            Some(size) => size.ok_or_else(|| bad("the file's size is not a number"))?,
            None => size,
        };
        let size = u64::try_from(size).map_err(|_| bad("the file's size is negative"))?;
        let extents = if map_in_data {
            let (extents, length) = self.sparse_map_in_data(&bad)?;
            header.data_offset += length;
            header.stored_size -= length;
            extents
        } else {
            sparse::map_in_records(&header.pax).map_err(bad)?
        };
        self.set_sparse(header, SparseMap::new(extents, size).map_err(bad)?, size);
        Ok(())
    }

    /// Reads the map at the start of the data, and how many bytes it takes there.
    fn sparse_map_in_data(
        &mut self,
        bad: &impl Fn(&'static str) -> TarError,
    ) -> Result<(Vec<(i64, i64)>, u64), TarError> {
        let mut map = sparse::Format10::default();
        let mut length = 0;
        loop {
            if self.body.read_stored(&mut self.source, &mut self.block[..])? < BLOCK_SIZE {
                return Err(bad("the data ends inside it"));
            }
            length += BLOCK_SIZE as u64;
            if length > MAX_SPECIAL_SIZE {
                return Err(bad("too long"));
            }
            if map.take(&self.block[..]).map_err(bad)? {
                return Ok((map.finish(), length));
            }
        }
    }

    fn set_sparse(&mut self, header: &mut Header, map: SparseMap, size: u64) {
        self.body.set_sparse(&header.name, &map, size);
        header.size = size;
        header.sparse = Some(map);
    }
}

/// The bytes of the archive, counted.
pub(super) struct Source<R> {
    pub(super) inner: R,
    pub(super) position: u64,
}

impl<R: BufRead> Source<R> {
    /// The bytes that the source has buffered, at least one unless it is at its end.
    pub(super) fn fill(&mut self) -> Result<&[u8], TarError> {
        // Call it twice, because the borrow checker does not let a slice out of a loop. The second call does
        // not read.
        let is_empty = loop {
            match self.inner.fill_buf() {
                Ok(available) => break available.is_empty(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { offset: self.position, source }),
            }
        };
        if is_empty {
            return Ok(&[]);
        }
        self.inner.fill_buf().map_err(|source| TarError::Read { offset: self.position, source })
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.position += count as u64;
    }

    /// Fills `buffer` as far as the source reaches; returns how far.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let available = self.fill()?;
            if available.is_empty() {
                break;
            }
            let count = available.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&available[..count]);
            self.consume(count);
            filled += count;
        }
        Ok(filled)
    }

    /// Skips `count` bytes as far as the source reaches; returns how many are left.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<u64, TarError> {
        while count > 0 {
            let available = self.fill()?.len();
            if available == 0 {
                break;
            }
            let step = usize::try_from(count).map_or(available, |count| count.min(available));
            self.consume(step);
            count -= step as u64;
        }
        Ok(count)
    }
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("position", &self.source.position).finish_non_exhaustive()
    }
}
