//! Walks a whole image, safely for any directories.

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::directory::{Block, Cursor};
use super::{DirEntry, FileType, Image, InodeInfo, Nid, ReadAt, ReadError};

/// Deepest directory that [`Walk`] enters. A Windows path has at most 32,767 characters, hence fewer levels;
/// a deeper tree is an attack.
const DEPTH_MAX: usize = 16_384;

/// One step of a [`Walk`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkEntry {
    /// The last part of the path; empty for the root.
    pub name: Vec<u8>,
    /// Directories above: 0 for the root, 1 for its entries.
    pub depth: usize,
    /// The inode.
    pub inode: InodeInfo,
}

/// Every name of an image: the root first, a directory before its entries, siblings by the bytes of their
/// names.
///
/// Ends after the first error. Takes time and memory at most linear in the image's size: a directory is
/// entered once (a second time is an error), and all directories together may not claim more bytes than the
/// image has.
#[derive(Debug)]
pub struct Walk<'a, S> {
    image: &'a Image<S>,
    stack: Vec<Level>,
    block: Block,
    path: Vec<u8>,
    entered: HashSet<Nid, RandomState>,
    claimed: u64,
    state: State,
}

#[derive(Debug)]
struct Level {
    cursor: Cursor,
    path_length: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    AtRoot,
    Below,
    Ended,
}

impl<S: ReadAt> Image<S> {
    /// Walks the image from its root.
    pub fn walk(&self) -> Walk<'_, S> {
        Walk {
            image: self,
            stack: Vec::new(),
            block: Block::empty(),
            path: Vec::new(),
            entered: HashSet::default(),
            claimed: 0,
            state: State::AtRoot,
        }
    }
}

impl<S: ReadAt> Walk<'_, S> {
    /// The path of the entry returned last, from the root, without a leading `/`. Copying it only if needed
    /// keeps walks of deep trees linear.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    fn advance(&mut self) -> Result<Option<WalkEntry>, ReadError> {
        if self.state == State::AtRoot {
            self.state = State::Below;
            let inode = self.image.inode(self.image.root())?;
            self.enter(&inode)?;
            return Ok(Some(WalkEntry { name: Vec::new(), depth: 0, inode }));
        }
        while let Some(level) = self.stack.last_mut() {
            self.path.truncate(level.path_length);
            if let Some(entry) = level.cursor.next(self.image, &mut self.block)? {
                return self.step(entry).map(Some);
            }
            self.stack.pop();
        }
        Ok(None)
    }

    fn step(&mut self, entry: DirEntry) -> Result<WalkEntry, ReadError> {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&entry.name);
        let depth = self.stack.len();
        let inode = self.image.inode(entry.nid)?;
        if inode.kind != entry.file_type {
            let (nid, path) = (inode.nid, self.shown_path());
            return Err(ReadError::TypeMismatch { path, nid, entry: entry.file_type, inode: inode.kind });
        }
        if inode.kind == FileType::Directory {
            self.enter(&inode)?;
        }
        Ok(WalkEntry { name: entry.name, depth, inode })
    }

    fn enter(&mut self, directory: &InodeInfo) -> Result<(), ReadError> {
        let nid = directory.nid;
        if self.stack.len() >= DEPTH_MAX {
            return Err(ReadError::TooDeep { nid, limit: DEPTH_MAX });
        }
        if !self.entered.insert(nid) {
            return Err(ReadError::DirectoryTwice { nid, path: self.shown_path() });
        }
        self.claimed = self.claimed.saturating_add(directory.size);
        if self.claimed > self.image.size() {
            let (path, limit) = (self.shown_path(), self.image.size());
            return Err(ReadError::DirectoriesOverlap { path, actual: self.claimed, limit });
        }
        self.stack.push(Level { cursor: Cursor::new(directory)?, path_length: self.path.len() });
        Ok(())
    }

    fn shown_path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

impl<S: ReadAt> Iterator for Walk<'_, S> {
    type Item = Result<WalkEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
        }
        next
    }
}
