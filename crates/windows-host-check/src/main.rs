//! The program to copy to a Windows host, beside `windowsfilter.exe`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use programs::error::{IoContext as _, Result, chain};
use windows_host_check::{Args, ROWS, layers, process};

/// Show that the Windows engine works on this Windows: as administrator, with the Containers feature.
#[derive(Parser)]
#[command(
    name = "windows-host-check",
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    check: Option<Args>,
}

#[derive(Subcommand)]
enum Part {
    /// Do a part of the check that needs a process of its own.
    #[command(hide = true)]
    Process(process::Args),
    /// Print the names of the rows, in order.
    #[command(hide = true)]
    Rows,
    /// Write a base layer that the stand-in takes for one.
    #[command(hide = true)]
    Base {
        /// The tar to write.
        tar: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match (&cli.part, &cli.check) {
        (Some(Part::Process(args)), _) => process::run(args),
        (Some(Part::Base { tar }), _) => std::fs::write(tar, layers::base()?).at(tar),
        (None, Some(args)) => windows_host_check::run(args),
        (Some(Part::Rows), _) | (None, None) => {
            ROWS.iter().for_each(|row| println!("{}", row.name));
            Ok(())
        }
    }
}
