//! Tools that the machine's Debian lacks or has only in an older version. They are in `target/tools` and
//! change nothing else on the machine.
//!
//! * A newer `fsck.erofs`. Debian 12's 1.5 supports only blocks of 4,096 bytes, Debian 13's 1.8.6 crashes
//!   on the checksum of images with smaller ones.
//! * Two containerds, to test the snapshotter with the oldest supported major version and the newest; a
//!   registry; containerd's own suite for snapshotters (`suite.rs`); and a Docker, whose BuildKit builds
//!   images with it.
//! * `cargo deny` and `cargo mutants`, built from source unless they are installed. An unoptimised build
//!   takes a minute each and is fast enough.

mod release;
mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;

use programs::error::{Error, Result};
use programs::process::{find, output, run};
use programs::workspace::{cargo, tools_dir};

use release::Release;
pub(crate) use release::debian_mirror;
pub(crate) use suite::snapshotter_suite;

/// containerd 1.7, whose transfer service is hardly usable; the registry; Go and the packages to build
/// containerd's suite.
const TRIXIE: Release = Release {
    suite: "trixie",
    purpose: "",
    packages: &[
        "containerd",
        "docker-registry",
        "golang-github-containerd-containerd-dev",
        "golang-github-containerd-continuity-dev",
        "golang-github-stretchr-testify-dev",
        "golang-go",
    ],
    programs: &["usr/bin/containerd", "usr/bin/ctr", "usr/bin/docker-registry", "usr/lib/go/bin/go"],
};

/// containerd 2 and a new enough erofs-utils.
const FORKY: Release = Release {
    suite: "forky",
    purpose: "",
    packages: &["containerd", "erofs-utils"],
    programs: &["usr/bin/containerd", "usr/bin/ctr", "usr/bin/fsck.erofs", "usr/bin/mkfs.erofs"],
};

/// A Docker with its BuildKit: Debian has no `buildkitd`. In a directory of its own, because it brings half
/// a system along.
const DOCKER: Release = Release {
    suite: "forky",
    purpose: "-docker",
    packages: &["docker.io", "docker-buildx"],
    programs: &["usr/sbin/dockerd", "usr/sbin/runc", "usr/libexec/docker/cli-plugins/docker-buildx"],
};

/// First version that checksums the superblock of images with 512-byte blocks without crashing.
const EROFS_WANTED: (u32, u32) = (1, 9);

/// A `fsck.erofs` that can check our indexes: the system's if it is new enough, otherwise one in
/// `target/tools`.
///
/// # Errors
/// [`Error::Missing`] if apt has no Debian source to derive the newer one from; failures of apt-get and
/// dpkg-deb.
pub(crate) fn fsck_erofs() -> Result<PathBuf> {
    if let Some(system) = find("fsck.erofs")
        && erofs_version(&system).is_some_and(|version| version >= EROFS_WANTED)
    {
        return Ok(system);
    }
    FORKY.ensure()?;
    let program = FORKY.program("fsck.erofs");
    match erofs_version(&program) {
        Some(version) if version >= EROFS_WANTED => Ok(program),
        version => Err(Error::Unexpected(format!(
            "{} says it is version {version:?}, wanted {EROFS_WANTED:?} or newer; remove {} to fetch it again",
            program.display(),
            FORKY.dir().display()
        ))),
    }
}

/// `fsck.erofs -V` prints `fsck.erofs (erofs-utils) 1.8.6`, older ones `fsck.erofs 1.5`.
fn erofs_version(program: &Path) -> Option<(u32, u32)> {
    parse_version(&output(Command::new(program).arg("-V")).ok()?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let word = text.lines().next()?.split_whitespace().next_back()?;
    let mut numbers = word.split(['.', '-', '+']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The programs for tests and benchmarks with a real containerd.
#[derive(Clone, Debug)]
pub(crate) struct Containerds {
    /// Directory with `containerd` and `ctr` 1.7.
    pub v1: PathBuf,
    /// Directory with `containerd`, `ctr` and `mkfs.erofs`; containerd is 2.1 or newer.
    pub v2: PathBuf,
    /// The program `docker-registry`.
    pub registry: PathBuf,
}

/// Both containerds and a registry, unpacked in `target/tools`.
///
/// # Errors
/// Like [`fsck_erofs`].
pub(crate) fn containerds() -> Result<Containerds> {
    TRIXIE.ensure()?;
    Ok(Containerds {
        v1: TRIXIE.programs_dir(),
        v2: containerd_2()?,
        registry: TRIXIE.program("docker-registry"),
    })
}

/// Directory with `containerd`, `ctr` and `mkfs.erofs`; containerd is 2.1 or newer.
///
/// # Errors
/// Like [`fsck_erofs`].
pub(crate) fn containerd_2() -> Result<PathBuf> {
    FORKY.ensure()?;
    Ok(FORKY.programs_dir())
}

/// Directory with `dockerd`, `docker-buildx`, and `runc`, which BuildKit needs to start.
///
/// # Errors
/// Like [`fsck_erofs`].
pub(crate) fn docker() -> Result<PathBuf> {
    DOCKER.ensure()?;
    Ok(DOCKER.programs_dir())
}

/// `cargo deny`: the installed one, otherwise one built into `target/tools`.
///
/// # Errors
/// Failures of `cargo install`.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    cargo_tool("cargo-deny")
}

/// `cargo mutants`: the installed one, otherwise one built into `target/tools`.
///
/// # Errors
/// Failures of `cargo install`.
pub(crate) fn cargo_mutants() -> Result<PathBuf> {
    cargo_tool("cargo-mutants")
}

fn cargo_tool(name: &str) -> Result<PathBuf> {
    if let Some(installed) = find(name) {
        return Ok(installed);
    }
    let program = tools_dir().join("bin").join(name);
    if !program.is_file() {
        let mut install = cargo();
        install.args(["install", name, "--locked", "--debug", "--root"]).arg(tools_dir());
        run(install.env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_old_and_new_erofs_utils_are_understood() {
        assert_eq!(parse_version("fsck.erofs (erofs-utils) 1.8.6\navailable: lz4\n"), Some((1, 8)));
        assert_eq!(parse_version("fsck.erofs 1.5\n"), Some((1, 5)));
        assert_eq!(parse_version("fsck.erofs 1.7.1-g1234\n"), Some((1, 7)));
        assert_eq!(parse_version("usage: fsck.erofs [options] IMAGE\n"), None);
    }
}
