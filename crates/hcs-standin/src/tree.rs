//! Walks, copies and removes directory trees, with the records of their files' metadata.

use std::fs;
use std::io;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};

use crate::metadata::{self, ATTRIBUTE_REPARSE_POINT, Identity};

/// An entry below a directory.
pub(crate) struct Entry {
    /// Relative to the start of the walk.
    pub(crate) path: PathBuf,
    pub(crate) is_directory: bool,
}

/// Everything below `root`, sorted, directories before their entries.
pub(crate) fn walk(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    walk_below(root, Path::new(""), &mut entries)?;
    Ok(entries)
}

fn walk_below(root: &Path, below: &Path, entries: &mut Vec<Entry>) -> io::Result<()> {
    let mut found = fs::read_dir(root.join(below))?.collect::<io::Result<Vec<_>>>()?;
    found.sort_by_key(fs::DirEntry::file_name);
    for entry in found {
        let path = below.join(entry.file_name());
        let is_directory = entry.file_type()?.is_dir();
        entries.push(Entry { path: path.clone(), is_directory });
        if is_directory {
            walk_below(root, &path, entries)?;
        }
    }
    Ok(())
}

/// Whether a directory on the way from `root` to `path` is a reparse point, which has no entries.
pub(crate) fn is_link_above(root: &Path, path: &Path) -> io::Result<bool> {
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if metadata::of_path(&root.join(above))?.0.attributes & ATTRIBUTE_REPARSE_POINT != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies one file or directory without its entries, and its record.
pub(crate) fn copy_entry(from: &Path, to: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        match fs::create_dir(to) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    } else {
        fs::write(to, fs::read(from)?)?;
    }
    copy_metadata(from, to)
}

/// Copies the record of `from` to `to`.
pub(crate) fn copy_metadata(from: &Path, to: &Path) -> io::Result<()> {
    let (info, streams) = metadata::of_path(from)?;
    metadata::set_at(to, info, streams)
}

/// Copies a tree, including the times of directories.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let entries = walk(from)?;
    copy_entry(from, to, true)?;
    for entry in &entries {
        copy_entry(&from.join(&entry.path), &to.join(&entry.path), entry.is_directory)?;
    }
    for entry in entries.iter().rev().filter(|entry| entry.is_directory) {
        copy_metadata(&from.join(&entry.path), &to.join(&entry.path))?;
    }
    copy_metadata(from, to)
}

/// Removes the file or directory at `path`, and its record.
pub(crate) fn remove(path: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            remove(&entry.path(), entry.file_type()?.is_dir())?;
        }
    }
    let file = metadata::open(path, false)?;
    // SAFETY: the file is open.
    unsafe { Identity::of(file.as_raw_handle())? }.forget()?;
    drop(file);
    if is_directory {
        return fs::remove_dir(path);
    }
    fs::remove_file(path).or_else(|_| {
        let mut permissions = fs::metadata(path)?.permissions();
        #[expect(clippy::permissions_set_readonly_false, reason = "it is removed, and this is Windows")]
        permissions.set_readonly(false);
        fs::set_permissions(path, permissions)?;
        fs::remove_file(path)
    })
}
