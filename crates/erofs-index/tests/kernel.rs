//! The views of the kernel, of our reader and of the crate `erofs-rs` agree with a naive model, and
//! `fsck.erofs` accepts the images. Runs as root.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use common::kernel::Mount;
use common::model::{Content, Model, Node, device};
use common::{assert_fsck_accepts, assert_same_view, other_reader, random, reader};
use erofs_index::{Extent, Image, ImageBuilder, Inode, InodeId, Kind, Namespace, Options, XattrSetId};
use proptest::prelude::*;

/// Checks a model against all views.
fn check(model: &Model) {
    let disk = model.on_disk();
    let expected = model.view();
    assert_same_view(&expected, &reader::view(&Image::open(disk.bytes()).unwrap(), &model.devices), "reader");
    assert_same_view(&expected, &other_reader::view(&disk.bytes(), &model.devices), "erofs-rs");
    assert_fsck_accepts(&disk.image, &disk.devices);
    assert_same_view(&expected, &Mount::new(&disk.image, &disk.devices).view(), "kernel");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_look_the_same_from_every_side(model in random::models()) {
        check(&model);
    }
}

#[test]
fn an_image_with_nothing_but_a_root_is_seen() {
    check(&Model::new(Vec::new()));
}

#[test]
fn files_links_devices_and_attributes_of_two_tars_are_seen() {
    let mut model = Model::new(vec![device(1, 9), device(2, 5)]);
    let folder = model.add(0, b"Files", Node::directory());
    let xattrs = vec![
        (Namespace::User, b"DOSATTRIB".to_vec(), b"0x20".to_vec()),
        (Namespace::Trusted, b"win32.sd".to_vec(), vec![7; 100]),
    ];
    let file = Node {
        xattrs: xattrs.clone(),
        mtime: (-5, 999_999_999),
        ..Node::new(Content::File(Some((0, 2)), 1300))
    };
    let file = model.add(folder, b"a.txt", file);
    model.link(0, b"hard", file);
    model.add(folder, b"b.txt", Node { xattrs, ..Node::new(Content::File(Some((1, 0)), 2560)) });
    model.add(folder, b"empty", Node::new(Content::File(None, 0)));
    model.add(folder, b"hole", Node::new(Content::File(None, 70_000)));
    model.add(folder, b"link", Node::new(Content::Symlink(b"../hard".to_vec())));
    model.add(folder, b"gone", Node::new(Content::CharDevice(0)));
    model.add(folder, b"null", Node::new(Content::CharDevice(0x103)));
    check(&model);
}

/// FILETIME counts from 1601 to 30828; the format stores any 64-bit second.
#[test]
fn times_from_1601_to_30828_and_beyond_survive() {
    let mut model = Model::new(Vec::new());
    let seconds = [-11_644_473_600, -1, 0, 1 << 31, 1 << 32, 1 << 34, 910_692_730_085, i64::MIN, i64::MAX];
    for (number, &second) in seconds.iter().enumerate() {
        let mtime = (second, 999_999_900);
        model.add(0, number.to_string().as_bytes(), Node { mtime, ..Node::new(Content::File(None, 0)) });
    }
    check(&model);
}

/// 44 blocks per 512 names or so: the kernel's binary search crosses many blocks, and finds each name.
#[test]
fn a_directory_of_13000_names_is_listed_and_searched() {
    let mut model = Model::new(Vec::new());
    let folder = model.add(0, b"WinSxS", Node::directory());
    for number in 0..13_000_u32 {
        let mixed = number.wrapping_mul(0x9e37_79b1);
        let name = format!("amd64_microsoft-windows-{mixed:08x}_31bf3856ad364e35_10.0.{number}");
        model.add(folder, name.as_bytes(), Node::new(Content::File(None, 0)));
    }
    check(&model);
}

/// Names before, between and behind `.` and `..`, in every length of the last name of a block.
#[test]
fn names_around_the_dots_and_of_every_length_are_found() {
    let mut model = Model::new(Vec::new());
    for length in 1..=255_usize {
        model.add(0, &vec![b'a'; length], Node::new(Content::File(None, 0)));
        let folder = model.add(0, &vec![b'!'; length], Node::directory());
        model.add(folder, &vec![b'-'; length], Node::new(Content::File(None, 0)));
        model.add(
            folder,
            &[b".".repeat(length.min(254)), vec![b'.', b'x']].concat()[..length.max(3)],
            Node::directory(),
        );
    }
    check(&model);
}

#[test]
fn link_targets_of_every_interesting_length_are_read() {
    let mut model = Model::new(Vec::new());
    let lengths = (1..40).chain(360..520).chain([1023, 1024, 1025, 1536, 4094, 4095]);
    for length in lengths {
        let target: Vec<u8> = (0..length).map(|n| b'a' + (n % 26) as u8).collect();
        let plain = Node::new(Content::Symlink(target));
        model.add(0, format!("{length}").as_bytes(), plain.clone());
        let xattrs = vec![(Namespace::Trusted, b"x".to_vec(), vec![1; length % 90])];
        model.add(0, format!("{length} with attribute").as_bytes(), Node { xattrs, ..plain });
    }
    check(&model);
}

