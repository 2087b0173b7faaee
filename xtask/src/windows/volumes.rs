//! Names of volumes for the stand-in (`hcs-standin/src/volumes.rs`): what `\\?\Volume{GUID}\` is to Wine says
//! a link in its directory of devices.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use super::chroot::Chroot;
use programs::error::{IoContext, Result};
use programs::process::run;
use programs::workspace;

/// How many there are. The same in `hcs-standin`.
const VOLUMES: u32 = 1_000;
/// Wine's own directory in the other system.
const WINE: &str = "root/.wine";

/// This checkout's part of all GUIDs: others may use the same system at the same time.
fn part() -> String {
    let mut hasher = DefaultHasher::new();
    workspace::root().hash(&mut hasher);
    format!("{:08x}", hasher.finish() >> 32)
}

/// Where the volumes are, as programs under Wine know it.
pub(super) fn directory() -> String {
    format!(r"Z:\{}\volumes\{}", WINE.replace('/', r"\"), part())
}

/// Makes the names; nothing is on the volumes yet.
pub(super) fn prepare(chroot: &Chroot) -> Result<()> {
    let devices = chroot.dir().join(WINE).join("dosdevices");
    if !devices.is_dir() {
        // Wine makes its directory when it runs for the first time.
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

/// For completeness: no Windows has this system.
#[cfg(windows)]
fn link(target: &Path, name: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_dir(target, name)
}
