//! Writes the areas of an image one after the other, at the offsets from `layout`.

use std::io::Write;

use zerocopy::{FromZeros, IntoBytes};

use super::dirents::{self, Blocks};
use super::layout::{self, Data, Layout, Shape};
use super::{BuildError, DeviceRecord, ImageBuilder, Node, Payload, Summary};
use crate::format::{
    self, BLOCK_SIZE, CHECKSUMMED, ChunkIndex, DeviceTableSlot, ExtendedInode, FORMAT_EXTENDED,
    FORMAT_LAYOUT_SHIFT, INODE_SLOT, SUPERBLOCK_OFFSET, SuperBlock,
};

/// Writes everything.
pub(super) fn image<W: Write>(
    builder: &ImageBuilder,
    order: &[u32],
    layout: &Layout,
    writer: W,
) -> Result<Summary, BuildError> {
    let mut out = Sink::new(writer);
    out.put(&head(builder, layout))?;
    inodes(builder, order, layout, &mut out)?;
    out.pad_to(u64::from(layout.shared_block) * BLOCK_SIZE as u64)?;
    builder.xattrs.write_shared(|bytes| out.put(bytes))?;
    out.pad_to(u64::from(layout.data_block) * BLOCK_SIZE as u64)?;
    data(builder, order, &mut out)?;
    let bytes = out.finish()?;
    debug_assert_eq!(bytes, u64::from(layout.blocks) * BLOCK_SIZE as u64, "layout and emit disagree");
    let (inodes, names) = (order.len() as u64, builder.links.len() as u64);
    Ok(Summary { bytes, inodes, names, shared_xattr_bytes: layout.shared_bytes })
}

/// Superblock and device table, with the padding around them.
fn head(builder: &ImageBuilder, layout: &Layout) -> Vec<u8> {
    let mut head = vec![0; SUPERBLOCK_OFFSET];
    head.extend_from_slice(superblock(builder, layout).as_bytes());
    let mut unified = Some(layout.blocks);
    for device in &builder.devices {
        head.extend_from_slice(device_slot(device, &mut unified).as_bytes());
    }
    head.resize(head.len().next_multiple_of(BLOCK_SIZE), 0);
    if let Some(block) = head[SUPERBLOCK_OFFSET..].first_chunk::<CHECKSUMMED>() {
        let checksum = format::superblock_checksum(block);
        head[SUPERBLOCK_OFFSET + 4..][..4].copy_from_slice(&checksum.to_le_bytes());
    }
    head
}

fn superblock(builder: &ImageBuilder, layout: &Layout) -> SuperBlock {
    let (seconds, nanos) = builder.options.build_time;
    let table = SUPERBLOCK_OFFSET + size_of::<SuperBlock>();
    let devices = builder.devices.len() as u16; // at most `DEVICES_MAX`
    let with_devices = if devices > 0 { format::INCOMPAT_DEVICE_TABLE } else { 0 };
    SuperBlock {
        magic: format::MAGIC.into(),
        feature_compat: (format::COMPAT_CHECKSUM | format::COMPAT_MTIME | format::COMPAT_XATTR_FILTER).into(),
        block_bits: format::BLOCK_BITS,
        root_nid: (builder.nodes[0].nid as u16).into(), // `DEVICES_MAX` keeps it small
        inodes: (builder.nodes.len() as u64).into(),
        epoch: seconds.into(),
        epoch_nanos: nanos.into(),
        blocks: layout.blocks.into(),
        xattr_block: layout.shared_block.into(),
        uuid: builder.options.uuid,
        feature_incompat: (format::INCOMPAT_CHUNKED_FILE | with_devices).into(),
        devices: devices.into(),
        device_slot: ((table / size_of::<DeviceTableSlot>()) as u16).into(),
        ..SuperBlock::new_zeroed()
    }
}

/// Devices follow the image and each other in the space that joins them, as long as 32 bits number its
/// blocks.
fn device_slot(device: &DeviceRecord, unified: &mut Option<u32>) -> DeviceTableSlot {
    let start = *unified;
    *unified = start.and_then(|start| start.checked_add(device.blocks));
    let unified_block = if unified.is_some() { start.unwrap_or(0) } else { 0 };
    let (tag, blocks) = (device.tag, device.blocks.into());
    DeviceTableSlot { tag, blocks, unified_block: unified_block.into(), reserved: [0; 56] }
}

