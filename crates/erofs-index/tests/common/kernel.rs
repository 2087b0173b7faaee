//! The kernel's view: mounts an image, which needs root and Linux 6.12 or later, and reads everything back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use erofs_index::Namespace;
use rustix::fs::{lgetxattr, llistxattr};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::{Seen, View, What};

/// A private mount that ends when it is dropped.
pub struct Mount {
    root: OwnedFd,
}

impl Mount {
    pub fn new(image: &Path, devices: &[PathBuf]) -> Self {
        let context =
            fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC).expect("kernel knows EROFS, and the test is root");
        fsconfig_set_string(&context, "source", image).unwrap();
        for device in devices {
            fsconfig_set_string(&context, "device", device).unwrap();
        }
        if let Err(error) = fsconfig_create(&context) {
            panic!("the kernel refuses {}: {error}; see dmesg", image.display());
        }
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY;
        Self { root: fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        // The trailing dot makes it the directory itself for calls that do not follow links.
        format!("/proc/self/fd/{}/.", self.root.as_raw_fd()).into()
    }

    pub fn view(&self) -> View {
        let mut view = View::new();
        let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            let full = self.path().join(OsStr::from_bytes(&path));
            let metadata = fs::symlink_metadata(&full).unwrap();
            if metadata.is_dir() {
                for entry in fs::read_dir(&full).unwrap() {
                    let entry = entry.unwrap();
                    assert_eq!(
                        entry.file_type().unwrap(),
                        fs::symlink_metadata(entry.path()).unwrap().file_type()
                    );
                    todo.push(super::join(&path, entry.file_name().as_bytes()));
                }
            }
            inodes.entry(metadata.ino()).or_default().push(path.clone());
            let twice = view.insert(path, seen(&full, &metadata));
            assert_eq!(twice, None, "the kernel lists each name once");
        }
        for mut paths in inodes.into_values() {
            paths.sort();
            for path in &paths {
                view.get_mut(path).unwrap().same_as = paths[0].clone();
            }
        }
        view
    }
}

fn seen(path: &Path, metadata: &fs::Metadata) -> Seen {
    let file_type = metadata.file_type();
    let what = if file_type.is_dir() {
        What::Directory
    } else if file_type.is_symlink() {
        assert_eq!(metadata.len(), fs::read_link(path).unwrap().as_os_str().len() as u64);
        What::Symlink(fs::read_link(path).unwrap().into_os_string().into_vec())
    } else if file_type.is_char_device() {
        What::CharDevice(encode_rdev(metadata.rdev()))
    } else {
        assert!(file_type.is_file());
        let bytes = fs::read(path).unwrap();
        assert_eq!(metadata.len(), bytes.len() as u64);
        What::File(bytes)
    };
    Seen {
        what,
        mode: (metadata.permissions().mode() & 0o7777) as u16,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
        nlink: metadata.nlink() as u32,
        same_as: Vec::new(),
        xattrs: xattrs(path),
    }
}

/// Linux' `new_encode_dev`.
fn encode_rdev(rdev: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

pub fn xattrs(path: &Path) -> Vec<(Namespace, Vec<u8>, Vec<u8>)> {
    let mut list = vec![MaybeUninit::uninit(); 1 << 16];
    let (names, _) = llistxattr(path, &mut list).unwrap();
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![MaybeUninit::uninit(); 1 << 16];
        let (value, _) = lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
        let spaces = [Namespace::User, Namespace::Trusted, Namespace::Security];
        let space = spaces.into_iter().find(|space| name.starts_with(space.prefix().as_bytes())).unwrap();
        found.push((space, name[space.prefix().len()..].to_vec(), value.to_vec()));
    }
    found.sort();
    found
}
