//! `cargo xtask grpc`: generates the code again.

use std::process::ExitCode;

use programs::error::chain;

fn main() -> ExitCode {
    let dir = grpc_code::kept();
    match grpc_code::generate(&dir) {
        Ok(()) => {
            println!("the code of containerd's services is in {}", dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
