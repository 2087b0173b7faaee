//! `cargo xtask windows`: builds everything for Windows and tests it under Wine.
//!
//! Rust for `x86_64-pc-windows-gnu` comes from Debian alone: a compiler, the standard library's sources,
//! mingw-w64's linker and Wine, in a Debian of their own (`chroot.rs`), so that the machine's are left
//! alone. The standard library is built with everything else. Nothing is built or downloaded twice:
//! everything is kept in `target`.

mod chroot;
mod command;
mod host_check;
mod volumes;

use std::path::{Path, PathBuf};
use std::time::Instant;

use chroot::Chroot;

use programs::error::{Error, IoContext, Result};
use programs::process::{is_root, run as run_command};
use programs::workspace;

use crate::packages;

/// Build everything for Windows, and test it under Wine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out the optimised build: check the command that was built for the tests.
    #[arg(long)]
    quick: bool,
    /// Run this in the cross build's system instead, as in `cargo xtask windows -- cargo test -p wclayer`.
    #[arg(last = true)]
    command: Vec<String>,
}

/// The target's name.
const TARGET: &str = "x86_64-pc-windows-gnu";
/// The profile of the tests, see the workspace's `Cargo.toml`.
const PROFILE: &str = "cross";

/// Builds, lints and tests for Windows.
///
/// # Errors
/// If anything does not build, has a warning, or fails; if this process is not root, which entering the
/// other system requires.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !is_root() {
        return Err(Error::Missing(
            "the cross build enters a Debian system of its own: run it as root".into(),
        ));
    }
    packages::ensure()?;
    let start = Instant::now();
    let chroot = Chroot::ensure()?;
    volumes::prepare(&chroot)?;
    if let [program, arguments @ ..] = &args.command[..] {
        return if program == "cargo" {
            run_command(&mut cargo(&chroot, arguments))
        } else {
            run_command(chroot.command(program).args(arguments))
        };
    }
    said("the system", start);
    lint(&chroot)?;
    test(&chroot)?;
    host_check::check(&chroot)?;
    command::check(&chroot, &command_to_check(&chroot, args.quick)?)?;
    said("all of it", start);
    Ok(())
}

/// The released command, or the one that the tests have built.
fn command_to_check(chroot: &Chroot, quick: bool) -> Result<PathBuf> {
    if quick {
        return Ok(built(PROFILE, "windowsfilter.exe"));
    }
    let start = Instant::now();
    run_command(&mut cargo(chroot, &["build", "--locked", "--release", "-p", "windowsfilter-cli"]))?;
    said("the release", start);
    Ok(built("release", "windowsfilter.exe"))
}

/// The path of a build's file.
fn built(profile: &str, name: &str) -> PathBuf {
    target_dir().join(TARGET).join(profile).join(name)
}

fn said(what: &str, since: Instant) {
    println!("{what} took {:.0} s", since.elapsed().as_secs_f64());
}

/// The target directory of the cross build. Not `CARGO_TARGET_DIR`, which may be out of the other system's
/// sight.
fn target_dir() -> PathBuf {
    workspace::root().join("target/windows")
}

/// All crates except those for Linux.
const ALL: [&str; 10] = [
    "--locked",
    "--profile",
    PROFILE,
    "--workspace",
    "--exclude",
    "windowsfilter-containerd",
    "--exclude",
    "testbed",
    "--exclude",
    "grpc-code",
];

fn lint(chroot: &Chroot) -> Result<()> {
    let start = Instant::now();
    run_command(cargo(chroot, &["clippy"]).args(ALL).args(["--all-targets", "--", "-D", "warnings"]))?;
    said("clippy", start);
    Ok(())
}

/// All tests except those of the tasks, which need Linux.
fn test(chroot: &Chroot) -> Result<()> {
    let start = Instant::now();
    let tests =
        ["--exclude", "xtask", "--exclude", "programs", "--lib", "--bins", "--tests", "--no-fail-fast"];
    run_command(cargo(chroot, &["test"]).args(ALL).args(tests))?;
    said("the tests", start);
    Ok(())
}

/// The other system's cargo, building for Windows with the standard library.
fn cargo<S: AsRef<str>>(chroot: &Chroot, arguments: &[S]) -> std::process::Command {
    let mut command = chroot.command("cargo");
    // Lets Debian's stable compiler build the standard library, an unstable feature.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_DIR", target_dir());
    command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", "x86_64-w64-mingw32-gcc");
    command.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", "wine");
    let mut arguments = arguments.iter().map(AsRef::as_ref);
    command.args(arguments.next());
    command.args(["--target", TARGET, "-Z", "build-std=std,panic_unwind,test"]);
    command.args(arguments);
    command
}

/// A path of this machine for programs under Wine.
fn wine_path(path: &Path) -> String {
    format!("Z:{}", path.to_string_lossy().replace('/', r"\"))
}

/// An empty directory for one part's own files.
fn empty_area(name: &str) -> Result<PathBuf> {
    let area = target_dir().join(name);
    if area.exists() {
        std::fs::remove_dir_all(&area).at(&area)?;
    }
    std::fs::create_dir_all(&area).at(&area)?;
    Ok(area)
}
