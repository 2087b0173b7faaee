//! The view of the crate's own reader.

use std::collections::BTreeMap;

use erofs_index::{FileType, Image, ReadAt};

use super::{Seen, View, What};

/// The whole view, by three ways that must agree: walking, listing, looking up.
pub fn view<S: ReadAt>(image: &Image<S>, devices: &[Vec<u8>]) -> View {
    let mut view = View::new();
    let mut first_paths = BTreeMap::new();
    let mut walk = image.walk();
    let mut listings = BTreeMap::new();
    while let Some(entry) = walk.next() {
        let entry = entry.unwrap();
        let path = walk.path().to_vec();
        let inode = entry.inode;
        let what = match inode.kind {
            FileType::Directory => {
                listings.insert(path.clone(), inode);
                What::Directory
            }
            FileType::Regular => What::File(match image.extent(&inode).unwrap() {
                None => vec![0; inode.size as usize],
                Some(extent) => {
                    devices[extent.device.index()][extent.offset() as usize..][..inode.size as usize].to_vec()
                }
            }),
            FileType::Symlink => What::Symlink(image.read_link(&inode).unwrap()),
            FileType::CharDevice => What::CharDevice(inode.rdev),
        };
        let same_as = first_paths.entry(inode.nid).or_insert(path.clone()).clone();
        let xattrs = image.xattrs(&inode).unwrap();
        for (namespace, name, value) in &xattrs {
            assert_eq!(image.xattr(&inode, *namespace, name).unwrap().as_ref(), Some(value));
        }
        let seen = Seen {
            what,
            mode: inode.mode,
            owner: (inode.uid, inode.gid),
            mtime: inode.mtime,
            nlink: inode.nlink,
            same_as,
            xattrs,
        };
        assert_eq!(view.insert(path, seen), None, "walk gives each path once");
    }
    fix_first_paths(&mut view);
    for (path, directory) in &listings {
        for entry in image.read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            assert!(view.contains_key(&super::join(path, &entry.name)));
            assert_eq!(image.lookup(directory, &entry.name).unwrap(), Some(entry.nid));
            let mut absent = entry.name.clone();
            absent.push(b' ');
            let present = view.contains_key(&super::join(path, &absent));
            assert_eq!(image.lookup(directory, &absent).unwrap().is_some(), present);
        }
        // No generated name has this length and these bytes.
        assert_eq!(image.lookup(directory, &[0xff; 40]).unwrap(), None);
        assert_eq!(image.lookup(directory, &[1; 40]).unwrap(), None);
    }
    view
}

/// Walks go depth first, views sort whole paths: so the first of several names may differ.
fn fix_first_paths(view: &mut View) {
    let mut smallest: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (path, seen) in view.iter() {
        smallest.entry(seen.same_as.clone()).or_insert(path.clone());
    }
    for seen in view.values_mut() {
        seen.same_as = smallest[&seen.same_as].clone();
    }
}
