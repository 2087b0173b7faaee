//! Sparse files: the archive holds only parts of a file; the rest is zeros.
//!
//! GNU tar has written this in four ways: in the header block and blocks after it (type `S`), in repeated PAX
//! records (0.0), in one PAX record (0.1), and in the first blocks of the data (1.0). All of them end up as a
//! [`SparseMap`].
//!
//! Source: GNU tar manual, "Storing Sparse Files"; Go's `archive/tar` `readOldGNUSparseMap`,
//! `readGNUSparseMap0x1` and `readGNUSparseMap1x0` for what is accepted.

use super::block::{self, Block};
use super::pax::{PaxRecords, decimal_i64};

/// The record that holds the map of formats 0.0 (after reading) and 0.1.
pub(super) const MAP: &[u8] = b"GNU.sparse.map";
const OFFSET: &[u8] = b"GNU.sparse.offset";
const NUM_BYTES: &[u8] = b"GNU.sparse.numbytes";
const NUM_BLOCKS: &[u8] = b"GNU.sparse.numblocks";
const MAJOR: &[u8] = b"GNU.sparse.major";
const MINOR: &[u8] = b"GNU.sparse.minor";
const NAME: &[u8] = b"GNU.sparse.name";
const SIZE: &[u8] = b"GNU.sparse.size";
const REAL_SIZE: &[u8] = b"GNU.sparse.realsize";

/// A part of a sparse file that is in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseExtent {
    /// Where it starts in the file.
    pub offset: u64,
    /// Its bytes; may be 0.
    pub length: u64,
}

impl SparseExtent {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// The parts of a sparse file that are in the archive, one after the other, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseMap {
    extents: Vec<SparseExtent>,
}

impl SparseMap {
    /// Accepts extents that are in order, do not overlap, and end within a file of `size` bytes.
    pub(super) fn new(extents: Vec<(i64, i64)>, size: u64) -> Result<Self, &'static str> {
        let mut end = 0;
        let mut checked = Vec::with_capacity(extents.len());
        for (offset, length) in extents {
            let (Ok(offset), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
                return Err("an offset or length is negative");
            };
            if offset < end {
                return Err("extents overlap or are out of order");
            }
            // Two values of 63 bits: the sum fits 64.
            end = offset + length;
            if end > size {
                return Err("an extent ends behind the end of the file");
            }
            checked.push(SparseExtent { offset, length });
        }
        Ok(Self { extents: checked })
    }

    /// The extents, in order, without overlap, all within the file's size.
    pub fn extents(&self) -> &[SparseExtent] {
        &self.extents
    }

    /// Bytes of all extents together.
    pub fn stored_size(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }
}

/// Collects the records of format 0.0, which repeats its keys in alternation.
#[derive(Default)]
pub(super) struct Format00 {
    map: Option<Vec<u8>>,
    expects_length: bool,
}

impl Format00 {
    /// Takes a record if it belongs to the format.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<bool, &'static str> {
        let is_length = match key {
            OFFSET => false,
            NUM_BYTES => true,
            _ => return Ok(false),
        };
        if is_length != self.expects_length || value.contains(&b',') {
            return Err("sparse offsets and lengths do not alternate");
        }
        self.expects_length = !is_length;
        match &mut self.map {
            None => self.map = Some(value.to_vec()),
            Some(map) => {
                map.push(b',');
                map.extend_from_slice(value);
            }
        }
        Ok(true)
    }

    /// The map in format 0.1, if there was any record.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        self.map
    }
}

/// The sparse format of an entry, from its PAX records.
pub(super) struct PaxSparse<'a> {
    /// Format 1.0: the map is in the first blocks of the data.
    pub(super) map_in_data: bool,
    /// The file's name, in place of a made-up one in the header.
    pub(super) name: Option<&'a [u8]>,
    /// The file's size; `Some(None)` if the record does not hold a number.
    pub(super) size: Option<Option<i64>>,
}

/// Recognises the PAX sparse formats; files of unknown versions are plain files.
pub(super) fn in_pax(records: &PaxRecords) -> Option<PaxSparse<'_>> {
    let value = |key| records.get(key).filter(|value| !value.is_empty());
    let map_in_data = match (value(MAJOR), value(MINOR)) {
        (Some(b"0"), Some(b"0" | b"1")) => false,
        (Some(b"1"), Some(b"0")) => true,
        (None, None) if value(MAP).is_some() => false,
        _ => return None,
    };
    let size = value(SIZE).or_else(|| value(REAL_SIZE)).map(decimal_i64);
    Some(PaxSparse { map_in_data, name: value(NAME), size })
}

