//! The `windowsfilter` command line.
//!
//! Each command is a file in `commands`: its arguments and help on top, one function below. What they share:
//! `session` opens the store and finds what the user named, `interrupt` lets Ctrl-C end what runs, `location`
//! reads `X:PATH`, `limits` says how much may come in, `output` prints tables or JSON, `file` writes files,
//! `error` turns failures into messages, hints and exit codes. What scripts may rely on is pinned by the
//! tests in `tests/cmd`.

mod arguments;
mod commands;
mod engine;
mod error;
mod file;
mod human;
mod interrupt;
mod limits;
mod location;
mod logging;
mod mistyped;
mod output;
mod progress;
mod session;
mod suggest;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::Arguments;

/// The command line's definition, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line of this process. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused
/// because in use, 5 data does not verify. After SIGINT, SIGTERM or SIGHUP it does not return: the process
/// dies of it.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(mut error) => {
            mistyped::explain(&mut error, &command());
            // Printing help fails only where nobody reads it.
            _ = error.print();
            return ExitCode::from(if error.use_stderr() { error::USAGE } else { 0 });
        }
    };
    let Arguments { global, command } = &arguments;
    logging::start(global.quiet, global.verbose, global.json && command.is_a_service());
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error::report(&error);
            interrupt::die_if_received();
            code
        }
    }
}
