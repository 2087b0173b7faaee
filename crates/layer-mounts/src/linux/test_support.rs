//! Helpers for the tests of this folder: tiny layers to mount, and mounts that end with the test.

use super::mount_table;
use erofs_index::{Extent, ImageBuilder, Inode, InodeId, Kind, Namespace, Options, XattrSetId};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Records nothing of a template.
#[allow(clippy::unnecessary_wraps, reason = "the signature of a recorder")]
pub(crate) fn no_record(_: &Path, _: &File) -> Result<(), super::LinuxError> {
    Ok(())
}

/// A mount point that is unmounted when the test ends, however it ends.
pub(super) struct Mounted(pub(super) PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if mount_table::unmount(&self.0).is_err() {
            let _ = mount_table::detach(&self.0);
        }
    }
}

/// A folder with `count` tars (or at least: files of 512-byte blocks) of one file each, and an index of them
/// all.
pub(super) struct Layers {
    folder: TempDir,
    count: usize,
}

impl Layers {
    pub(super) fn new(count: usize) -> Self {
        Self::new_in(&std::env::temp_dir(), count)
    }

    pub(super) fn new_in(parent: &Path, count: usize) -> Self {
        Self::with(parent, count, |_, _| {})
    }

    /// Calls `more` with the builder and the inode of `Files`, to add the test's own entries.
    pub(super) fn with(parent: &Path, count: usize, more: impl FnOnce(&mut ImageBuilder, InodeId)) -> Self {
        Self::build(parent, count, &[], more)
    }

    fn build(
        parent: &Path,
        count: usize,
        root: &[(Namespace, &[u8], &[u8])],
        more: impl FnOnce(&mut ImageBuilder, InodeId),
    ) -> Self {
        let layers = Self { folder: tempfile::tempdir_in(parent).unwrap(), count };
        let mut builder = ImageBuilder::new(Options::default());
        let root = builder.xattr_set(root).unwrap();
        let files = builder.add_inode(directory(root)).unwrap();
        builder.link(InodeId::ROOT, b"Files", files).unwrap();
        for (number, tar) in layers.tars().iter().enumerate() {
            let text = Self::text(number);
            let file = File::create(tar).unwrap();
            file.write_all_at(&text, 1024).unwrap();
            file.set_len(4096).unwrap();
            let extent = Some(Extent { device: builder.add_device(8).unwrap(), block: 2 });
            let inode = Inode {
                kind: Kind::File { extent, size: text.len() as u64 },
                ..directory(XattrSetId::EMPTY)
            };
            let inode = builder.add_inode(Inode { mode: 0o644, ..inode }).unwrap();
            builder.link(files, format!("layer-{number}.txt").as_bytes(), inode).unwrap();
        }
        more(&mut builder, files);
        builder.write(File::create(layers.index()).unwrap()).unwrap();
        layers
    }

    /// One layer whose `Files` has this attribute.
    pub(super) fn with_root_attribute(name: &[u8], value: &[u8]) -> Self {
        Self::build(&std::env::temp_dir(), 1, &[(Namespace::User, name, value)], |_, _| {})
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn text(number: usize) -> Vec<u8> {
        format!("this is layer {number}\n").into_bytes()
    }

    pub(super) fn index(&self) -> PathBuf {
        self.folder.path().join("index.erofs")
    }

    pub(super) fn tars(&self) -> Vec<PathBuf> {
        (0..self.count).map(|number| self.folder.path().join(format!("layer-{number}.tar"))).collect()
    }

    /// A folder of that name beside the tars, created if missing.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A folder below `parent` whose path is longer than 255 bytes.
    pub(super) fn deep_folder(parent: &TempDir) -> PathBuf {
        let folder = parent.path().join("x".repeat(150)).join("y".repeat(150));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

/// A plain directory with these attributes.
pub(super) fn directory(xattrs: XattrSetId) -> Inode {
    Inode { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime: (1_600_000_000, 123_456_700), xattrs }
}
