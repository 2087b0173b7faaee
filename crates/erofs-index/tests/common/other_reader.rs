//! The view of the crate `erofs-rs`, which others wrote and which shares no code with ours. It reads all
//! features of our images: blocks of 512 bytes, the device table, files in chunks on other devices, holes,
//! attributes shared and inline.
//!
//! It does not check the superblock's checksum or the tags of devices, and ignores the name filter.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use erofs_index::Namespace;
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;

use super::{Seen, View, What};

/// Everything in an image, walked; each name is looked up as well.
pub fn view(image: &[u8], devices: &[Vec<u8>]) -> View {
    let devices = devices.iter().map(|device| SliceImage::new(device)).collect();
    let image = EroFS::new_with_devices(SliceImage::new(image), devices).unwrap();
    let mut view = View::new();
    let mut first_paths = BTreeMap::new();
    let root = image.get_inode(image.super_block().root_inode_id()).unwrap();
    let mut found = vec![(Vec::new(), root)];
    for entry in image.walk_dir("/").unwrap() {
        let entry = entry.unwrap();
        let path = entry.dir_entry.path().as_bytes().to_vec();
        found.push((path.strip_prefix(b"/").unwrap_or(&path).to_vec(), entry.inode));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, inode) in found {
        let same_as: Vec<u8> = first_paths.entry(inode.id()).or_insert_with(|| path.clone()).clone();
        let seen = Seen {
            what: what(&image, inode),
            mode: u16::try_from(inode.permissions().mode() & 0o7777).unwrap(),
            owner: (inode.uid(), inode.gid()),
            mtime: inode.modified_unix(),
            nlink: inode.nlink(),
            same_as,
            xattrs: xattrs(&image, inode),
        };
        assert_eq!(view.insert(path, seen), None, "a walk gives each path once");
    }
    view
}

fn what(image: &EroFS<SliceImage<'_>>, inode: Inode) -> What {
    if inode.is_dir() {
        return What::Directory;
    }
    if inode.is_symlink() {
        return What::Symlink(image.read_link_inode(inode).unwrap().into_vec());
    }
    if let Some((major, minor)) = inode.device() {
        // As Linux encodes it (`new_encode_dev`).
        return What::CharDevice(minor & 0xff | major << 8 | (minor & !0xff) << 12);
    }
    let mut bytes = Vec::new();
    image.open_inode_file(inode).unwrap().read_to_end(&mut bytes).unwrap();
    What::File(bytes)
}

fn xattrs(image: &EroFS<SliceImage<'_>>, inode: Inode) -> Vec<(Namespace, Vec<u8>, Vec<u8>)> {
    let split = |(name, value): (Vec<u8>, Vec<u8>)| {
        let (namespace, rest) = [Namespace::User, Namespace::Trusted, Namespace::Security]
            .into_iter()
            .find_map(|space| Some((space, name.strip_prefix(space.prefix().as_bytes())?.to_vec())))
            .unwrap_or_else(|| panic!("{} is in no namespace of ours", name.escape_ascii()));
        (namespace, rest, value)
    };
    let mut xattrs: Vec<_> = image.xattrs_inode(inode).unwrap().into_iter().map(split).collect();
    xattrs.sort();
    xattrs
}