fn inodes<W: Write>(
    builder: &ImageBuilder,
    order: &[u32],
    layout: &Layout,
    out: &mut Sink<W>,
) -> Result<(), BuildError> {
    let mut data_block = layout.data_block;
    let mut scratch = Vec::new();
    for (position, &index) in order.iter().enumerate() {
        let node = &builder.nodes[index as usize];
        let shape = layout::shape(builder, index);
        out.pad_to(u64::from(node.nid) * INODE_SLOT as u64)?;
        out.put(inode(node, shape, position, data_block).as_bytes())?;
        scratch.clear();
        builder.xattrs.append_body(node.xattrs, &mut scratch);
        debug_assert_eq!(scratch.len(), shape.xattrs);
        out.put(&scratch)?;
        match (node.payload, shape.data) {
            (Payload::File { device, block, .. }, Data::Chunks { bits, count }) => {
                out.pad_to(out.position().next_multiple_of(size_of::<ChunkIndex>() as u64))?;
                for number in 0..count as u32 {
                    out.put(chunk_index(device, block + (number << bits)).as_bytes())?;
                }
            }
            (Payload::Directory { parent, .. }, Data::Inline(extent)) if extent.tail > 0 => {
                let mut blocks = Blocks::new(builder, dirents::entries(builder, index, parent));
                for _ in 0..=extent.full {
                    blocks.next_into(&mut scratch);
                }
                out.put(&scratch)?;
            }
            (Payload::Symlink { length, start }, Data::Inline(_)) => {
                out.put(&builder.targets[start as usize..][..usize::from(length)])?;
            }
            _ => {}
        }
        data_block += shape.data_blocks() as u32; // `place` has seen their sum
    }
    Ok(())
}

fn inode(node: &Node, shape: Shape, position: usize, data_block: u32) -> ExtendedInode {
    let type_bits = match node.payload {
        Payload::Directory { .. } => format::S_IFDIR,
        Payload::File { .. } => format::S_IFREG,
        Payload::Symlink { .. } => format::S_IFLNK,
        Payload::CharDevice { .. } => format::S_IFCHR,
    };
    let union = match (node.payload, shape.data) {
        (Payload::CharDevice { rdev }, _) => rdev,
        (_, Data::Chunks { .. }) => u32::from(shape.chunk_format()),
        _ if shape.data_blocks() > 0 => data_block,
        _ => 0,
    };
    let xattr_count = match shape.xattrs {
        0 => 0,
        size => (size - size_of::<format::XattrHeader>()) / format::XATTR_UNIT + 1,
    };
    ExtendedInode {
        format: (FORMAT_EXTENDED | shape.layout() << FORMAT_LAYOUT_SHIFT).into(),
        xattr_count: (xattr_count as u16).into(), // `XATTR_BODY_MAX`
        mode: (type_bits | node.permissions).into(),
        size: shape.stat_size(node).into(),
        union: union.into(),
        ino: (position as u32 + 1).into(),
        uid: node.uid.into(),
        gid: node.gid.into(),
        mtime: node.mtime.into(),
        mtime_nanos: node.nanos.into(),
        nlink: node.nlink.into(),
        ..ExtendedInode::new_zeroed()
    }
}

fn chunk_index(device: u16, block: u32) -> ChunkIndex {
    let block = if device == 0 { format::NO_BLOCK } else { block };
    ChunkIndex { block_high: 0.into(), device: device.into(), block: block.into() }
}

fn data<W: Write>(builder: &ImageBuilder, order: &[u32], out: &mut Sink<W>) -> Result<(), BuildError> {
    let mut block = Vec::new();
    for &index in order {
        let shape = layout::shape(builder, index);
        match builder.nodes[index as usize].payload {
            Payload::Directory { parent, .. } => {
                let mut blocks = Blocks::new(builder, dirents::entries(builder, index, parent));
                for _ in 0..shape.data_blocks() {
                    blocks.next_into(&mut block);
                    out.put(&block)?;
                    out.pad_to(out.position().next_multiple_of(BLOCK_SIZE as u64))?;
                }
            }
            Payload::Symlink { length, start } if shape.data_blocks() > 0 => {
                out.put(&builder.targets[start as usize..][..usize::from(length)])?;
                out.pad_to(out.position().next_multiple_of(BLOCK_SIZE as u64))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A writer that counts its position and passes on large pieces.
struct Sink<W> {
    writer: W,
    pending: Vec<u8>,
    written: u64,
}

/// Bytes to pass on at once.
const PIECE: usize = 1 << 18;

impl<W: Write> Sink<W> {
    fn new(writer: W) -> Self {
        Self { writer, pending: Vec::with_capacity(PIECE), written: 0 }
    }

    fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BuildError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE { self.hand_on() } else { Ok(()) }
    }

    /// Zeros up to `offset`, always less than a block away.
    fn pad_to(&mut self, offset: u64) -> Result<(), BuildError> {
        debug_assert!(offset >= self.position() && offset - self.position() < BLOCK_SIZE as u64);
        let padding = offset.saturating_sub(self.position()) as usize;
        self.put(&[0; BLOCK_SIZE][..padding])
    }

    fn hand_on(&mut self) -> Result<(), BuildError> {
        let offset = self.written;
        self.writer.write_all(&self.pending).map_err(|source| BuildError::Write { offset, source })?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<u64, BuildError> {
        self.hand_on()?;
        let offset = self.written;
        self.writer.flush().map_err(|source| BuildError::Write { offset, source })?;
        Ok(self.written)
    }
}
