//! The Debian system of the cross build: made once by debootstrap, entered for each command.
//!
//! A command sees this repository and cargo's own directory at their outside paths. Mounts and processes
//! are in the command's own namespaces, so nothing stays mounted or running, however it ends.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::volumes;
use crate::packages::APT_OPTIONS;
use crate::tools::debian_mirror;
use programs::error::{IoContext, Result};
use programs::process::{output, run};
use programs::workspace;

/// First Debian release with a compiler (`rustc-web`, kept new for browsers) that builds this workspace.
const SUITE: &str = "trixie";
/// The compiler, the packages it needs to build a standard library and to link for Windows, and Wine to run
/// the result.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "cargo-web",
    "gcc-mingw-w64-x86-64-win32",
    "libc6-dev",
    "rust-web-clippy",
    "rust-web-src",
    "rustc-web",
    "wine",
    "wine64",
];
/// Unneeded files. For dpkg, `*` matches slashes too.
const LEFT_OUT: &[&str] = &["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"];
/// A file in the complete system: a hash of its ingredients.
const STAMP: &str = "etc/windowsfilter-cross";

/// The system.
pub(super) struct Chroot {
    dir: PathBuf,
}

impl Chroot {
    /// The system's directory on this machine.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The system; makes it if it is missing or has other ingredients.
    pub(super) fn ensure() -> Result<Self> {
        let dir = workspace::tools_dir().join("windows");
        let wanted = stamp();
        let chroot = Self { dir };
        if fs::read_to_string(chroot.dir.join(STAMP)).is_ok_and(|found| found == wanted) {
            return Ok(chroot);
        }
        let partial = Self { dir: chroot.dir.with_extension("partial") };
        for old in [&partial.dir, &chroot.dir] {
            if old.exists() {
                fs::remove_dir_all(old).at(old)?;
            }
        }
        partial.bootstrap()?;
        partial.install()?;
        let stamp = partial.dir.join(STAMP);
        fs::write(&stamp, wanted).at(&stamp)?;
        fs::rename(&partial.dir, &chroot.dir).at(&chroot.dir)?;
        Ok(chroot)
    }

    fn bootstrap(&self) -> Result<()> {
        let parent = workspace::tools_dir();
        fs::create_dir_all(&parent).at(&parent)?;
        run(Command::new("debootstrap")
            .args(["--variant=minbase", SUITE])
            .arg(&self.dir)
            .arg(debian_mirror()?))
    }

    /// Installs [`PACKAGES`] through the machine's own mirror settings.
    fn install(&self) -> Result<()> {
        let settings = self.dir.join("etc/apt/apt.conf.d/90host");
        fs::write(&settings, apt_settings()?).at(&settings)?;
        let exclusions = self.dir.join("etc/dpkg/dpkg.cfg.d/windowsfilter");
        // The system needs no durability: after a crash it is made again.
        let lines = LEFT_OUT.iter().map(|path| format!("path-exclude={path}\n"));
        fs::write(&exclusions, format!("force-unsafe-io\n{}", lines.collect::<String>())).at(&exclusions)?;
        run(self.apt().arg("update"))?;
        run(self.apt().args(["install", "-y", "--no-install-recommends"]).args(PACKAGES))?;
        run(self.apt().arg("clean"))
    }

    fn apt(&self) -> Command {
        let mut command = self.command("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(APT_OPTIONS);
        command
    }

    /// A command in the system, in this repository's directory, with only the network settings of this
    /// process' environment.
    pub(super) fn command(&self, program: &str) -> Command {
        let (root, home) = (workspace::root(), cargo_home());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-c", ENTER, "enter"]);
        command.arg(&self.dir).arg(&root).arg(&home).arg(program);
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_network_setting(&name.to_string_lossy())));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8").env("HOME", "/root");
        command.env("TERM", "dumb").env("CARGO_TERM_COLOR", "never").env("RUST_BACKTRACE", "1");
        command.env("CARGO_HOME", &home);
        command.env("HCS_STANDIN_VOLUMES", volumes::directory());
        // Silences Wine's own messages and its offers to install a browser and .NET.
        command.env("WINEDEBUG", "-all").env("WINEDLLOVERRIDES", "mscoree,mshtml=");
        command
    }
}

/// Mounts everything that the system needs and changes into it. Its arguments: the system, the repository,
/// cargo's home, the command.
///
/// The namespace's first process becomes the command: when it ends, so do its remaining processes (Wine's
/// server).
///
/// The namespace starts with copies of all mounts of the machine. The script unmounts them once the system
/// is the root: a copy would keep busy a disk that a concurrent test unmounts. Only copies are unmounted,
/// because the namespace is private.
const ENTER: &str = r#"
set -e
system=$1 repository=$2 cargo=$3
shift 3
mount --bind "$system" "$system"
for dir in "$repository" "$cargo"; do
    mkdir -p "$dir" "$system$dir"
    mount --bind "$dir" "$system$dir"
done
# Cargo would run the programs in there before those of this system.
if [ -d "$system$cargo/bin" ]; then mount -t tmpfs tmpfs "$system$cargo/bin"; fi
mount -t proc proc "$system/proc"
mount --bind /dev "$system/dev"
if [ -d "$system/dev/shm" ]; then mount -t tmpfs tmpfs "$system/dev/shm"; fi
if [ -d "$system/dev/pts" ]; then mount -t devpts devpts "$system/dev/pts"; fi
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ] && [ -d "$system${file%/*}" ]; then cp -L "$file" "$system$file"; fi
done
cd "$system"
pivot_root . mnt
exec chroot . sh -c 'umount -l /mnt && cd "$1" && shift && exec "$@"' enter "$repository" "$@"
"#;

/// Changes with the system's ingredients.
fn stamp() -> String {
    let mut hasher = DefaultHasher::new();
    (SUITE, PACKAGES, LEFT_OUT).hash(&mut hasher);
    format!("{SUITE} {:016x}\n", hasher.finish())
}

/// cargo's directory for settings and downloads.
fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Whether an environment variable is a network setting.
fn is_network_setting(name: &str) -> bool {
    let prefixes = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
    name.to_ascii_lowercase().ends_with("_proxy") || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The machine's own proxies and certificates, if apt has any.
fn apt_settings() -> Result<String> {
    let settings = output(Command::new("apt-config").arg("dump"))?;
    let network = |line: &&str| line.starts_with("Acquire::http") || line.starts_with("Acquire::https");
    Ok(settings.lines().filter(network).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ways_to_the_network_go_into_the_other_system() {
        assert!(is_network_setting("https_proxy") && is_network_setting("NO_PROXY"));
        assert!(is_network_setting("CARGO_REGISTRIES_CRATES_IO_PROTOCOL"));
        assert!(!is_network_setting("CARGO_MANIFEST_DIR") && !is_network_setting("RUSTFLAGS"));
    }

    #[test]
    fn every_package_is_listed_once_and_in_order() {
        assert!(PACKAGES.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
