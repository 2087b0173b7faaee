//! The state directory and the files that tests write there: the calls that fail, and the compute systems.

use std::ffi::c_void;
use std::fs;
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;

use serde::Deserialize;
use windows_sys::Win32::Foundation::HMODULE;
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, GetModuleFileNameW,
    GetModuleHandleExW,
};

/// `control.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Control {
    pub(crate) fail: Vec<Failure>,
    pub(crate) systems: Vec<serde_json::Value>,
    pub(crate) base_images: Option<String>,
    pub(crate) partition_length: Option<u64>,
    pub(crate) mount_path: Option<String>,
}

/// A call that fails.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    pub(crate) call: String,
    /// The number of the call of the function, from 1; `None` for all calls.
    pub(crate) nth: Option<u64>,
    /// `0x…`.
    pub(crate) code: String,
}

/// The state directory.
pub(crate) fn dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| std::env::var_os("HCS_STANDIN_DIR").map_or_else(library_dir, PathBuf::from))
}

/// The settings of the test. An unreadable file is the test's mistake and must not look like success.
pub(crate) fn control() -> Control {
    let path = dir().join("control.json");
    match fs::read(&path) {
        Ok(text) => {
            serde_json::from_slice(&text).unwrap_or_else(|e| fatal(&format!("{}: {e}", path.display())))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Control::default(),
        Err(e) => fatal(&format!("{}: {e}", path.display())),
    }
}

/// Ends the process: the test's setup is wrong, and no result code says so.
pub(crate) fn fatal(message: &str) -> ! {
    eprintln!("hcs-standin: {message}");
    std::process::abort();
}

/// `0x…` as a number.
pub(crate) fn parse_code(text: &str) -> u32 {
    let digits =
        text.strip_prefix("0x").unwrap_or_else(|| fatal(&format!("code {text:?} does not start with 0x")));
    u32::from_str_radix(digits, 16).unwrap_or_else(|e| fatal(&format!("code {text:?}: {e}")))
}

/// The directory that this library was loaded from.
fn library_dir() -> PathBuf {
    let mut module: HMODULE = ptr::null_mut();
    let flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    let here: fn() -> PathBuf = library_dir;
    let mut buffer = vec![0u16; 32_768];
    // SAFETY: the address is in this library, whose reference count does not change.
    let found = unsafe { GetModuleHandleExW(flags, (here as *const c_void).cast(), &raw mut module) };
    // SAFETY: the buffer has the given length.
    let length = unsafe { GetModuleFileNameW(module, buffer.as_mut_ptr(), buffer.len() as u32) };
    if found == 0 || length == 0 {
        fatal("it cannot find out where it was loaded from; set HCS_STANDIN_DIR");
    }
    // SAFETY: the name ends in zero.
    let file = PathBuf::from(unsafe { crate::text::read(buffer.as_ptr()) });
    file.parent().map(PathBuf::from).unwrap_or_default()
}
