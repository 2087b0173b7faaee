//! Directories: lists them, and looks up names as the kernel does.

use super::{FileType, Image, InodeInfo, Nid, ReadAt, ReadError};
use crate::format::{BLOCK_SIZE, Dirent, NAME_MAX};
use zerocopy::FromBytes;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirEntry {
    /// The name's bytes.
    pub name: Vec<u8>,
    /// The inode.
    pub nid: Nid,
    /// The inode's type in the directory.
    pub file_type: FileType,
    /// The entry's place, to find it again without its name.
    pub place: DirPlace,
}

/// The place of an entry in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirPlace {
    block: u32,
    entry: u16,
}

impl<S: ReadAt> Image<S> {
    /// The entries of a directory in the order of their names' bytes, without `.` and `..`.
    pub fn read_dir(&self, directory: &InodeInfo) -> Result<ReadDir<'_, S>, ReadError> {
        Ok(ReadDir { image: self, cursor: Cursor::new(directory)?, block: Block::empty(), failed: false })
    }

    /// The entry that [`read_dir`](Self::read_dir) found at `place` of this directory.
    pub fn entry_at(&self, directory: &InodeInfo, place: DirPlace) -> Result<DirEntry, ReadError> {
        directory.check_type(FileType::Directory)?;
        let mut block = Block::empty();
        block.load(self, directory, place.block.into())?;
        let entry = usize::from(place.entry);
        if entry >= block.count {
            return Err(block.problem(directory, entry, "number of entries", block.count, entry));
        }
        let name = block.name(directory, entry)?.to_vec();
        let (nid, file_type) = block.target(directory, entry)?;
        Ok(DirEntry { name, nid, file_type, place })
    }

    /// The inode with this name in a directory. Reads as many blocks as the logarithm of their number.
    ///
    /// The name is compared byte by byte; `.` and `..` are not found.
    pub fn lookup(&self, directory: &InodeInfo, name: &[u8]) -> Result<Option<Nid>, ReadError> {
        directory.check_type(FileType::Directory)?;
        if is_dot(name) {
            return Ok(None);
        }
        let mut block = Block::empty();
        let (mut low, mut high) = (0, block_count(directory));
        // The last block whose first name is not above the one wanted.
        while low < high {
            let middle = low + (high - low) / 2;
            block.load(self, directory, middle)?;
            if block.name(directory, 0)? <= name { low = middle + 1 } else { high = middle }
        }
        match low.checked_sub(1) {
            Some(number) => block.load(self, directory, number)?,
            None => return Ok(None),
        }
        let (mut low, mut high) = (0, block.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if block.name(directory, middle)? < name { low = middle + 1 } else { high = middle }
        }
        if low == block.count || block.name(directory, low)? != name {
            return Ok(None);
        }
        Ok(Some(block.target(directory, low)?.0))
    }
}

/// The entries of a directory. Ends after the first error.
#[derive(Debug)]
pub struct ReadDir<'a, S> {
    image: &'a Image<S>,
    cursor: Cursor,
    block: Block,
    failed: bool,
}

impl<S: ReadAt> Iterator for ReadDir<'_, S> {
    type Item = Result<DirEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.cursor.next(self.image, &mut self.block).transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// The position of a listing.
#[derive(Debug)]
pub(super) struct Cursor {
    directory: InodeInfo,
    block: u64,
    entry: usize,
    /// The previous name, to check that names ascend; empty before the first.
    previous: Vec<u8>,
}

impl Cursor {
    pub(super) fn new(directory: &InodeInfo) -> Result<Self, ReadError> {
        directory.check_type(FileType::Directory)?;
        Ok(Self { directory: *directory, block: 0, entry: 0, previous: Vec::new() })
    }

