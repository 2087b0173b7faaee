//! Damaged images: the reader reports the problem, and neither panics nor loops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::model::{Content, Model, Node, device};
use common::random;
use erofs_index::{FileType, Image, InodeInfo, Namespace, Nid, ReadAt, ReadError};
use proptest::prelude::*;

const SUPERBLOCK: usize = 1024;

/// Reads as much of an image as possible, and returns the number of names.
fn read_everything<S: ReadAt>(image: &Image<S>) -> usize {
    let mut names = 0;
    for entry in image.walk() {
        let Ok(entry) = entry else { break };
        names += 1;
        read_inode(image, &entry.inode);
    }
    for nid in 0..image.size() / 32 + 2 {
        if let Ok(inode) = image.inode(Nid(nid)) {
            read_inode(image, &inode);
        }
    }
    names
}

fn read_inode<S: ReadAt>(image: &Image<S>, inode: &InodeInfo) {
    let _ = image.xattrs(inode);
    let _ = image.xattr(inode, Namespace::User, b"a");
    let _ = image.read_link(inode);
    let _ = image.extent(inode);
    let _ = image.lookup(inode, b"a");
    let _ = image.lookup(inode, b"\xff");
    if let Ok(entries) = image.read_dir(inode) {
        for entry in entries {
            let Ok(entry) = entry else { break };
            assert!((1..=255).contains(&entry.name.len()));
            // A block with a damaged order may hide the name from a search, but that alone is not an error.
            let _ = image.lookup(inode, &entry.name);
        }
    }
}

/// Corrects the superblock's checksum, so that the reader goes on to the rest.
fn seal(bytes: &mut [u8]) {
    bytes[SUPERBLOCK + 4..][..4].fill(0);
    let checksum = !crc32c::crc32c(&bytes[SUPERBLOCK..][..512]);
    bytes[SUPERBLOCK + 4..][..4].copy_from_slice(&checksum.to_le_bytes());
}

#[derive(Clone, Debug)]
enum Damage {
    Byte(prop::sample::Index, u8),
    Word(prop::sample::Index, u32),
    Copy(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    let word = prop_oneof![any::<u32>(), Just(0), Just(u32::MAX), 0..600_u32];
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (place(), word).prop_map(|(at, word)| Damage::Word(at, word)),
        (place(), place()).prop_map(|(from, to)| Damage::Copy(from, to)),
    ]
}

