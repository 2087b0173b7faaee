//! Gives a program for Windows a manifest: it takes paths of more than 260 characters. `windows-host-check`
//! is built by this too, so that it takes the same paths as the command that it checks.

use embed_manifest::manifest::{Setting, SupportedOS};
use embed_manifest::{embed_manifest, empty_manifest};

fn main() {
    // Nothing it reads is in a file.
    println!("cargo:rerun-if-env-changed=CARGO_CFG_WINDOWS");
    if std::env::var_os("CARGO_CFG_WINDOWS").is_none() {
        return;
    }
    let manifest = empty_manifest()
        .name(env!("CARGO_PKG_NAME"))
        .long_path_aware(Setting::Enabled)
        .supported_os(SupportedOS::Windows10..=SupportedOS::Windows10);
    embed_manifest(manifest).expect("Cargo names a directory that can be written");
}
