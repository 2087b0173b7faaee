//! The Debian packages that tests, demo and benchmarks use; installs missing ones.
//!
//! A fresh machine needs no preparation: every task that needs a program calls [`ensure`] first. Without
//! root nothing is installed, and the error has the command to run. [`crate::tools`] has tools that Debian
//! has only in a newer release or not at all.

use std::process::Command;

use programs::error::{Error, Result};
use programs::process::{find, is_root, output, run};

/// A package and its purpose.
struct Package {
    name: &'static str,
    why: &'static str,
}

const fn package(name: &'static str, why: &'static str) -> Package {
    Package { name, why }
}

/// Everything the repository's tasks use, in Debian's names.
const PACKAGES: &[Package] = &[
    package("attr", "setfattr and getfattr: extended attributes of a mounted view"),
    package("btrfs-progs", "mkfs.btrfs: stores on btrfs"),
    package("debootstrap", "the Debian system that cargo xtask windows builds in"),
    package("e2fsprogs", "mkfs.ext4 and resize2fs: sandboxes"),
    package("erofs-utils", "fsck.erofs: a second opinion on every index"),
    package("gcc-mingw-w64-x86-64-win32-runtime", "real Windows DLLs"),
    package("isal", "igzip: the fastest inflate to compare with"),
    package("libarchive-tools", "bsdtar: a peer in the benchmarks, a reader in the tests"),
    package("libz-mingw-w64", "a real Windows DLL"),
    package("mount", "mount and losetup"),
    package("nsis-common", "real Windows programs, 32 and 64 bits"),
    package("openssl", "SHA-256 as fast as the machine can"),
    package("samba", "smbd: sandboxes that are shared over SMB"),
    package("samba-vfs-modules", "streams_xattr: alternate streams over SMB"),
    package("skopeo", "reads and copies the images we write"),
    package("smbclient", "a client of smbd"),
    package("strace", "shows which system calls a command makes"),
    package("time", "peak memory of a command"),
    package("umoci", "a peer in the benchmarks"),
    package(
        "util-linux",
        "fincore: page cache a command leaves behind; unshare: another system's own mounts",
    ),
    package("xfsprogs", "mkfs.xfs: stores on XFS"),
    package("zstd", "compressed images in tests"),
];

/// Installs missing packages.
///
/// # Errors
/// [`Error::Missing`] with the command to run if this process may not install or this is not Debian;
/// [`Error::Failed`] if apt-get fails twice.
pub(crate) fn ensure() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("missing package {}: {}", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !is_root() {
        return Err(Error::Missing(format!(
            "packages are missing and only root may install them; run:\n  \
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
            names.join(" ")
        )));
    }
    install(&names)
}

fn missing() -> Result<Vec<&'static Package>> {
    if find("dpkg-query").is_none() {
        return Err(Error::Missing(format!(
            "this is no Debian system, so these packages or their like must be installed by hand: {}",
            PACKAGES.iter().map(|package| package.name).collect::<Vec<_>>().join(" ")
        )));
    }
    Ok(PACKAGES.iter().filter(|package| !is_installed(package.name)).collect())
}

fn is_installed(name: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", name]))
        .is_ok_and(|status| status == "installed")
}

/// Installs; updates package lists only if the present ones fail.
fn install(names: &[&str]) -> Result<()> {
    let first = run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(names));
    let Err(error) = first else { return Ok(()) };
    println!("{error}; trying once more with fresh package lists");
    // It also fails if only an unneeded source is unreachable: the second install decides.
    if let Err(error) = run(apt_get().arg("update")) {
        println!("{error}");
    }
    run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(names))
}

/// Little output, and patience with another apt-get and with a mirror.
pub(crate) const APT_OPTIONS: [&str; 7] =
    ["-qq", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=2"];

/// apt-get without questions, which waits for another apt-get instead of failing.
pub(crate) fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    command.args(APT_OPTIONS);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_listed_once_and_in_order() {
        assert!(PACKAGES.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn a_package_nobody_has_is_not_installed() {
        assert!(!is_installed("no-such-package-in-any-debian"));
    }
}
