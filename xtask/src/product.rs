//! The product and its helpers, built by cargo, whose progress the reader sees.
//!
//! All tasks but `bench` build by the profile that the tests are built by, so that a machine builds each
//! crate once. `bench` measures what users get: the release.

use std::path::PathBuf;
use std::process::Command;

use programs::error::Result;
use programs::process::run_unannounced;
use programs::workspace;

/// A profile in `Cargo.toml`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    /// That of the tests.
    Dev,
    /// That of users.
    Release,
}

impl Profile {
    /// Builds the binaries of these packages.
    ///
    /// # Errors
    /// When they do not build.
    pub(crate) fn build(self, packages: &[&str]) -> Result<()> {
        let mut build = workspace::cargo();
        build.args(["build", "--locked", "--bins"]);
        if let Self::Release = self {
            build.arg("--release");
        }
        build.args(packages.iter().flat_map(|package| ["--package", package]));
        run_unannounced(&mut build)
    }

    /// Where a built program is.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        let dir = match self {
            Self::Dev => "debug",
            Self::Release => "release",
        };
        workspace::target_dir().join(dir).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Builds the packages, of which the first has a program of its name, and gives that program.
    ///
    /// # Errors
    /// When they do not build.
    pub(crate) fn command(self, packages: &[&str]) -> Result<Command> {
        self.build(packages)?;
        Ok(Command::new(self.program(packages.first().copied().unwrap_or_default())))
    }
}

/// The packages of the command and of what makes images for it.
pub(crate) const COMMAND: &str = "windowsfilter-cli";
/// The package that makes images and stores.
pub(crate) const SAMPLES: &str = "sample-images";
/// The package that tries the command.
pub(crate) const TESTBED: &str = "testbed";
/// The package that generates the code of containerd's services.
pub(crate) const GRPC_CODE: &str = "grpc-code";
/// The package that checks a Windows host.
pub(crate) const HOST_CHECK: &str = "windows-host-check";
