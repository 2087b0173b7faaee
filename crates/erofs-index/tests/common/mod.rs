//! Shared by the tests: a naive model of a tree, and four views of an image that must agree with it: the
//! reader's, that of the crate `erofs-rs`, the kernel's, and that of `fsck.erofs`.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a part of the tests; every test file uses its share"
)]

#[cfg(target_os = "linux")]
pub mod kernel;
pub mod model;
#[cfg(target_os = "linux")]
pub mod other_reader;
pub mod random;
pub mod reader;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use erofs_index::Namespace;

/// The visible state of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub what: What,
    pub mode: u16,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub nlink: u32,
    /// The first path, in order, that is the same inode.
    pub same_as: Vec<u8>,
    pub xattrs: Vec<(Namespace, Vec<u8>, Vec<u8>)>,
}

/// The type of a path, and its content.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32),
}

impl std::fmt::Debug for What {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory => write!(formatter, "directory"),
            Self::File(bytes) => {
                write!(formatter, "file of {} bytes, CRC {:x}", bytes.len(), crc32c::crc32c(bytes))
            }
            Self::Symlink(target) => write!(formatter, "link to {}", target.escape_ascii()),
            Self::CharDevice(rdev) => write!(formatter, "character device {rdev:#x}"),
        }
    }
}

/// A whole view: from the path without leading `/` (empty for the root) to its state.
pub type View = BTreeMap<Vec<u8>, Seen>;

/// Fails with the first path at which two views differ; whole views are too long to read.
pub fn assert_same_view(expected: &View, actual: &View, whose: &str) {
    for (path, seen) in expected {
        assert_eq!(Some(seen), actual.get(path), "{whose} at {:?}", path.escape_ascii().to_string());
    }
    let more = actual.keys().find(|path| !expected.contains_key(*path));
    assert_eq!(more, None, "{whose} has a path too many");
}

/// Runs `fsck.erofs` (1.9 or later: older ones crash on the checksum of images with 512-byte blocks;
/// `WINDOWSFILTER_FSCK_EROFS` names the program) over an image and its devices, file data included.
pub fn assert_fsck_accepts(image: &Path, devices: &[std::path::PathBuf]) {
    let program = std::env::var_os("WINDOWSFILTER_FSCK_EROFS").unwrap_or_else(|| "fsck.erofs".into());
    let mut command = Command::new(&program);
    command.arg("--extract");
    for device in devices {
        command.arg(format!("--device={}", device.display()));
    }
    let output = command.arg(image).output().unwrap_or_else(|error| {
        panic!(
            "cannot run {}: {error}; install erofs-utils 1.9 or later, or set WINDOWSFILTER_FSCK_EROFS",
            program.display()
        )
    });
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} says {}:\n{text}", output.status);
    assert!(!text.contains("<E>"), "{command:?} found something:\n{text}");
}

/// A path and a name below it.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        [] => name.to_vec(),
        _ => [path, b"/", name].concat(),
    }
}
