//! Packs sorted names into directory blocks.
//!
//! A block takes entries while 12 bytes and the name fit for each; then the next begins. `.` and `..` are
//! ordinary entries in the place where their names sort, so that the kernel's binary search finds them.

use zerocopy::IntoBytes;

use super::{ImageBuilder, Link, Payload};
use crate::format::{self, BLOCK_SIZE, Dirent};

/// An entry, `.` and `..` included: its name and its inode.
pub(super) type Entry<'a> = (&'a [u8], u32);

/// A directory's entries with `.` and `..`, sorted.
pub(super) fn entries(builder: &ImageBuilder, node: u32, parent: u32) -> impl Iterator<Item = Entry<'_>> {
    let links = builder.entries(node);
    let names = &builder.names;
    let (before, rest) = links.split_at(links.partition_point(|link| link.name(names) < b".".as_slice()));
    let (between, after) = rest.split_at(rest.partition_point(|link| link.name(names) < b"..".as_slice()));
    named(names, before)
        .chain(std::iter::once((b".".as_slice(), node)))
        .chain(named(names, between))
        .chain(std::iter::once((b"..".as_slice(), parent)))
        .chain(named(names, after))
}

fn named<'a>(names: &'a [u8], links: &'a [Link]) -> impl Iterator<Item = Entry<'a>> {
    links.iter().map(|link| (link.name(names), link.child))
}

/// Full blocks of a directory, and the bytes of its last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) full: u64,
    pub(super) tail: usize,
}

/// The blocks that a directory takes.
pub(super) fn measure(builder: &ImageBuilder, node: u32, parent: u32) -> Extent {
    let mut extent = Extent { full: 0, tail: 0 };
    for (name, _) in entries(builder, node, parent) {
        let size = size_of::<Dirent>() + name.len();
        if extent.tail + size > BLOCK_SIZE {
            extent = Extent { full: extent.full + 1, tail: 0 };
        }
        extent.tail += size;
    }
    extent
}

/// Builds the blocks of a directory, one at a time.
pub(super) struct Blocks<'a, I: Iterator<Item = Entry<'a>>> {
    builder: &'a ImageBuilder,
    entries: std::iter::Peekable<I>,
    group: Vec<Entry<'a>>,
}

impl<'a, I: Iterator<Item = Entry<'a>>> Blocks<'a, I> {
    pub(super) fn new(builder: &'a ImageBuilder, entries: I) -> Self {
        Self { builder, entries: entries.peekable(), group: Vec::new() }
    }

    /// Replaces `block` by the next block without its padding; empty at the end.
    pub(super) fn next_into(&mut self, block: &mut Vec<u8>) {
        block.clear();
        self.group.clear();
        let mut used = 0;
        while let Some(entry) =
            self.entries.next_if(|(name, _)| used + size_of::<Dirent>() + name.len() <= BLOCK_SIZE)
        {
            used += size_of::<Dirent>() + entry.0.len();
            self.group.push(entry);
        }
        let mut name_offset = self.group.len() * size_of::<Dirent>();
        for &(name, inode) in &self.group {
            let node = &self.builder.nodes[inode as usize];
            let dirent = Dirent {
                nid: u64::from(node.nid).into(),
                name_offset: (name_offset as u16).into(), // below a block
                file_type: file_type(node.payload),
                reserved: 0,
            };
            block.extend_from_slice(dirent.as_bytes());
            name_offset += name.len();
        }
        for (name, _) in &self.group {
            block.extend_from_slice(name);
        }
    }
}

fn file_type(payload: Payload) -> u8 {
    match payload {
        Payload::Directory { .. } => format::FT_DIRECTORY,
        Payload::File { .. } => format::FT_REGULAR,
        Payload::Symlink { .. } => format::FT_SYMLINK,
        Payload::CharDevice { .. } => format::FT_CHAR_DEVICE,
    }
}
