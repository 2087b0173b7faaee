//! One million inodes. Alone in its file, so that it runs in a process of its own, whose peak memory it
//! measures.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::{self, File};

use common::assert_fsck_accepts;
use common::kernel::Mount;
use erofs_index::{Cached, Extent, Image, ImageBuilder, Inode, InodeId, Kind, Namespace, Options};

const DIRECTORIES: u32 = 50_000;
const FILES: u32 = 950_000;
/// Limit in bytes above the process's memory before building; the promise is 1 GB for everything.
const MEMORY: u64 = 1_000_000_000;

/// Every inode has the attributes of a Windows file: a shared security descriptor and flags, its own times
/// and origin.
#[test]
fn a_million_inodes_are_written_and_read_within_a_gigabyte_and_the_kernel_lists_them() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let mut builder = ImageBuilder::new(Options::default());
    let device = builder.add_device(u64::from(FILES) * 4).unwrap();
    let mut directories = vec![InodeId::ROOT];
    for number in 1..DIRECTORIES {
        let directory = inode(&mut builder, Kind::Directory, number);
        let directory = builder.add_inode(directory).unwrap();
        let parent = directories[(number / 8) as usize];
        builder.link(parent, format!("directory {number}").as_bytes(), directory).unwrap();
        directories.push(directory);
    }
    for number in 0..FILES {
        let extent = Some(Extent { device, block: u64::from(number) * 4 });
        let file = inode(&mut builder, Kind::File { extent, size: 1500 }, number);
        let file = builder.add_inode(file).unwrap();
        let directory = directories[(number.wrapping_mul(0x9e37_79b1) % DIRECTORIES) as usize];
        let name = format!("amd64_microsoft-windows-{number:07}.manifest");
        builder.link(directory, name.as_bytes(), file).unwrap();
    }
    let summary = builder.write(path.reopen().unwrap()).unwrap();
    assert_eq!(summary.inodes, u64::from(DIRECTORIES + FILES));
    let image = Image::open(Cached::new(File::open(path.path()).unwrap()).unwrap()).unwrap();
    let mut files = 0;
    for entry in image.walk() {
        let inode = entry.unwrap().inode;
        files += u32::from(inode.size == 1500);
    }
    assert_eq!(files, FILES);
    let peak = peak_memory();
    println!("{} bytes of image, {peak} bytes of memory at most", summary.bytes);
    assert!(peak < MEMORY, "{peak} bytes of memory");

    let tar = tempfile::NamedTempFile::new().unwrap();
    tar.as_file().set_len(u64::from(FILES) * 2048).unwrap();
    let devices = [tar.path().to_owned()];
    assert_fsck_accepts(path.path(), &devices);
    assert_eq!(count_files(&Mount::new(path.path(), &devices)), FILES);
}

fn inode(builder: &mut ImageBuilder, kind: Kind, number: u32) -> Inode {
    let time = (133_000_000_000_000_000 + u64::from(number) * 77).to_string();
    let (origin, descriptor) = (format!("3:{}", u64::from(number) * 2048), [(number % 40) as u8; 120]);
    let attributes: [(Namespace, &[u8], &[u8]); 5] = [
        (Namespace::User, b"DOSATTRIB", b"0x20"),
        (Namespace::User, b"win32.sd", &descriptor),
        (Namespace::User, b"win32.crtime", time.as_bytes()),
        (Namespace::User, b"win32.atime", time.as_bytes()),
        (Namespace::User, b"win32.origin", origin.as_bytes()),
    ];
    let xattrs = builder.xattr_set(&attributes).unwrap();
    Inode { kind, mode: 0o644, uid: 0, gid: 0, mtime: (i64::from(number), 0), xattrs }
}

fn count_files(mount: &Mount) -> u32 {
    let mut todo = vec![mount.path()];
    let mut files = 0;
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(entry.path()),
                false => files += 1,
            }
        }
    }
    files
}

/// `VmHWM` of this process.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
