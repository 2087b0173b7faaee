//! The reader's guarantees, besides reading back what was written.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::File;

use common::model::{Content, Model, Node, device};
use erofs_index::{Cached, FileType, Image, ReadAt, ReadError};

fn model() -> Model {
    let mut model = Model::new(vec![device(1, 4), device(2, 6)]);
    for (name, below) in [(&b"b"[..], &b"deep"[..]), (b"a", b"c"), (b"a b", b"z")] {
        let folder = model.add(0, name, Node::directory());
        let file = model.add(folder, below, Node::new(Content::File(Some((1, 2)), 600)));
        model.link(folder, b"again", file);
    }
    model
}

fn paths<S: ReadAt>(image: &Image<S>) -> Vec<String> {
    let mut walk = image.walk();
    let mut paths = Vec::new();
    while let Some(entry) = walk.next() {
        let entry = entry.unwrap();
        paths.push(String::from_utf8(walk.path().to_vec()).unwrap());
        assert_eq!(entry.depth, paths.last().unwrap().split('/').filter(|part| !part.is_empty()).count());
        assert!(paths.last().unwrap().as_bytes().ends_with(&entry.name));
    }
    paths
}

#[test]
fn a_walk_goes_depth_first_by_name() {
    let image = Image::open(model().image()).unwrap();
    let all = ["", "a", "a/again", "a/c", "a b", "a b/again", "a b/z", "b", "b/again", "b/deep"];
    assert_eq!(paths(&image), all);
}

#[test]
fn an_image_says_what_its_writer_said_about_it() {
    let image = Image::open(model().image()).unwrap();
    assert_eq!(image.uuid(), *b"0123456789abcdef");
    assert_eq!(image.build_time(), (1_700_000_000, 5));
    assert_eq!(image.inode_count(), 7);
    let devices: Vec<_> = image.devices().iter().map(|device| (device.id.number(), device.blocks)).collect();
    assert_eq!(devices, [(1, 4), (2, 6)]);
}

#[test]
fn what_follows_an_image_in_its_file_is_not_read() {
    let bytes = model().image();
    let longer = [&bytes[..], &[0xaa; 5000]].concat();
    assert_eq!(Image::open(longer).unwrap().size(), bytes.len() as u64);
}

#[test]
fn calls_for_one_type_of_file_refuse_the_others() {
    let image = Image::open(model().image()).unwrap();
    let root = image.inode(image.root()).unwrap();
    let folder = image.inode(image.lookup(&root, b"a").unwrap().unwrap()).unwrap();
    let file = image.inode(image.lookup(&folder, b"c").unwrap().unwrap()).unwrap();
    let refused = |error: ReadError, actual, expected| {
        let same = matches!(error, ReadError::WrongType { actual: a, expected: e, .. } if (a, e) == (actual, expected));
        assert!(same, "{error}");
    };
    refused(image.read_link(&file).unwrap_err(), FileType::Regular, FileType::Symlink);
    refused(image.extent(&folder).unwrap_err(), FileType::Directory, FileType::Regular);
    refused(image.lookup(&file, b"x").unwrap_err(), FileType::Regular, FileType::Directory);
    refused(image.read_dir(&file).map(|_| ()).unwrap_err(), FileType::Regular, FileType::Directory);
}

#[test]
fn threads_share_a_cached_image() {
    let disk = model().on_disk();
    let image = Image::open(Cached::new(File::open(&disk.image).unwrap()).unwrap()).unwrap();
    std::thread::scope(|scope| {
        let walks: Vec<_> = (0..4).map(|_| scope.spawn(|| paths(&image).len())).collect();
        for walk in walks {
            assert_eq!(walk.join().unwrap(), 10);
        }
    });
}
