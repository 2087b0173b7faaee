//! Exports the functions that stand in for kernel32's under kernel32's names.
//!
//! Inside the library they need other names: the standard library, which is linked into it, calls the real
//! ones by theirs.

use std::path::Path;
use std::{env, fs};

/// Functions of kernel32.dll, and the stand-in for each.
const ALIASES: [(&str, &str); 11] = [
    ("BackupRead", "standin_backup_read"),
    ("BackupSeek", "standin_backup_seek"),
    ("BackupWrite", "standin_backup_write"),
    ("CreateFileW", "standin_create_file"),
    ("DeviceIoControl", "standin_device_io_control"),
    ("FlushFileBuffers", "standin_flush_file_buffers"),
    ("GetFileAttributesW", "standin_get_file_attributes"),
    ("GetFileInformationByHandleEx", "standin_get_file_information"),
    ("GetVolumeNameForVolumeMountPointW", "standin_get_volume_name"),
    ("MoveFileExW", "standin_move_file"),
    ("SetFileInformationByHandle", "standin_set_file_information"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_WINDOWS").is_err() {
        return;
    }
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let path = Path::new(&out).join("aliases.def");
    let lines = ALIASES.map(|(name, ours)| format!("    {name} = {ours}\n"));
    fs::write(&path, format!("EXPORTS\n{}", lines.concat())).expect("OUT_DIR can be written");
    println!("cargo::rustc-cdylib-link-arg={}", path.display());
}