/// Reads the map of formats 0.0 and 0.1.
pub(super) fn map_in_records(records: &PaxRecords) -> Result<Vec<(i64, i64)>, &'static str> {
    const COUNT: &str = "its number of extents is not that of the map";
    let count = records.get(NUM_BLOCKS).and_then(decimal_i64).ok_or(COUNT)?;
    let map = records.get(MAP).unwrap_or_default();
    let numbers: Vec<&[u8]> =
        if map.is_empty() { Vec::new() } else { map.split(|&byte| byte == b',').collect() };
    if count.checked_mul(2) != i64::try_from(numbers.len()).ok() {
        return Err(COUNT);
    }
    let number = |text: &[u8]| decimal_i64(text).ok_or("an offset or length is not a number");
    numbers.chunks_exact(2).map(|pair| Ok((number(pair[0])?, number(pair[1])?))).collect()
}

/// Reads the map of format 1.0, block by block: decimal numbers, a line feed after each; how many extents,
/// then offset and length of each.
#[derive(Default)]
pub(super) struct Format10 {
    number: Vec<u8>,
    count: Option<u64>,
    numbers: Vec<i64>,
}

impl Format10 {
    /// Takes the next block; true when the map is complete. The rest of its last block is padding.
    pub(super) fn take(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        for &byte in block {
            if self.is_complete() {
                return Ok(true);
            }
            if byte != b'\n' {
                self.number.push(byte);
                continue;
            }
            let number = decimal_i64(&self.number).ok_or("a line is not a number")?;
            self.number.clear();
            match self.count {
                Some(_) => self.numbers.push(number),
                None => {
                    let count = u64::try_from(number).map_err(|_| "its number of extents is negative")?;
                    self.count = Some(count.checked_mul(2).ok_or("its number of extents is too large")?);
                }
            }
        }
        Ok(self.is_complete())
    }

    fn is_complete(&self) -> bool {
        self.count == Some(self.numbers.len() as u64)
    }

    pub(super) fn finish(self) -> Vec<(i64, i64)> {
        self.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
    }
}

/// Bytes of one extent in the old GNU format: offset and length, twelve bytes each.
const OLD_EXTENT: usize = 24;
/// Extents in a header block; a further block has 21.
const OLD_IN_HEADER: usize = (block::GNU_SPARSE.end - block::GNU_SPARSE.start) / OLD_EXTENT;
const OLD_IN_BLOCK: usize = 21;

/// Reads the old GNU map that starts in a header block.
pub(super) struct OldGnu {
    /// The file's size.
    pub(super) size: i64,
    extents: Vec<(i64, i64)>,
}

impl OldGnu {
    /// Takes the header block; true if a further block belongs to the map.
    pub(super) fn start(header: &Block) -> Result<(Self, bool), &'static str> {
        const { assert!(OLD_IN_HEADER == 4) };
        let size =
            block::number(&header[block::GNU_REAL_SIZE]).map_err(|_| "the file's size is not a number")?;
        let mut map = Self { size, extents: Vec::new() };
        let more = map.take_extents(&header[block::GNU_SPARSE], OLD_IN_HEADER)?;
        Ok((map, more))
    }

    /// Takes a further block; true if yet another one follows.
    pub(super) fn take(&mut self, block: &Block) -> Result<bool, &'static str> {
        self.take_extents(block, OLD_IN_BLOCK)
    }

    fn take_extents(&mut self, fields: &[u8], most: usize) -> Result<bool, &'static str> {
        let (extents, rest) = fields.split_at(most * OLD_EXTENT);
        for extent in extents.chunks_exact(OLD_EXTENT).take_while(|extent| extent[0] != 0) {
            let (offset, length) = extent.split_at(OLD_EXTENT / 2);
            let number = |field| block::number(field).map_err(|_| "an offset or length is not a number");
            self.extents.push((number(offset)?, number(length)?));
        }
        Ok(rest[0] != 0)
    }

    pub(super) fn finish(self) -> Vec<(i64, i64)> {
        self.extents
    }
}
