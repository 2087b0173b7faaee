//! Generates the code of containerd's services from `crates/windowsfilter-containerd/proto`, without
//! `protoc`.
//!
//! The code is kept in the repository (`cargo xtask grpc` writes it), so that building the command does not
//! build the generator. The test here fails when code and protocols do not agree.

use std::io;
use std::path::{Path, PathBuf};

use programs::error::{Error, IoContext as _, Result, chain};
use programs::workspace;

/// Our server's services and those it calls; their imports are generated too.
const SERVICES: [&str; 4] =
    ["services/snapshots.proto", "services/diff.proto", "services/content.proto", "services/leases.proto"];

/// Where the code is kept.
#[must_use]
pub fn kept() -> PathBuf {
    workspace::root().join("crates/windowsfilter-containerd/src/api")
}

/// Writes the code into `dir`, a file for each package of the protocols.
///
/// # Errors
/// If a protocol is malformed, or `dir` cannot be written.
pub fn generate(dir: &Path) -> Result<()> {
    let protocols = workspace::root().join("crates/windowsfilter-containerd/proto");
    let descriptors = protox::compile(SERVICES, [&protocols])
        .map_err(|error| Error::Unexpected(format!("{}: {}", protocols.display(), chain(&error))))?;
    let generator = tonic_prost_build::configure().out_dir(dir).emit_rerun_if_changed(false);
    generator.compile_fds(descriptors).map_err(io::Error::other).at(dir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn files(dir: &Path) -> BTreeMap<String, String> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
    }

    #[test]
    fn the_code_that_is_kept_is_what_the_protocols_give() {
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path()).unwrap();
        let (fresh, kept) = (files(dir.path()), files(&kept()));
        assert!(!fresh.is_empty());
        assert!(fresh.keys().eq(kept.keys()), "{:?} and {:?}", fresh.keys(), kept.keys());
        for (name, text) in fresh {
            assert!(text == kept[&name], "{name} is not what its protocol gives: run cargo xtask grpc");
        }
    }
}
