//! The `windowsfilter` command: everything is in the library, so that `xtask` can write its manual pages.

fn main() -> std::process::ExitCode {
    windowsfilter_cli::run()
}
