//! `cargo xtask`: see `cargo xtask --help`. One file per task; tasks that are programs of other crates are
//! in `helpers.rs`.

mod demo;
mod deny;
mod fuzz;
mod helpers;
mod man;
mod mutants;
mod packages;
mod product;
mod readme;
mod test;
mod tools;
mod windows;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use programs::error::{Result, chain};

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
    WindowsHostCheck(helpers::Args),
    /// Check licences, bans, sources and, where they can be had, advisories of all dependencies.
    Deny,
    /// Show the whole tool at work on an image made for the purpose.
    Demo(demo::Args),
    /// Measure against other tools and write the results to target/bench.
    Bench(helpers::Args),
    /// Run the fuzz targets for a while each.
    Fuzz(fuzz::Args),
    /// Change the code one place at a time, and show which changes no test notices.
    Mutants(mutants::Args),
    /// Kill, starve and race the tool, and see that the store survives.
    Torture(helpers::Args),
    /// Run the README's quick start and put in what its commands print.
    Readme(readme::Args),
    /// Write a manual page for the tool and each of its commands.
    Man(man::Args),
    /// Generate the code of containerd's services, which is kept in the repository.
    Grpc,
    /// Write a realistic Windows image made from a seed.
    SampleImage(helpers::Args),
    /// Write a small data root as Docker on Windows has it.
    SampleDockerStore(helpers::Args),
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
        Task::WindowsHostCheck(args) => helpers::windows_host_check(&args),
        Task::Deny => deny::run_checks(),
        Task::Demo(args) => demo::run(&args),
        Task::Bench(args) => helpers::bench(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Mutants(args) => mutants::run(&args),
        Task::Torture(args) => helpers::torture(&args),
        Task::Readme(args) => readme::run(&args),
        Task::Man(args) => man::run(&args),
        Task::Grpc => helpers::grpc(),
        Task::SampleImage(args) => helpers::sample_image(&args),
        Task::SampleDockerStore(args) => helpers::sample_docker_store(&args),
    }
}
