//! The reader of EROFS images: any bytes are an image whose every part can be read, or an error; everything
//! terminates.
#![no_main]

use erofs_index::{Image, InodeInfo, Namespace, Nid, ReadAt};
use libfuzzer_sys::fuzz_target;

const SUPERBLOCK: usize = 1024;
/// A small image may link directories so that a walk is arbitrarily long; the caller has to bound it.
const ENTRIES: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let mut bytes = input.to_vec();
    seal(&mut bytes);
    let Ok(image) = Image::open(bytes) else { return };
    for entry in image.walk().take(ENTRIES) {
        let Ok(entry) = entry else { break };
        look_at(&image, &entry.inode);
    }
    for nid in 0..(image.size() / 32 + 2).min(ENTRIES as u64) {
        if let Ok(inode) = image.inode(Nid(nid)) {
            look_at(&image, &inode);
        }
    }
});

/// Fixes the superblock's checksum, so that mutations reach the rest. Source:
/// `erofs_superblock_csum_verify` (Linux, fs/erofs/super.c): CRC-32C from all ones, not inverted, over the
/// block from the superblock on, the field as zero.
fn seal(bytes: &mut [u8]) {
    let Some(block) = bytes.get_mut(SUPERBLOCK..SUPERBLOCK + 512) else { return };
    block[4..8].fill(0);
    let checksum = block.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    });
    block[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn look_at<S: ReadAt>(image: &Image<S>, inode: &InodeInfo) {
    let _ = image.xattrs(inode);
    let _ = image.xattr(inode, Namespace::Trusted, b"win32.origin");
    let _ = image.read_link(inode);
    let _ = image.extent(inode);
    let _ = image.lookup(inode, b"Files");
    if let Ok(entries) = image.read_dir(inode) {
        for entry in entries.take(ENTRIES) {
            let Ok(entry) = entry else { break };
            assert!((1..=255).contains(&entry.name.len()));
        }
    }
}
