//! The `windowsfilter` command line.
//!
//! Each command is a file in `commands`: its arguments and help on top, one function below. What they share:
//! `global` has the options of every command, `session` opens the store and finds what the user named,
//! `interrupt` lets Ctrl-C end what runs, `location` reads `X:PATH`, `limits` says how much may come in,
//! `output` prints tables or JSON, `stderr` notes and failures, `file` writes files, `error` turns failures
//! into messages, hints and exit codes. What scripts may rely on is in `docs/json.md` and pinned by
//! `tests/json.rs` and the texts in `tests/cmd`.

mod arguments;
mod background;
mod commands;
mod config_arguments;
mod engine;
mod error;
mod file;
mod global;
mod human;
mod interrupt;
mod limits;
mod location;
mod logging;
mod mistyped;
mod node;
mod output;
mod progress;
mod session;
mod stderr;
mod suggest;
mod usage;
mod values;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::Arguments;
use stderr::Stderr;

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
            if !error.use_stderr() {
                // Help, or the version. Printing fails only if the reader is gone.
                _ = error.print();
                return ExitCode::SUCCESS;
            }
            if usage::wants_json(std::env::args_os()) {
                Stderr::new(true, false).report(&usage::report(&error));
            } else {
                _ = error.print();
            }
            return ExitCode::from(error::USAGE);
        }
    };
    let Arguments { global, command } = arguments;
    logging::start(global.quiet, global.verbose, global.json && command.is_a_service());
    match commands::run(&global, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.report_to(Stderr::new(global.json, global.quiet));
            interrupt::die_if_received();
            code
        }
    }
}
