//! Builds the product and its helpers with cargo, whose progress the reader sees.
//!
//! All tasks except `bench` use the tests' profile, so that a machine builds each crate once. `bench`
//! measures the release build.

use std::path::PathBuf;
use std::process::Command;

use programs::error::Result;
use programs::process::run_unannounced;
use programs::workspace;

/// A profile in `Cargo.toml`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    /// The tests' profile.
    Dev,
    /// The users' profile.
    Release,
}

impl Profile {
    /// Builds these programs.
    ///
    /// Always names all packages with programs: dependencies' features follow from the named packages, so
    /// this lets all tasks share the builds.
    ///
    /// # Errors
    /// If they do not build.
    pub(crate) fn build(self, programs: &[&str]) -> Result<()> {
        let mut build = workspace::cargo();
        build.args(["build", "--locked"]).args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        if let Self::Release = self {
            build.arg("--release");
        }
        run_unannounced(build.args(programs.iter().flat_map(|program| ["--bin", program])))
    }

    /// The path of a built program.
    pub(crate) fn program(self, name: &str) -> PathBuf {
        let dir = match self {
            Self::Dev => "debug",
            Self::Release => "release",
        };
        workspace::target_dir().join(dir).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Builds the programs and returns the first.
    ///
    /// # Errors
    /// If they do not build.
    pub(crate) fn command(self, programs: &[&str]) -> Result<Command> {
        self.build(programs)?;
        Ok(Command::new(self.program(programs.first().copied().unwrap_or_default())))
    }
}

/// The package of the command.
pub(crate) const COMMAND_PACKAGE: &str = "windowsfilter-cli";
/// The command.
pub(crate) const COMMAND: &str = "windowsfilter";
/// Makes images and stores; program and package.
pub(crate) const SAMPLES: &str = "sample-images";
/// Tests the command; program and package.
pub(crate) const TESTBED: &str = "testbed";
/// Checks a Windows host; program and package.
pub(crate) const HOST_CHECK: &str = "windows-host-check";
/// The packages of these programs.
const PACKAGES: [&str; 4] = [COMMAND_PACKAGE, SAMPLES, TESTBED, HOST_CHECK];
