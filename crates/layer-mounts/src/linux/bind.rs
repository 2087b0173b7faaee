//! Bind mounts, which show a view or a sandbox at the directory that its user named.

use super::error::LinuxError;
use super::fs_context::attach;
use super::mount_table::Mount;
use super::sandbox_mount::OVERLAY_SOURCE;
use rustix::fd::AsFd;
use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;
use std::path::Path;

/// Mounts the directory `source`, without mounts below it, at the directory `target` as well. The second
/// mount keeps the file system alive on its own, so the first may be unmounted before it.
/// [`super::mount_table::unmount`] undoes this.
pub fn bind(source: &Path, target: &Path) -> Result<(), LinuxError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, source, flags).map_err(|error| match error {
        rustix::io::Errno::PERM => {
            LinuxError::NotPermitted { path: source.to_path_buf(), source: error.into() }
        }
        _ => LinuxError::system("open_tree", source)(error),
    })?;
    attach(tree.as_fd(), target)
}

/// Whether `mount` may come from [`bind`] on a view or sandbox.
#[must_use]
pub fn is_view(mount: &Mount) -> bool {
    match mount.file_system.as_str() {
        "overlay" => mount.source == Path::new(OVERLAY_SOURCE),
        file_system => file_system == "erofs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::mount_table;

    #[test]
    fn a_bound_directory_is_seen_at_both_places_until_unmounted() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        std::fs::create_dir(&source).unwrap();
        std::fs::create_dir(&target).unwrap();
        bind(&source, &target).unwrap();
        std::fs::write(target.join("x"), b"1").unwrap();
        assert_eq!(std::fs::read(source.join("x")).unwrap(), b"1");
        mount_table::unmount(&target).unwrap();
        assert!(!target.join("x").exists());
    }

    #[test]
    fn a_missing_source_or_target_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let error = bind(&missing, folder.path()).unwrap_err().to_string();
        assert!(error.contains("/missing: open_tree"), "{error}");
        let error = bind(folder.path(), &missing).unwrap_err().to_string();
        assert!(error.contains("/missing: move_mount"), "{error}");
    }
}
