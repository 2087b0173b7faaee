//! Volume names for the stand-in (`hcs-standin/src/volumes.rs`): for Wine, a link in its directory of
//! devices says what `\\?\Volume{GUID}\` is.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use super::chroot::Chroot;
use programs::error::{IoContext, Result};
use programs::process::run;
use programs::workspace;

/// Number of volumes. The same in `hcs-standin`.
const VOLUMES: u32 = 1_000;
/// Wine's own directory in the other system.
const WINE: &str = "root/.wine";

/// This checkout's part of all GUIDs: other checkouts may use the same system at the same time.
fn part() -> String {
    let mut hasher = DefaultHasher::new();
    workspace::root().hash(&mut hasher);
    format!("{:08x}", hasher.finish() >> 32)
}

/// The volumes' directory for programs under Wine.
pub(super) fn directory() -> String {
    format!(r"Z:\{}\volumes\{}", WINE.replace('/', r"\"), part())
}

/// Makes the names; the volumes are still empty.
pub(super) fn prepare(chroot: &Chroot) -> Result<()> {
    let devices = chroot.dir().join(WINE).join("dosdevices");
    if !devices.is_dir() {
        // Wine creates its directory on first use.
        run(chroot.command("wine").args(["cmd", "/c", "exit"]))?;
    }
    let part = part();
    let volumes = chroot.dir().join(WINE).join("volumes").join(&part);
    if volumes.exists() {
        fs::remove_dir_all(&volumes).at(&volumes)?;
    }
    fs::create_dir_all(&volumes).at(&volumes)?;
    let inside = Path::new("/").join(WINE).join("volumes").join(&part);
    for number in 0..VOLUMES {
        let name = devices.join(format!("volume{{{part}-0000-0000-0000-00000000{number:04}}}"));
        let target = inside.join(format!("{number:04}"));
        if !name.is_symlink() {
            link(&target, &name).at(&name)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(target: &Path, name: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, name)
}

/// Only for completeness: Windows does not run this system.
#[cfg(windows)]
fn link(target: &Path, name: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_dir(target, name)
}
