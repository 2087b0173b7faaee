//! containerd's own suite for snapshotters, as a program that tests a server at work.
//!
//! The suite is a Go package of containerd; the few lines that point it at our server are in
//! `crates/windowsfilter-cli/tests/containerd/suite`. Toolchain and packages are Debian 13's, so nothing else
//! is downloaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::TRIXIE;
use programs::error::{IoContext, Result};
use programs::process::run;
use programs::workspace::{root, tools_dir};

/// Builds the suite if the program does not match its source, and returns the program.
///
/// # Errors
/// If Go and the packages cannot be installed, or it does not compile.
pub(crate) fn snapshotter_suite() -> Result<PathBuf> {
    let tree = TRIXIE.ensure()?;
    let dir = tools_dir().join("snapshotter-suite");
    // GOPATH, without modules: the package is `suite`.
    let (package, program) = (dir.join("src/suite"), dir.join("suite"));
    fs::create_dir_all(&package).at(&package)?;
    let changed = copy_sources(&root().join("crates/windowsfilter-cli/tests/containerd/suite"), &package)?;
    if !changed && program.is_file() && is_newer(&program, &tree) {
        return Ok(program);
    }
    let partial = dir.join("suite.partial");
    // A failed build must not count as done the next time.
    if program.exists() {
        fs::remove_file(&program).at(&program)?;
    }
    run(go(&tree, &dir).args(["test", "-c", "-o"]).arg(&partial).arg(".").current_dir(&package))?;
    fs::rename(&partial, &program).at(&program)?;
    Ok(program)
}

/// Copies the package's source from the repository. Returns whether anything differed.
fn copy_sources(from: &Path, to: &Path) -> Result<bool> {
    let mut changed = false;
    for source in fs::read_dir(from).at(from)? {
        let source = source.at(from)?;
        let (text, copy) = (fs::read(source.path()).at(source.path())?, to.join(source.file_name()));
        if fs::read(&copy).ok().as_ref() != Some(&text) {
            fs::write(&copy, &text).at(&copy)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// The unpacked Go, set up to find the unpacked packages and to write only into `dir`.
fn go(tree: &Path, dir: &Path) -> Command {
    let mut go = Command::new(TRIXIE.program("go"));
    go.env("GOROOT", tree.join("usr/lib/go"));
    go.env("GOPATH", format!("{}:{}", dir.display(), tree.join("usr/share/gocode").display()));
    go.env("GOCACHE", dir.join("cache"))
        .env("GOENV", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOTELEMETRY", "off");
    go.env("GO111MODULE", "off").env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    go
}

/// Whether `program` was built after `tree` was unpacked.
fn is_newer(program: &Path, tree: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    modified(program) > modified(tree)
}
