//! Generates the services' code from `proto/`, without `protoc`.

use std::error::Error;

const FILES: [&str; 4] =
    ["services/snapshots.proto", "services/diff.proto", "services/content.proto", "services/leases.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
