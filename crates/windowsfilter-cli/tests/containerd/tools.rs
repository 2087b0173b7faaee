//! Where the programs are that these tests run. They are no part of the machine: `cargo xtask test` provides
//! them and says where by environment variables.

use std::path::PathBuf;

/// A containerd, by the major version that its users must tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.7: clients unpack.
    V1,
    /// 2.1 or newer: the daemon's transfer service unpacks.
    V2,
}

impl Version {
    /// The directory with `containerd` and `ctr`.
    pub fn programs(self) -> PathBuf {
        path(match self {
            Self::V1 => "WINDOWSFILTER_CONTAINERD_1",
            Self::V2 => "WINDOWSFILTER_CONTAINERD_2",
        })
        .unwrap()
    }
}

/// The program `docker-registry`.
pub fn registry() -> PathBuf {
    path("WINDOWSFILTER_REGISTRY").unwrap()
}

/// The directory with `dockerd` and `docker-buildx`.
pub fn docker() -> PathBuf {
    path("WINDOWSFILTER_DOCKER").unwrap()
}

/// containerd's suite for snapshotters.
pub fn snapshotter_suite() -> PathBuf {
    path("WINDOWSFILTER_SNAPSHOTTER_SUITE").unwrap()
}

fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// Whether these tests can run. In CI they must; elsewhere a run without root or tools says what it leaves
/// out.
pub fn available() -> bool {
    let all = ["CONTAINERD_1", "CONTAINERD_2", "REGISTRY", "SNAPSHOTTER_SUITE"];
    are_there(&all)
}

/// The same of those that build with Docker.
pub fn docker_available() -> bool {
    are_there(&["DOCKER"])
}

fn are_there(tools: &[&str]) -> bool {
    let missing = tools.iter().map(|name| format!("WINDOWSFILTER_{name}")).find(|name| path(name).is_none());
    let reason = match missing {
        Some(variable) => {
            format!("{variable} is not set: run `cargo xtask test`, which provides what it names")
        }
        None if !rustix::process::geteuid().is_root() => "containerd mounts: it needs root".to_owned(),
        None => return true,
    };
    let is_ci = std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
    assert!(!is_ci, "{reason}");
    eprintln!("left out: {reason}");
    false
}
