//! `cargo xtask`: see `cargo xtask --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
#[cfg(unix)]
use xtask::bench;
use xtask::error::{Result, chain};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use xtask::torture;
use xtask::{
    demo, deny, fuzz, man, mutants, packages, readme, sample_docker_store, sample_image, test, windows,
    windows_host_check,
};

/// Set-up, demo, tests and benchmarks of this repository.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the Debian packages and tools that the other tasks use.
    Packages,
    /// Run all tests, with everything they need installed first.
    Test(test::Args),
    /// Build everything for Windows, and test it under Wine.
    Windows(windows::Args),
    /// Show that the Windows engine works on this Windows.
    WindowsHostCheck(windows_host_check::Args),
    /// Do a part of windows-host-check that needs a process of its own.
    #[command(hide = true)]
    WindowsHostCheckProcess(windows_host_check::process::Args),
    /// Check licences, bans, sources and, where they can be had, advisories of all dependencies.
    Deny,
    /// Show the whole tool at work on an image made for the purpose.
    Demo(demo::Args),
    /// Measure against other tools and write the results to target/bench.
    #[cfg(unix)]
    Bench(bench::Args),
    /// Run the fuzz targets for a while each.
    Fuzz(fuzz::Args),
    /// Change the code one place at a time, and show which changes no test notices.
    Mutants(mutants::Args),
    /// Kill, starve and race the tool, and see that the store survives.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Torture(torture::Args),
    /// Run the README's quick start and put in what its commands print.
    Readme(readme::Args),
    /// Write a manual page for the tool and each of its commands.
    Man(man::Args),
    /// Write a realistic Windows image made from a seed.
    SampleImage(sample_image::Args),
    /// Write a small data root as Docker on Windows has it.
    SampleDockerStore(sample_docker_store::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Packages => {
            packages::ensure()?;
            for (variable, program) in test::tools()? {
                println!("{variable}={}", program.display());
            }
            Ok(())
        }
        Task::Test(args) => test::run(&args),
        Task::Windows(args) => windows::run(&args),
        Task::WindowsHostCheck(args) => windows_host_check::run(&args),
        Task::WindowsHostCheckProcess(args) => windows_host_check::process::run(&args),
        Task::Deny => deny::run_checks(),
        Task::Demo(args) => demo::run(&args),
        #[cfg(unix)]
        Task::Bench(args) => bench::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Mutants(args) => mutants::run(&args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Task::Torture(args) => torture::run(&args),
        Task::Readme(args) => readme::run(&args),
        Task::Man(args) => man::run(&args),
        Task::SampleImage(args) => sample_image::run(&args),
        Task::SampleDockerStore(args) => sample_docker_store::run(&args),
    }
}
