//! Measures building the index of a layer of 70,000 entries, and walking it. `cargo bench -p erofs-index`.
//!
//! Prints the best of several runs. The index may cost an import 0.2 s at most; the rest of an import is not
//! this crate's.

#![allow(clippy::unwrap_used, reason = "a failing benchmark may panic")]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use erofs_index::{
    Cached, Extent, Image, ImageBuilder, Inode, InodeId, Kind, Namespace, Options, ReadAt, XattrSetId,
};

const ENTRIES: u32 = 70_000;
/// As in `WinSxS`.
const LARGE_DIRECTORY: u32 = 13_000;

fn main() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let build = best(|| {
        build_and_write(file.reopen().unwrap());
    });
    let in_memory = best(|| {
        build_and_write(std::io::sink());
    });
    let walk_file = best(|| walk(&Image::open(File::open(file.path()).unwrap()).unwrap()));
    let walk_cached =
        best(|| walk(&Image::open(Cached::new(File::open(file.path()).unwrap()).unwrap()).unwrap()));
    let bytes = std::fs::read(file.path()).unwrap();
    let walk_memory = best(|| walk(&Image::open(&bytes[..]).unwrap()));
    println!("{ENTRIES} entries, {} bytes", bytes.len());
    println!("build and write to a file  {build:>10.1?}");
    println!("build and write to nowhere {in_memory:>10.1?}");
    println!("walk a file                {walk_file:>10.1?}");
    println!("walk a cached file         {walk_cached:>10.1?}");
    println!("walk bytes in memory       {walk_memory:>10.1?}");
}

fn best(mut run: impl FnMut()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..7).map(time).min().unwrap()
}

fn build_and_write<W: Write>(writer: W) {
    let mut builder = ImageBuilder::new(Options::default());
    let device = builder.add_device(u64::from(ENTRIES) * 4).unwrap();
    let large = add(&mut builder, InodeId::ROOT, "WinSxS", Kind::Directory, 0);
    let mut small = large;
    for number in 0..ENTRIES {
        let mixed = number.wrapping_mul(0x9e37_79b1);
        let name = format!("amd64_microsoft-windows-{mixed:08x}_31bf3856ad364e35_{number}");
        if number < LARGE_DIRECTORY {
            small = add(&mut builder, large, &name, Kind::Directory, number);
        } else {
            let extent = Some(Extent { device, block: u64::from(number) * 4 });
            if number % 5 == 0 {
                small = InodeId::ROOT;
            }
            add(&mut builder, small, &name, Kind::File { extent, size: 1500 }, number);
        }
    }
    builder.write(writer).unwrap();
}

fn add(builder: &mut ImageBuilder, directory: InodeId, name: &str, kind: Kind, number: u32) -> InodeId {
    let time = (133_000_000_000_000_000 + u64::from(number) * 77).to_string();
    let (origin, descriptor) = (format!("3:{}", u64::from(number) * 2048), [(number % 40) as u8; 120]);
    let xattrs: XattrSetId = builder
        .xattr_set(&[
            (Namespace::User, b"DOSATTRIB", b"0x20"),
            (Namespace::User, b"win32.sd", &descriptor),
            (Namespace::User, b"win32.crtime", time.as_bytes()),
            (Namespace::User, b"win32.atime", time.as_bytes()),
            (Namespace::User, b"win32.origin", origin.as_bytes()),
        ])
        .unwrap();
    let inode = Inode { kind, mode: 0o644, uid: 0, gid: 0, mtime: (i64::from(number), 0), xattrs };
    let inode = builder.add_inode(inode).unwrap();
    builder.link(directory, name.as_bytes(), inode).unwrap();
    inode
}

fn walk<S: ReadAt>(image: &Image<S>) {
    let mut names = 0;
    for entry in image.walk() {
        let inode = entry.unwrap().inode;
        names += image.xattrs(&inode).unwrap().len().min(1);
    }
    assert_eq!(names, ENTRIES as usize + 1);
}
