//! Small disks, to be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few megabytes. Dropping this unmounts it.
pub(crate) struct SmallDisk {
    at: PathBuf,
    _image: Option<tempfile::NamedTempFile>,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl SmallDisk {
    /// ext4 in a file, mounted at `at`.
    pub(crate) fn ext4(at: &Path, megabytes: u64) -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(megabytes << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image.path()));
        run(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(at));
        Self { at: at.to_owned(), _image: Some(image) }
    }

    /// btrfs, which never overwrites data in place.
    pub(crate) fn btrfs(at: &Path, megabytes: u64) -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(megabytes.max(128) << 20).unwrap();
        run(Command::new("mkfs.btrfs").args(["-q", "-f"]).arg(image.path()));
        run(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(at));
        Self { at: at.to_owned(), _image: Some(image) }
    }

    /// tmpfs, mounted at `at`.
    pub(crate) fn tmpfs(at: &Path, megabytes: u64) -> Self {
        let size = format!("size={megabytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at));
        Self { at: at.to_owned(), _image: None }
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        for size in [1 << 20, 4 << 10, 1] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
        // Delayed writes allocate their space now.
        rustix::fs::syncfs(&filler).unwrap();
        while filler.write_all(&[1; 4 << 10]).is_ok() {}
    }

    /// Frees the space.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
        rustix::fs::syncfs(File::open(&self.at).unwrap()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process with an open file keeps it until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
