//! Gives the command for Windows a manifest: it takes paths of more than 260 characters.

use embed_manifest::manifest::{Setting, SupportedOS};
use embed_manifest::{embed_manifest, empty_manifest};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_WINDOWS").is_none() {
        return;
    }
    let manifest = empty_manifest()
        .name(env!("CARGO_PKG_NAME"))
        .long_path_aware(Setting::Enabled)
        .supported_os(SupportedOS::Windows10..=SupportedOS::Windows10);
    embed_manifest(manifest).expect("Cargo names a directory that can be written");
}
