//! The `windowsfilter` command: everything is in the library, so that `examples/man.rs` can write its manual
//! pages.

fn main() -> std::process::ExitCode {
    windowsfilter_cli::run()
}