    /// The next entry. `block` may be any buffer; it is loaded again if it holds another block.
    pub(super) fn next<S: ReadAt>(
        &mut self,
        image: &Image<S>,
        block: &mut Block,
    ) -> Result<Option<DirEntry>, ReadError> {
        while self.block < block_count(&self.directory) {
            if block.at != Some((self.directory.nid, self.block)) {
                block.load(image, &self.directory, self.block)?;
            }
            while self.entry < block.count {
                let entry = self.entry;
                let name = block.name(&self.directory, entry)?;
                let problem = |problem| {
                    let (nid, name) = (self.directory.nid, String::from_utf8_lossy(name).into_owned());
                    Err(ReadError::DirectoryName { nid, block: self.block, entry, name, problem })
                };
                if name <= self.previous.as_slice() {
                    return problem("does not come behind the name before");
                }
                if name.iter().any(|&byte| byte == b'/' || byte == 0) {
                    return problem("contains `/` or NUL");
                }
                self.previous.clear();
                self.previous.extend_from_slice(name);
                self.entry += 1;
                if !is_dot(&self.previous) {
                    let (nid, file_type) = block.target(&self.directory, entry)?;
                    // The block was just read from an image, which has fewer than 2^32 blocks; a block has
                    // room for 341 entries.
                    let place = DirPlace { block: self.block as u32, entry: entry as u16 };
                    return Ok(Some(DirEntry { name: self.previous.clone(), nid, file_type, place }));
                }
            }
            self.block += 1;
            self.entry = 0;
        }
        Ok(None)
    }
}

/// One block of a directory.
#[derive(Debug)]
pub(super) struct Block {
    /// The directory and the number of the block; `None` while no valid block is loaded.
    at: Option<(Nid, u64)>,
    number: u64,
    bytes: [u8; BLOCK_SIZE],
    length: usize,
    count: usize,
}

impl Block {
    pub(super) fn empty() -> Self {
        Self { at: None, number: 0, bytes: [0; BLOCK_SIZE], length: 0, count: 0 }
    }

    fn load<S: ReadAt>(
        &mut self,
        image: &Image<S>,
        directory: &InodeInfo,
        number: u64,
    ) -> Result<(), ReadError> {
        self.at = None;
        self.number = number;
        self.length = image.read_data_block(directory, number, &mut self.bytes)?;
        let unit = size_of::<Dirent>();
        // Room for at least one entry and one byte of its name.
        if self.length <= unit {
            return Err(self.problem(directory, 0, "length of the block", self.length, unit + 1));
        }
        self.count = 1; // so that `dirent` gives the first
        let first = self.dirent(directory, 0)?.name_offset.get().into();
        if first < unit || first >= self.length || first % unit != 0 {
            return Err(self.problem(directory, 0, "offset of the first name", first, self.length));
        }
        self.count = first / unit;
        self.at = Some((directory.nid, number));
        Ok(())
    }

    fn dirent(&self, directory: &InodeInfo, entry: usize) -> Result<Dirent, ReadError> {
        let bytes = self.bytes[..self.length].get(entry * size_of::<Dirent>()..).unwrap_or_default();
        let (dirent, _) = Dirent::read_from_prefix(bytes)
            .map_err(|_| self.problem(directory, entry, "number of entries", self.count, entry))?;
        Ok(dirent)
    }

    /// An entry's name: not empty, at most 255 bytes.
    fn name(&self, directory: &InodeInfo, entry: usize) -> Result<&[u8], ReadError> {
        let start = usize::from(self.dirent(directory, entry)?.name_offset.get());
        let last = entry + 1 == self.count;
        let end =
            if last { self.length } else { self.dirent(directory, entry + 1)?.name_offset.get().into() };
        let name = match self.bytes[..self.length].get(start..end) {
            Some(name) if start >= self.count * size_of::<Dirent>() => name,
            _ => return Err(self.problem(directory, entry, "offset of its name", start, end)),
        };
        let length =
            if last { name.iter().position(|&byte| byte == 0).unwrap_or(name.len()) } else { name.len() };
        if length == 0 || length > NAME_MAX {
            return Err(self.problem(directory, entry, "length of its name", length, NAME_MAX));
        }
        Ok(&name[..length])
    }

    fn target(&self, directory: &InodeInfo, entry: usize) -> Result<(Nid, FileType), ReadError> {
        let dirent = self.dirent(directory, entry)?;
        match FileType::from_dirent(dirent.file_type) {
            Some(file_type) => Ok((Nid(dirent.nid.get()), file_type)),
            None => Err(self.problem(directory, entry, "file type", dirent.file_type.into(), 7)),
        }
    }

    fn problem(
        &self,
        directory: &InodeInfo,
        entry: usize,
        what: &'static str,
        actual: usize,
        limit: usize,
    ) -> ReadError {
        let (nid, block) = (directory.nid, self.number);
        ReadError::DirectoryBlock { nid, block, entry, what, actual: actual as u64, limit: limit as u64 }
    }
}

fn block_count(directory: &InodeInfo) -> u64 {
    directory.size.div_ceil(BLOCK_SIZE as u64)
}

fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