/// 253 large attributes of its own, 50 small shared ones: the list has room for 255 of them, large ones
/// first.
#[test]
fn large_attributes_go_elsewhere_before_small_ones_do() {
    let mut model = Model::new(Vec::new());
    let small: Vec<_> =
        (0..50).map(|n| (Namespace::User, format!("a{n}").into_bytes(), vec![9; n])).collect();
    model.add(0, b"small", Node { xattrs: small.clone(), ..Node::new(Content::File(None, 0)) });
    let large = (0..253_u16).map(|n| (Namespace::User, format!("b{n}").into_bytes(), vec![n as u8; 2000]));
    let all = small.iter().cloned().chain(large).collect();
    model.add(0, b"all", Node { xattrs: all, ..Node::new(Content::File(None, 0)) });
    check(&model);
}

/// More shared attributes than the format's 255 per inode; the others are stored beside the inodes.
#[test]
fn inodes_with_more_than_255_shared_attributes_keep_all() {
    let mut model = Model::new(Vec::new());
    let xattrs: Vec<_> =
        (0..300).map(|n| (Namespace::User, format!("n{n}").into_bytes(), vec![9; n % 7])).collect();
    for name in [b"a", b"b", b"c"] {
        model.add(0, name, Node { xattrs: xattrs.clone(), ..Node::new(Content::File(None, 0)) });
    }
    check(&model);
}

#[test]
fn the_longest_attributes_that_the_format_holds_are_read() {
    let mut model = Model::new(Vec::new());
    let longest = |fill: u8| vec![fill; erofs_index::XATTR_VALUE_MAX];
    let own: Vec<_> = (1..=20_u8).map(|n| (Namespace::User, vec![b'a' + n], longest(n))).collect();
    model.add(0, b"own", Node { xattrs: own, ..Node::new(Content::File(None, 0)) });
    let mut shared = vec![(Namespace::Trusted, vec![b'n'; 255 - 8], longest(9))];
    model.add(0, b"shared", Node { xattrs: shared.clone(), ..Node::directory() });
    shared.push((Namespace::User, b"more".to_vec(), Vec::new()));
    model.add(0, b"shared too", Node { xattrs: shared, ..Node::new(Content::File(None, 0)) });
    check(&model);
}

/// One device more than the longest chain has layers.
#[test]
fn files_on_126_devices_are_read() {
    let mut model = Model::new((0..126).map(|seed| device(seed, 3)).collect());
    for number in 0..126 {
        let file = Node::new(Content::File(Some((number, 1)), 1000));
        model.add(0, format!("layer {number}").as_bytes(), file);
    }
    check(&model);
}

/// A chunk has at most 1 TiB, so that this file takes two; and its blocks end where 32 bits do.
#[test]
fn a_file_above_one_tebibyte_is_read_across_its_chunks() {
    const BLOCKS: u64 = u32::MAX as u64;
    let size = (BLOCKS - 7) * 512 - 3;
    let directory = tempfile::TempDir::new().unwrap();
    let (image_path, device_path) = (directory.path().join("index"), directory.path().join("tar"));
    let tar = fs::File::create_new(&device_path).unwrap();
    tar.set_len(BLOCKS * 512).unwrap();
    let marks = [0, 12345, (1 << 40) - 512, 1 << 40, (1 << 40) + 4096, size - 600];
    for mark in marks {
        tar.write_all_at(format!("at {mark}").as_bytes(), 7 * 512 + mark).unwrap();
    }
    let mut builder = ImageBuilder::new(Options::default());
    let device = builder.add_device(BLOCKS).unwrap();
    let extent = Extent { device, block: 7 };
    let kind = Kind::File { extent: Some(extent), size };
    let inode = Inode { kind, mode: 0o600, uid: 0, gid: 0, mtime: (0, 0), xattrs: XattrSetId::EMPTY };
    let file = builder.add_inode(inode).unwrap();
    builder.link(InodeId::ROOT, b"huge", file).unwrap();
    builder.write(fs::File::create_new(&image_path).unwrap()).unwrap();

    let image = Image::open(fs::File::open(&image_path).unwrap()).unwrap();
    let root = image.inode(image.root()).unwrap();
    let info = image.inode(image.lookup(&root, b"huge").unwrap().unwrap()).unwrap();
    assert_eq!((info.size, image.extent(&info).unwrap()), (size, Some(extent)));

    let mount = Mount::new(&image_path, &[device_path]);
    let huge = fs::File::open(mount.path().join("huge")).unwrap();
    assert_eq!(huge.metadata().unwrap().size(), size);
    for mark in marks {
        let mut found = [0; 32];
        let expected = format!("at {mark}");
        huge.read_exact_at(&mut found, mark).unwrap();
        assert_eq!(&found[..expected.len()], expected.as_bytes());
    }
}

/// Without `device=` the kernel takes the bytes behind the image for its devices.
#[test]
fn an_image_joined_with_its_devices_mounts_without_naming_them() {
    let mut model = Model::new(vec![device(1, 9), device(2, 5)]);
    model.add(0, b"first", Node::new(Content::File(Some((0, 8)), 500)));
    model.add(0, b"second", Node::new(Content::File(Some((1, 1)), 2048)));
    let disk = model.on_disk();
    let joined = [disk.bytes(), model.devices.concat()].concat();
    fs::write(&disk.image, joined).unwrap();
    assert_same_view(&model.view(), &Mount::new(&disk.image, &[]).view(), "kernel");
}