fn spoil(bytes: &mut [u8], damage: &Damage) {
    // The first 1,024 bytes are unused.
    let slots = (bytes.len() - SUPERBLOCK) / 4;
    let place = |index: &prop::sample::Index| SUPERBLOCK + 4 * index.index(slots);
    match damage {
        Damage::Byte(at, byte) => bytes[SUPERBLOCK + at.index(4 * slots)] = *byte,
        Damage::Word(at, word) => bytes[place(at)..][..4].copy_from_slice(&word.to_le_bytes()),
        Damage::Copy(from, to) => {
            let (from, to) = (place(from), place(to));
            let length = 64.min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + length, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spoiled_image_gives_errors_at_worst(
        model in random::models(),
        damages in prop::collection::vec(damage(), 1..12),
        sealed in prop::bool::weighted(0.9),
    ) {
        let mut bytes = model.image();
        for damage in &damages {
            spoil(&mut bytes, damage);
        }
        if sealed {
            seal(&mut bytes);
        }
        if let Ok(image) = Image::open(&bytes[..]) {
            let names = read_everything(&image);
            prop_assert!(names <= bytes.len() / 13, "{names} names in {} bytes", bytes.len());
        }
    }

    #[test]
    fn bytes_of_any_kind_behind_a_superblock_give_errors_at_worst(
        mut bytes in prop::collection::vec(any::<u8>(), 4096),
        words in prop::collection::vec((0..1024_usize, 0..64_u32), 0..300),
    ) {
        for (slot, word) in words {
            bytes[4 * slot..][..4].copy_from_slice(&word.to_le_bytes());
        }
        let head = Model::new(Vec::new()).image();
        bytes[SUPERBLOCK..][..128].copy_from_slice(&head[SUPERBLOCK..][..128]);
        bytes[SUPERBLOCK + 36..][..4].copy_from_slice(&8_u32.to_le_bytes());
        seal(&mut bytes);
        read_everything(&Image::open(&bytes[..]).unwrap());
    }

    #[test]
    fn a_shortened_image_is_refused_when_it_is_opened(model in random::models(), end in any::<prop::sample::Index>()) {
        let bytes = model.image();
        let end = end.index(bytes.len());
        let refused = matches!(Image::open(&bytes[..end]), Err(ReadError::BeyondEnd { .. }));
        prop_assert!(refused);
    }
}

/// A tree with one of everything, as image and model.
fn small() -> (Vec<u8>, Model) {
    let mut model = Model::new(vec![device(3, 4)]);
    let folder = model.add(0, b"folder", Node::directory());
    model.add(folder, b"below", Node::directory());
    model.add(0, b"file", Node::new(Content::File(Some((0, 1)), 1000)));
    model.add(0, b"link", Node::new(Content::Symlink(b"file".to_vec())));
    let xattrs = vec![(Namespace::User, b"name".to_vec(), b"value".to_vec())];
    model.add(0, b"with attribute", Node { xattrs, ..Node::new(Content::File(None, 0)) });
    (model.image(), model)
}

/// The image after `change`, opened, and the inode of `path` in it.
fn changed(path: &[u8], change: impl FnOnce(&mut [u8], usize)) -> (Image<Vec<u8>>, Nid) {
    let (mut bytes, _) = small();
    let nid = {
        let image = Image::open(&bytes[..]).unwrap();
        path.split(|&byte| byte == b'/').fold(image.root(), |directory, name| {
            image.lookup(&image.inode(directory).unwrap(), name).unwrap().unwrap()
        })
    };
    change(&mut bytes, nid.0 as usize * 32);
    seal(&mut bytes);
    (Image::open(bytes).unwrap(), nid)
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).rposition(|window| window == text).unwrap()
}

#[test]
fn a_directory_below_itself_is_named_and_ends_the_walk() {
    let (image, _) = changed(b"folder/below", |bytes, below| {
        // The only entry that points at it now points at the root.
        let nid = (below as u64 / 32).to_le_bytes();
        let folder = find(bytes, &nid);
        let folder = bytes[..folder].windows(8).rposition(|window| window == nid).unwrap_or(folder);
        bytes[folder..][..8].copy_from_slice(&48_u64.to_le_bytes());
    });
    let mut walk = image.walk();
    let error = walk.find_map(Result::err).unwrap();
    assert!(
        matches!(&error, ReadError::DirectoryTwice { nid: Nid(48), path } if path == "folder/below"),
        "{error}"
    );
    assert!(walk.next().is_none(), "a walk ends with its first error");
}

/// The error for the inode at `path` after writing `bytes` at `offset` from its start.
fn complaint(path: &[u8], offset: usize, bytes: &[u8]) -> String {
    let (image, nid) =
        changed(path, |image, inode| image[inode + offset..][..bytes.len()].copy_from_slice(bytes));
    let read = |inode: InodeInfo| {
        image.xattrs(&inode)?;
        match inode.kind {
            FileType::Regular => image.extent(&inode).map(|_| ()),
            FileType::Symlink => image.read_link(&inode).map(|_| ()),
            _ => image.read_dir(&inode)?.try_for_each(|entry| entry.map(|_| ())),
        }
    };
    let error = image.inode(nid).and_then(read).unwrap_err();
    error.to_string().replace(&format!("inode {nid} "), "it ").replace(&format!("directory {nid},"), "it,")
}

#[test]
fn spoiled_inodes_are_named_with_their_values() {
    let file = |offset, bytes: &[u8]| complaint(b"file", offset, bytes);
    assert_eq!(file(0, &[8]), "it has a 32-byte form: format 0x8, which is not supported here");
    assert_eq!(file(0, &[7]), "it has data layout 0x3, which is not supported here");
    assert_eq!(file(0, &[1]), "it has data layout 0x0, which is not supported here");
    assert_eq!(file(4, &[0, 0x60]), "it has file type and mode 0x6000, which is not supported here");
    assert_eq!(file(16, &[0x41]), "it has chunk format 0x41, which is not supported here");
    assert_eq!(file(40, &[0xff; 4]), "it has nanoseconds 0xffffffff, at most 0x3b9ac9ff allowed");
    assert_eq!(file(15, &[0x80]), "it has size 0x80000000000003e8, at most 0x7fffffffffffffff allowed");
    assert_eq!(complaint(b"link", 8, &[0, 16]), "it has size 0x1000, at most 0xfff allowed");
    let limit = small().0.len();
    assert_eq!(complaint(b"folder", 10, &[1]), format!("it has size 0x1002c, at most {limit:#x} allowed"));
    let inline = complaint(b"folder", 8, &[0xf0, 1]);
    assert!(inline.starts_with("it has end of its inline data within a block 0x"), "{inline}");
    assert!(inline.ends_with(", at most 0x200 allowed"), "{inline}");
}

#[test]
fn spoiled_chunk_indexes_are_named_with_their_values() {
    let index = |bytes: &[u8]| complaint(b"file", 64, bytes);
    assert_eq!(index(&[1, 0]), "it has block number above 32 bits 0x1, which is not supported here");
    assert_eq!(index(&[0, 0, 2, 0]), "data of it is on device 2, the image has 1 to 1");
    assert_eq!(index(&[0, 0, 0, 0]), "data of it is on device 0, the image has 1 to 1");
    assert_eq!(
        index(&[0, 0, 1, 0, 3, 0, 0, 0]),
        "1000 bytes of it from block 3 on leave device 1, which has 4 blocks"
    );
    let many = complaint(b"file", 8, &[0, 0, 0, 0, 1]);
    assert_eq!(many, "it has a number of chunks 0x400000, which is not supported here");
    let two_chunks = complaint(b"file", 16, &[0x20]);
    assert!(two_chunks.starts_with("chunk 1 of it is at block "), "{two_chunks}");
}

#[test]
fn spoiled_attributes_are_named_with_their_values() {
    let xattrs = |offset, bytes: &[u8]| {
        let text = complaint(b"with attribute", offset, bytes);
        let (before, after) = text.split_once(" at offset ").unwrap_or(("", &text));
        format!("{before} {}", after.split_once(": ").map_or(after, |(_, rest)| rest))
    };
    // Behind the inode: header of 12 bytes, entry of 4, name, value.
    assert_eq!(xattrs(68, &[9]), "attributes of it length of shared identifiers is 36, limit 16");
    assert_eq!(xattrs(76, &[99]), "attributes of it length of a name is 99, limit 12");
    assert_eq!(xattrs(78, &[99]), "attributes of it length of a value is 99, limit 8");
    assert_eq!(xattrs(80, &[0]), "attributes of it length of a name without NUL is 0, limit 4");
    assert_eq!(xattrs(77, &[2]), " it has an attribute of namespace 0x2, which is not supported here");
    let too_long = complaint(b"with attribute", 2, &[0xff, 0xff]);
    assert!(too_long.starts_with("list of attributes at offset 0x"), "{too_long}");
    assert!(too_long.contains(" takes 262148 bytes and leaves the image, which has "), "{too_long}");
}

#[test]
fn spoiled_directories_are_named_with_their_values() {
    // Behind the inode: entries of 12 bytes for `.`, `..` and `below`, then the names.
    let folder = |offset: usize, bytes: &[u8]| complaint(b"folder", 64 + offset, bytes);
    assert_eq!(folder(8, &[13]), "it, block 0, entry 0: offset of the first name is 0xd, limit 0x2c");
    assert_eq!(folder(8, &[0x30]), "it, block 0, entry 0: offset of the first name is 0x30, limit 0x2c");
    assert_eq!(folder(20, &[0xff]), "it, block 0, entry 0: offset of its name is 0x24, limit 0xff");
    assert_eq!(folder(20, &[0x24]), "it, block 0, entry 0: length of its name is 0x0, limit 0xff");
    assert_eq!(folder(34, &[9]), "it, block 0, entry 2: file type is 0x9, limit 0x7");
    assert_eq!(folder(36, b"/"), "it, block 0, entry 0: name \"/\" contains `/` or NUL");
    assert_eq!(folder(39, b"-"), "it, block 0, entry 2: name \"-elow\" does not come behind the name before");
}

#[test]
fn other_file_systems_and_features_are_refused_by_name() {
    let open = |offset: usize, value: u8, seal_it: bool| {
        let (mut bytes, _) = small();
        bytes[SUPERBLOCK + offset] = value;
        if seal_it {
            seal(&mut bytes);
        }
        Image::open(bytes).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(open(0, 0, true), "not an EROFS image: magic number 0xe0f5e100 instead of 0xe0f5e1e2");
    assert_eq!(open(12, 12, true), "EROFS image with block size bits 0xc, only 0x9 is supported");
    assert_eq!(open(80, 0x8c, true), "EROFS image with incompatible features 0x8c, only 0xc is supported");
    assert!(open(48, 1, false).starts_with("superblock has checksum 0x"));
    assert_eq!(
        Image::open(Vec::new()).unwrap_err().to_string(),
        "superblock at offset 0x400 takes 512 bytes and leaves the image, which has 0"
    );
}

#[test]
fn deeper_trees_than_any_path_end_with_an_error() {
    let mut model = Model::new(Vec::new());
    let mut directory = 0;
    for _ in 0..20_000 {
        directory = model.add(directory, b"d", Node::directory());
    }
    let image = Image::open(model.image()).unwrap();
    let mut walk = image.walk();
    let error = walk.find_map(Result::err).unwrap();
    assert!(matches!(error, ReadError::TooDeep { limit: 16_384, .. }), "{error}");
}
