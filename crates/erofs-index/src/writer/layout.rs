//! Assigns every structure its place. The areas of an image, in order:
//!
//! 1. 1,024 bytes of zeros, the superblock, the device table;
//! 2. the inodes, root first (its number has only 16 bits), each with its attributes and its inline data or
//!    chunk indexes;
//! 3. attributes that several inodes share;
//! 4. blocks of directories and of long symbolic link targets, in the order of their inodes.
//!
//! Every area begins on a block. All decisions are made here: `emit` follows this order and computes the same
//! offsets.

use super::dirents::{self, Extent};
use super::{BuildError, ImageBuilder, Node, Payload};
use crate::format::{
    BLOCK_SIZE, CHUNK_BITS_MASK, CHUNK_INDEXES, ChunkIndex, DeviceTableSlot, ExtendedInode, INODE_SLOT,
    LAYOUT_CHUNK_BASED, LAYOUT_FLAT_INLINE, LAYOUT_FLAT_PLAIN, SUPERBLOCK_OFFSET, SuperBlock,
};

/// The starts of the areas, in blocks, and the length of the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) shared_block: u32,
    pub(super) data_block: u32,
    pub(super) blocks: u32,
    pub(super) shared_bytes: u64,
}

/// The layout of one inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of attributes behind the inode.
    pub(super) xattrs: usize,
    pub(super) data: Data,
}

/// The place of an inode's data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data {
    /// None, or blocks of the data area: all of it.
    Plain(Extent),
    /// Full blocks in the data area, the rest behind the attributes.
    Inline(Extent),
    /// Indexes behind the attributes; chunks of 2^`bits` blocks.
    Chunks { bits: u16, count: usize },
}

/// Gives every inode its number.
pub(super) fn place(builder: &mut ImageBuilder, order: &[u32]) -> Result<Layout, BuildError> {
    let shared_bytes = builder.xattrs.place()?;
    let table =
        SUPERBLOCK_OFFSET + size_of::<SuperBlock>() + builder.devices.len() * size_of::<DeviceTableSlot>();
    let mut position = table.next_multiple_of(BLOCK_SIZE) as u64;
    let mut data_blocks = 0_u64;
    for &index in order {
        let shape = shape(builder, index);
        let start = shape.start(position);
        let nid = u32::try_from(start / INODE_SLOT as u64).map_err(|_| too_large(start))?;
        builder.nodes[index as usize].nid = nid;
        position = start + shape.size(start);
        data_blocks += shape.data_blocks();
    }
    let shared = position.div_ceil(BLOCK_SIZE as u64);
    let data = shared + shared_bytes.div_ceil(BLOCK_SIZE as u64);
    let blocks = data + data_blocks;
    let number = |block: u64| u32::try_from(block).map_err(|_| too_large(blocks * BLOCK_SIZE as u64));
    Ok(Layout {
        shared_block: number(shared)?,
        data_block: number(data)?,
        blocks: number(blocks)?,
        shared_bytes,
    })
}

fn too_large(bytes: u64) -> BuildError {
    BuildError::ImageTooLarge { blocks: bytes / BLOCK_SIZE as u64, limit: u64::from(u32::MAX) }
}

/// The shape of an inode; every call returns the same.
pub(super) fn shape(builder: &ImageBuilder, index: u32) -> Shape {
    let node = &builder.nodes[index as usize];
    let xattrs = builder.xattrs.body_size(node.xattrs);
    let data = match node.payload {
        Payload::Directory { parent, .. } => flat(xattrs, dirents::measure(builder, index, parent)),
        Payload::Symlink { length, .. } => {
            let length = usize::from(length);
            let extent = Extent { full: (length / BLOCK_SIZE) as u64, tail: length % BLOCK_SIZE };
            // Older kernels refuse an inline target outside its inode's block.
            if extent.full > 0 { Data::Plain(extent) } else { flat(xattrs, extent) }
        }
        Payload::File { size: 0, .. } | Payload::CharDevice { .. } => {
            Data::Plain(Extent { full: 0, tail: 0 })
        }
        Payload::File { size, .. } => chunks(size),
    };
    Shape { xattrs, data }
}

/// Inline if inode, attributes and tail fit into one block: the format requires the tail in one block, and
/// this way Linux gets all three with one read.
fn flat(xattrs: usize, extent: Extent) -> Data {
    if size_of::<ExtendedInode>() + xattrs + extent.tail <= BLOCK_SIZE {
        Data::Inline(extent)
    } else {
        Data::Plain(extent)
    }
}

/// One chunk as long as the file, rounded up to a power of two, or several of the largest: 2³¹ blocks, 1 TiB.
fn chunks(size: u64) -> Data {
    let blocks = size.div_ceil(BLOCK_SIZE as u64);
    let bits = blocks.next_power_of_two().trailing_zeros().min(u32::from(CHUNK_BITS_MASK));
    Data::Chunks { bits: bits as u16, count: blocks.div_ceil(1 << bits) as usize }
}

impl Shape {
    /// Start of the inode if everything before `position` is taken.
    pub(super) fn start(self, position: u64) -> u64 {
        let start = position.next_multiple_of(INODE_SLOT as u64);
        match self.data {
            Data::Inline(_) if start % BLOCK_SIZE as u64 + self.size(start) > BLOCK_SIZE as u64 => {
                start.next_multiple_of(BLOCK_SIZE as u64)
            }
            _ => start,
        }
    }

    /// Bytes from `start` to the end of the inode with its attributes, inline data and indexes.
    pub(super) fn size(self, start: u64) -> u64 {
        let head = (size_of::<ExtendedInode>() + self.xattrs) as u64;
        match self.data {
            Data::Plain(_) => head,
            Data::Inline(extent) => head + extent.tail as u64,
            Data::Chunks { count, .. } => {
                let unit = size_of::<ChunkIndex>() as u64;
                (start + head).next_multiple_of(unit) - start + count as u64 * unit
            }
        }
    }

    /// Blocks of the data area.
    pub(super) fn data_blocks(self) -> u64 {
        match self.data {
            Data::Plain(extent) => extent.full + u64::from(extent.tail > 0),
            Data::Inline(extent) => extent.full,
            Data::Chunks { .. } => 0,
        }
    }

    /// The inode's size, as `stat` shows it.
    pub(super) fn stat_size(self, node: &Node) -> u64 {
        match (node.payload, self.data) {
            (Payload::File { size, .. }, _) => size,
            (_, Data::Plain(extent) | Data::Inline(extent)) => {
                extent.full * BLOCK_SIZE as u64 + extent.tail as u64
            }
            (_, Data::Chunks { .. }) => 0,
        }
    }

    /// The layout's number.
    pub(super) fn layout(self) -> u16 {
        match self.data {
            Data::Plain(_) => LAYOUT_FLAT_PLAIN,
            Data::Inline(_) => LAYOUT_FLAT_INLINE,
            Data::Chunks { .. } => LAYOUT_CHUNK_BASED,
        }
    }

    /// The inode's chunk format.
    pub(super) fn chunk_format(self) -> u16 {
        match self.data {
            Data::Chunks { bits, .. } => CHUNK_INDEXES | bits,
            _ => 0,
        }
    }
}
