//! The writer's guarantees: it refuses trees that cannot be read back, and the same calls give the same
//! bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io;

use common::{random, reader};
use erofs_index::{
    BuildError, DeviceId, Extent, Image, ImageBuilder, Inode, InodeId, Kind, Namespace, Options, XattrSetId,
};
use proptest::prelude::*;

fn builder() -> ImageBuilder {
    ImageBuilder::new(Options::default())
}

fn inode(kind: Kind) -> Inode {
    Inode { kind, mode: 0o644, uid: 0, gid: 0, mtime: (0, 0), xattrs: XattrSetId::EMPTY }
}

fn empty_file() -> Inode {
    inode(Kind::File { extent: None, size: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_calls_give_the_same_bytes_and_the_reader_sees_the_model(model in random::models()) {
        let bytes = model.image();
        prop_assert_eq!(&bytes, &model.image());
        let view = reader::view(&Image::open(bytes).unwrap(), &model.devices);
        common::assert_same_view(&model.view(), &view, "reader");
    }
}

#[test]
fn equal_attribute_sets_are_one_whatever_their_order() {
    let mut builder = builder();
    let (a, b) = ((Namespace::User, &b"a"[..], &b"1"[..]), (Namespace::Trusted, &b"a"[..], &b"2"[..]));
    let set = builder.xattr_set(&[a, b]).unwrap();
    assert_eq!(builder.xattr_set(&[b, a]).unwrap(), set);
    assert_ne!(builder.xattr_set(&[a]).unwrap(), set);
    assert_eq!(builder.xattr_set(&[]).unwrap(), XattrSetId::EMPTY);
}

#[test]
fn a_value_of_many_inodes_is_stored_once() {
    let mut builder = builder();
    let descriptor = [7; 300];
    for number in 0..1000_u32 {
        let origin = number.to_le_bytes();
        let attributes =
            [(Namespace::User, &b"sd"[..], &descriptor[..]), (Namespace::User, b"origin", &origin)];
        let xattrs = builder.xattr_set(&attributes).unwrap();
        let file = builder.add_inode(Inode { xattrs, ..empty_file() }).unwrap();
        builder.link(InodeId::ROOT, format!("{number}").as_bytes(), file).unwrap();
    }
    let summary = builder.write(io::sink()).unwrap();
    assert_eq!(summary.shared_xattr_bytes, 4 + 2 + 300 + 2);
    assert_eq!((summary.inodes, summary.names), (1001, 1000));
    assert!(summary.bytes < 1000 * 140, "{summary:?}");
}

/// The error of a refused call.
fn refusal<T: std::fmt::Debug>(call: impl FnOnce(&mut ImageBuilder) -> Result<T, BuildError>) -> String {
    call(&mut builder()).unwrap_err().to_string()
}

#[test]
fn names_that_no_directory_can_have_are_refused() {
    let link = |name: &[u8]| {
        refusal(|builder| {
            let file = builder.add_inode(empty_file())?;
            builder.link(InodeId::ROOT, name, file)
        })
    };
    assert_eq!(link(b""), r#"name "" has 0 bytes, 1 to 255 allowed"#);
    assert!(link(&[b'x'; 256]).ends_with("has 256 bytes, 1 to 255 allowed"));
    for name in [&b"."[..], b"..", b"a/b", b"a\0"] {
        assert!(link(name).contains("it is `.` or `..`, or contains `/` or NUL"), "{name:?}");
    }
}

#[test]
fn a_tree_that_is_none_is_refused() {
    let directory = || inode(Kind::Directory);
    let twice = refusal(|builder| {
        let folder = builder.add_inode(directory())?;
        builder.link(InodeId::ROOT, b"a", folder)?;
        builder.link(InodeId::ROOT, b"b", folder)
    });
    assert_eq!(twice, r#"cannot link directory InodeId(1) as "b": it is the root or has a name already"#);
    let root = refusal(|builder| builder.link(InodeId::ROOT, b"a", InodeId::ROOT));
    assert_eq!(root, r#"cannot link directory InodeId(0) as "a": it is the root or has a name already"#);
    let file = refusal(|builder| {
        let file = builder.add_inode(empty_file())?;
        builder.link(file, b"a", file)
    });
    assert_eq!(file, r#"cannot put "a" into inode InodeId(1), which is not a directory"#);
    assert_eq!(refusal(|builder| builder.set_root(empty_file())), "the root must be a directory");
    let unknown = refusal(|builder| {
        let foreign = self::builder().add_inode(empty_file())?;
        builder.link(InodeId::ROOT, b"a", foreign)
    });
    assert_eq!(unknown, "inode InodeId(1) is unknown, this image has 1");
}

#[test]
fn writing_refuses_names_given_twice_and_inodes_without_a_path() {
    let mut twice = builder();
    let folder = twice.add_inode(inode(Kind::Directory)).unwrap();
    twice.link(InodeId::ROOT, b"folder", folder).unwrap();
    for _ in 0..2 {
        let file = twice.add_inode(empty_file()).unwrap();
        twice.link(folder, b"same", file).unwrap();
    }
    let error = twice.write(io::sink()).unwrap_err();
    assert_eq!(error.to_string(), r#"directory "folder" has two entries named "same""#);

    let mut lonely = builder();
    lonely.add_inode(empty_file()).unwrap();
    let error = lonely.write(io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "inode InodeId(1) cannot be reached from the root");

    let mut ring = builder();
    let (a, b) =
        (ring.add_inode(inode(Kind::Directory)).unwrap(), ring.add_inode(inode(Kind::Directory)).unwrap());
    ring.link(a, b"b", b).unwrap();
    ring.link(b, b"a", a).unwrap();
    let error = ring.write(io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "inode InodeId(1) cannot be reached from the root");
}

#[test]
fn a_name_twice_within_a_ring_of_directories_is_refused_too() {
    let mut ring = builder();
    let (a, b) =
        (ring.add_inode(inode(Kind::Directory)).unwrap(), ring.add_inode(inode(Kind::Directory)).unwrap());
    ring.link(a, b"b", b).unwrap();
    ring.link(b, b"a", a).unwrap();
    for _ in 0..2 {
        let file = ring.add_inode(empty_file()).unwrap();
        ring.link(a, b"same", file).unwrap();
    }
    assert!(matches!(ring.write(io::sink()), Err(BuildError::NameTwice { name, .. }) if name == "same"));
}

#[test]
fn data_that_no_device_holds_is_refused() {
    let file =
        |device: DeviceId, block, size| inode(Kind::File { extent: Some(Extent { device, block }), size });
    let add = |block, size| {
        refusal(|builder| {
            let device = builder.add_device(10)?;
            builder.add_inode(file(device, block, size))
        })
    };
    assert_eq!(add(9, 513), "513 bytes from block 9 on leave device DeviceId(1), which has 10 blocks");
    assert_eq!(
        add(u64::MAX, 1),
        format!("1 bytes from block {} on leave device DeviceId(1), which has 10 blocks", u64::MAX)
    );
    assert_eq!(add(0, 1 << 41), "file of 2199023255552 bytes is too large, at most 2199023255040 allowed");
    let foreign = refusal(|builder| {
        let device = self::builder().add_device(10)?;
        builder.add_inode(file(device, 0, 1))
    });
    assert_eq!(foreign, "device DeviceId(1) is unknown, this image has 0");
    let large = refusal(|builder| builder.add_device(1 << 32));
    assert_eq!(large, "device has 4294967296 blocks of 512 bytes, at most 4294967295 allowed");
    let many = refusal(|builder| (0..=16_370).try_for_each(|_| builder.add_device(1).map(|_| ())));
    assert_eq!(many, "an image can have at most 16370 devices");
    let tag = refusal(|builder| builder.add_tagged_device(1, &[b't'; 65]));
    assert!(tag.ends_with("has 65 bytes, at most 64 allowed"), "{tag}");
}

#[test]
fn an_image_with_every_device_it_can_have_is_read() {
    let mut builder = builder();
    let mut last = None;
    for number in 0..16_370 {
        last = Some(builder.add_tagged_device(number + 1, format!("{number}").as_bytes()).unwrap());
    }
    let extent = Some(Extent { device: last.unwrap(), block: 9 });
    let file = builder.add_inode(inode(Kind::File { extent, size: 5 })).unwrap();
    builder.link(InodeId::ROOT, b"f", file).unwrap();
    let mut bytes = Vec::new();
    builder.write(&mut bytes).unwrap();
    let image = Image::open(bytes).unwrap();
    assert_eq!(image.devices().len(), 16_370);
    assert_eq!((image.devices()[99].blocks, image.devices()[99].tag()), (100, &b"99"[..]));
    let root = image.inode(image.root()).unwrap();
    let file = image.inode(image.lookup(&root, b"f").unwrap().unwrap()).unwrap();
    assert_eq!(image.extent(&file).unwrap(), extent);
}

#[test]
fn metadata_that_linux_cannot_show_is_refused() {
    let add = |inode: Inode| refusal(|builder| builder.add_inode(inode));
    assert_eq!(
        add(Inode { mode: 0o10_000, ..empty_file() }),
        "mode 0o10000 has bits besides permissions (0o7777)"
    );
    let nanos = Inode { mtime: (0, 1_000_000_000), ..empty_file() };
    assert_eq!(add(nanos), "time has 1000000000 nanoseconds, fewer than 1000000000 allowed");
    let link = |target: &[u8]| add(inode(Kind::Symlink(target.to_vec())));
    assert_eq!(link(b""), r#"symbolic link target "" has 0 bytes, 1 to 4095 allowed"#);
    assert!(link(&[b'x'; 4096]).ends_with("has 4096 bytes, 1 to 4095 allowed"));
    assert_eq!(link(b"a\0"), r#"symbolic link target "a\0" contains a NUL"#);
}

#[test]
fn attributes_that_linux_or_the_format_cannot_hold_are_refused() {
    let set =
        |name: &[u8], value: &[u8]| refusal(|builder| builder.xattr_set(&[(Namespace::User, name, value)]));
    assert_eq!(set(b"", b""), r#"attribute user."" has a name of 5 bytes, 6 to 255 allowed"#);
    assert!(set(&[b'x'; 251], b"").ends_with("has a name of 256 bytes, 6 to 255 allowed"));
    assert_eq!(set(b"a\0", b""), r#"attribute user."a\0" has a NUL in its name"#);
    assert_eq!(
        set(b"a", &[0; 65_536]),
        r#"attribute user."a" has a value of 65536 bytes, at most 65535 allowed"#
    );
    let twice = refusal(|b| b.xattr_set(&[(Namespace::User, b"a", b"1"), (Namespace::User, b"a", b"2")]));
    assert_eq!(twice, r#"attribute user."a" is given twice"#);

    let names: Vec<_> =
        (0..300_u16).map(|n| [vec![b'n'; 240], format!("{n:03}").into_bytes()].concat()).collect();
    let long: Vec<_> = names.iter().map(|name| (Namespace::User, &name[..], &b""[..])).collect();
    let list = refusal(|builder| builder.xattr_set(&long));
    assert_eq!(list, "300 attribute names take 74700 bytes, at most 65536 allowed");
    // Of 262 large ones, 255 go to the shared area.
    let value = [0; 65_535];
    let names: Vec<_> = (0..262_u16).map(|n| format!("{n:03}").into_bytes()).collect();
    let large: Vec<_> = names.iter().map(|name| (Namespace::User, &name[..], &value[..])).collect();
    let sum = refusal(|builder| builder.xattr_set(&large));
    assert_eq!(sum, "262 attributes take 459840 bytes beside their inode, at most 262148 allowed");
    let unknown = refusal(|builder| {
        let xattrs = self::builder().xattr_set(&[(Namespace::User, b"a", b"")])?;
        builder.add_inode(Inode { xattrs, ..empty_file() })
    });
    assert_eq!(unknown, "attribute set 1 is unknown, this image has 1");
}

/// A call that fails leaves the builder as it was.
#[test]
fn refused_calls_leave_no_trace() {
    let fill = |builder: &mut ImageBuilder, with_failures: bool| {
        let file = builder.add_inode(empty_file()).unwrap();
        if with_failures {
            builder.add_inode(inode(Kind::Symlink(Vec::new()))).unwrap_err();
            builder.add_inode(Inode { mode: 0xffff, ..empty_file() }).unwrap_err();
            builder.link(InodeId::ROOT, b"a/b", file).unwrap_err();
            builder.link(file, b"name", file).unwrap_err();
            builder.xattr_set(&[(Namespace::User, b"ok", b"1"), (Namespace::User, b"", b"")]).unwrap_err();
            builder.set_root(empty_file()).unwrap_err();
            builder.add_device(u64::MAX).unwrap_err();
        }
        builder.link(InodeId::ROOT, b"name", file).unwrap();
    };
    let (mut plain, mut tried) = (builder(), builder());
    fill(&mut plain, false);
    fill(&mut tried, true);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    plain.write(&mut one).unwrap();
    tried.write(&mut other).unwrap();
    assert_eq!(one, other);
}

/// A disk that is full after some bytes.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.0);
        self.0 -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_reported() {
    let mut builder = builder();
    for number in 0..5000 {
        let file = builder.add_inode(empty_file()).unwrap();
        builder.link(InodeId::ROOT, format!("{number}").as_bytes(), file).unwrap();
    }
    let error = builder.write(Full(300_000)).unwrap_err();
    assert!(
        matches!(&error, BuildError::Write { offset: 262_144.., source } if source.kind() == io::ErrorKind::StorageFull)
    );
}

/// Indexes are compared and checksummed: if this fails, the same layer gives other bytes than before. If that
/// is intended, say so in the changelog and put the new numbers here.
#[test]
fn the_bytes_of_an_image_are_those_of_the_last_release() {
    let mut builder = ImageBuilder::new(Options { uuid: [7; 16], build_time: (1_700_000_000, 1) });
    let device = builder.add_tagged_device(100, b"tag").unwrap();
    let attributes =
        [(Namespace::User, &b"DOSATTRIB"[..], &b"0x20"[..]), (Namespace::Trusted, b"large", &[1; 600])];
    let xattrs = builder.xattr_set(&attributes).unwrap();
    builder.set_root(Inode { xattrs, mtime: (-1, 5), ..inode(Kind::Directory) }).unwrap();
    let mut folder = InodeId::ROOT;
    for number in 0..60_u32 {
        let kind = match number % 5 {
            0 => Kind::Directory,
            1 => Kind::Symlink(vec![b'x'; number as usize * 20]),
            2 => Kind::WHITEOUT,
            _ => Kind::File {
                extent: Some(Extent { device, block: number.into() }),
                size: u64::from(number) * 300,
            },
        };
        let is_directory = kind == Kind::Directory;
        let child = builder.add_inode(Inode { uid: number, gid: 3, ..inode(kind) }).unwrap();
        builder.link(folder, format!("name {number}").as_bytes(), child).unwrap();
        if is_directory {
            folder = child;
        } else {
            builder.link(InodeId::ROOT, format!("hard link {number}").as_bytes(), child).unwrap();
        }
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes).unwrap();
    assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (19_968, 878_698_262));
}
