//! File systems for tortured stores: made in memory, mounted, and removed afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use programs::error::{IoContext, Result};
use programs::mounts::unmount_below;
use programs::process::output;

/// Kinds of file system under a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Linux' usual one.
    Ext4,
    /// The usual one of enterprise distributions.
    Xfs,
    /// Copy on write.
    Btrfs,
    /// Memory.
    Tmpfs,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Tmpfs];

    /// Its name for `mount -t`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// A mounted file system. Dropping it unmounts and deletes it.
#[derive(Debug)]
pub struct Area {
    kind: Kind,
    dir: tempfile::TempDir,
}

impl Area {
    /// Makes and mounts a file system of `size` bytes.
    ///
    /// # Errors
    /// If it cannot be made or mounted.
    pub fn new(kind: Kind, size: u64) -> Result<Self> {
        let area = Self { kind, dir: scratch()? };
        fs::create_dir(area.path()).at(area.path())?;
        if kind != Kind::Tmpfs {
            let image = area.image();
            File::create(&image).and_then(|file| file.set_len(size)).at(&image)?;
            let mut make = Command::new(format!("mkfs.{}", kind.name()));
            make.args(if kind == Kind::Ext4 {
                &["-q", "-F", "-m", "0", "-E", "nodiscard"][..]
            } else {
                &["-q", "-f"]
            });
            output(make.arg(&image))?;
        }
        area.mount(size)?;
        Ok(area)
    }

    /// Mounts a copy of an ext4 image, which lacks the writes in flight, as after a power cut.
    ///
    /// # Errors
    /// If it cannot be copied or mounted.
    pub fn of_copy(image: &Path) -> Result<Self> {
        let area = Self { kind: Kind::Ext4, dir: scratch()? };
        fs::create_dir(area.path()).at(area.path())?;
        copy(image, &area.image())?;
        area.mount(0)?;
        Ok(area)
    }

    fn mount(&self, size: u64) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-t", self.kind.name()]);
        match self.kind {
            Kind::Tmpfs => mount.arg("-o").arg(format!("size={size}")).arg("tmpfs"),
            // Delays writes for ten minutes unless a sync asks for them.
            Kind::Ext4 => mount.args(["-o", "loop,commit=600"]).arg(self.image()),
            Kind::Xfs | Kind::Btrfs => mount.args(["-o", "loop"]).arg(self.image()),
        };
        output(mount.arg(self.path())).map(drop)
    }

    /// Remounts it read-write or read-only.
    ///
    /// # Errors
    /// If that fails.
    pub fn remount(&self, writable: bool) -> Result<()> {
        let option = if writable { "remount,rw" } else { "remount,ro" };
        output(Command::new("mount").args(["-o", option]).arg(self.path())).map(drop)
    }

    /// Its mount point.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("fs")
    }

    /// A path outside of it that is removed with it.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file that contains it.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        unmount_below(self.dir.path());
    }
}

/// A directory in memory where the machine has one.
///
/// # Errors
/// If it cannot be made.
pub fn scratch() -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("windowsfilter-torture-");
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        builder.tempdir_in(memory).at(memory)
    } else {
        builder.tempdir().at("temporary directory")
    }
}

/// Copies a file or directory tree, including holes.
///
/// # Errors
/// If it cannot be copied.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    output(Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to)).map(drop)
}
